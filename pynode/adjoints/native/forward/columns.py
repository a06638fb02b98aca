"""Systems of equations with many right-hand sides, which are the columns of a block.

They take the factors that linear.py and matrices.py write.
"""

from __future__ import annotations

from typing import Any

from ....backends.native.arithmetic import add, clear, copy
from ....backends.native.linear import SPARSE
from ....backends.native.machine import row
from ....backends.native.mass import PROJECTOR, has_mass, is_singular
from ....backends.native.sparse import COMPONENT, DIAGONAL, FACTOR


def solve_block(memory: Any, b: int, spare: int) -> None:
    """Block b = (M - c J)^-1 times block b. spare: a block that may be overwritten."""
    n = len(memory.point)
    if is_singular(memory):
        clear(row(memory.blocks, spare))
        add_mass(memory, PROJECTOR, memory.lift[0] - 1.0, b, spare)
        add(row(memory.blocks, b), 1.0, row(memory.blocks, spare))
    matrix = memory.matrix
    pivots = memory.pivots
    first = b * n
    sparse = memory.pivots[0] == SPARSE
    if sparse:
        matrix = memory.corner
        pivots = memory.corner_pivots
        first = spare * n + n - len(matrix)
        eliminate_lower(memory, b, spare)
    solve_rows(matrix, pivots, memory.lines, first)
    if sparse:
        eliminate_upper(memory, b, spare)


def add_mass(memory: Any, operator: int, weight: float, source: int, target: int) -> None:
    """Block target += weight A times block source. operator: which A (mass.py)."""
    n = len(memory.point)
    for i in range(n):
        at = operator * n + i
        for e in range(memory.mass_starts[at], memory.mass_starts[at + 1]):
            add(
                row(memory.lines, target * n + i),
                weight * memory.mass_values[e],
                row(memory.lines, source * n + memory.mass_columns[e]),
            )


def write_mass(memory: Any, operator: int, b: int, spare: int) -> None:
    """Block b = A times block b, if there is a mass matrix. spare: a block that may be
    overwritten."""
    if not has_mass(memory):
        return
    copy(row(memory.blocks, b), row(memory.blocks, spare))
    clear(row(memory.blocks, b))
    add_mass(memory, operator, 1.0, spare, b)


def eliminate_lower(memory: Any, b: int, spare: int) -> None:
    """Block spare = L^-1 times block b in the order of the pivots, as linear.solve_system."""
    rows = memory.plan_rows
    n = len(memory.point)
    for i in range(n):
        target = row(memory.lines, spare * n + i)
        copy(row(memory.lines, b * n + rows[i, COMPONENT]), target)
        for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
            other = row(memory.lines, spare * n + memory.plan_columns[p])
            add(target, -memory.factors[p], other)


def eliminate_upper(memory: Any, b: int, spare: int) -> None:
    """Block b = U^-1 times block spare, where the corner is solved, in the order of the state."""
    rows = memory.plan_rows
    n = len(memory.point)
    inner = n - len(memory.corner)
    for i in range(n - 1, -1, -1):
        target = row(memory.lines, spare * n + i)
        if i < inner:
            diagonal = rows[i, DIAGONAL]
            for p in range(diagonal + 1, rows[i + 1, FACTOR]):
                other = row(memory.lines, spare * n + memory.plan_columns[p])
                add(target, -memory.factors[p], other)
            scale(target, memory.factors[diagonal])
        copy(target, row(memory.lines, b * n + rows[i, COMPONENT]))


def solve_rows(matrix: Any, pivots: Any, lines: Any, first: int) -> None:
    """X = A^-1 X from the dense factors of A, (m, m), where X is m of the lines from ``first``
    on."""
    m = len(matrix)
    for k in range(m):
        if pivots[k] != k:
            exchange(row(lines, first + k), row(lines, first + pivots[k]))
    for i in range(1, m):
        target = row(lines, first + i)
        for j in range(i):
            add(target, -matrix[i, j], row(lines, first + j))
    for i in range(m - 1, -1, -1):
        target = row(lines, first + i)
        for j in range(i + 1, m):
            add(target, -matrix[i, j], row(lines, first + j))
        scale(target, 1.0 / matrix[i, i])


def exchange(a: Any, b: Any) -> None:
    """Exchange the numbers of two vectors."""
    for k in range(len(a)):
        kept = a[k]
        a[k] = b[k]
        b[k] = kept


def scale(target: Any, factor: float) -> None:
    """target *= factor."""
    for k in range(len(target)):
        target[k] *= factor
