"""The stages of a Radau IIA step in compiled code: their matrices, and a correction of Newton's
iteration for all of them, as methods/radau.py: Transformed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...algebra.newton import UNKNOWN
from ...methods.radau import LARGEST
from . import newton
from .arithmetic import add, clear, copy
from .machine import flat, row
from .mass import (
    MASS,
    PROJECTOR,
    has_mass,
    is_singular,
    lift_rows,
    write_matrix,
    write_product,
)
from .matrices import factorise, fill, solve
from .newton import FACTORISED, FRESH, HAS_JACOBIAN, INCREMENT, RATE, REGULAR, C
from .steps import evaluate, linearise

# Positions in Memory.marks: whether the slope at the start is known, whether there is a last step,
# and whether the attempt follows a failed one, or is the first.
KNOWN = newton.MARKS
HAS_LAST = KNOWN + 1
CAREFUL = KNOWN + 2
# Positions in Memory.numbers: size and scaled error of the last accepted step, and the rate after
# the attempt.
LAST_STEP = newton.NUMBERS
LAST_ERROR = LAST_STEP + 1
NEXT_RATE = LAST_STEP + 2
# Positions in Memory.vectors, in units of s rows: slopes of the stages, transformed residuals, and
# Y_i - y of the last step. Then the slope at the start, and the known part of the error.
SLOPES = newton.VECTORS
TRANSFORMED = SLOPES + 1
LAST = SLOPES + 2
FIRST = SLOPES + 3


class RadauTables(NamedTuple):
    """The numbers of a collocation method of s stages (methods/collocation.py).

    a, transform, inverse, powers: (s, s). nodes, e, ending: (s,). reciprocals: (pairs, 2), real and
    imaginary part of 1 / mu of each complex pair. gamma0: (1,). ends: (1,), whether the last stage
    is the end of the step.
    """

    a: np.ndarray
    transform: np.ndarray
    inverse: np.ndarray
    powers: np.ndarray
    nodes: np.ndarray
    e: np.ndarray
    ending: np.ndarray
    reciprocals: np.ndarray
    gamma0: np.ndarray
    ends: np.ndarray


def prepare(run: Any, tables: RadauTables, memory: Any) -> bool:
    """Make the Jacobian at the start of the step and the factors, as far as they are missing.
    Returns whether the matrices are regular."""
    marks = memory.marks
    if not marks[HAS_JACOBIAN]:
        linearise(run, memory, run.t, memory.y)
        marks[HAS_JACOBIAN] = 1
        marks[FRESH] = 1
        marks[FACTORISED] = 0
    if not marks[FACTORISED]:
        h = memory.numbers[C]
        c = h * tables.gamma0[0]
        if has_mass(memory):
            write_matrix(memory, memory.matrix, c)
        else:
            fill(memory.matrix, c, memory.jac, memory.rows, memory.columns)
        marks[REGULAR] = factorise(memory.matrix, memory.pivots)
        run.nlu += 1
        for k in range(len(tables.reciprocals)):
            block = row(memory.blocks, k)
            real = h * tables.reciprocals[k, 0]
            imaginary = h * tables.reciprocals[k, 1]
            if has_mass(memory):
                write_pair(memory, block, real, imaginary)
            else:
                fill_pair(block, real, imaginary, memory)
            marks[REGULAR] &= factorise(block, row(memory.block_pivots, k))
            run.nlu += 1
        marks[FACTORISED] = 1
        memory.numbers[RATE] = UNKNOWN
    return marks[REGULAR] != 0


def fill_pair(block: Any, real: float, imaginary: float, memory: Any) -> None:
    """block = I - c J for the complex c, (2 n, 2 n), for real and imaginary parts."""
    n = len(memory.y)
    for i in range(2 * n):
        clear(row(block, i))
        block[i, i] = 1.0
    for k in range(len(memory.rows)):
        i = memory.rows[k]
        j = memory.columns[k]
        block[i, j] -= real * memory.jac[k]
        block[n + i, n + j] -= real * memory.jac[k]
        block[i, n + j] += imaginary * memory.jac[k]
        block[n + i, j] -= imaginary * memory.jac[k]


def write_pair(memory: Any, block: Any, real: float, imaginary: float) -> None:
    """block = M - c J for the complex c, with the lift of memory.matrix (mass.write_matrix)."""
    n = len(memory.y)
    for i in range(2 * n):
        clear(row(block, i))
    for k in range(len(memory.rows)):
        i = memory.rows[k]
        j = memory.columns[k]
        value = memory.jac[k]
        add_entry(block, n, i, j, -real * value, -imaginary * value)
        if is_singular(memory):
            at = PROJECTOR * n + i
            for e in range(memory.mass_starts[at], memory.mass_starts[at + 1]):
                more = (memory.lift[0] - 1.0) * memory.mass_values[e] * value
                over = memory.mass_columns[e]
                add_entry(block, n, over, j, -real * more, -imaginary * more)
    for i in range(n):
        for e in range(memory.mass_starts[i], memory.mass_starts[i + 1]):
            add_entry(block, n, i, memory.mass_columns[e], memory.mass_values[e], 0.0)


def add_entry(block: Any, n: int, i: int, j: int, real: float, imaginary: float) -> None:
    """Add a complex number at row i and column j of a matrix, (n, n), to its block."""
    block[i, j] += real
    block[n + i, n + j] += real
    block[i, n + j] -= imaginary
    block[n + i, j] += imaginary


def guess(run: Any, tables: RadauTables, memory: Any) -> None:
    """The start of Newton's iteration: the polynomial of the last step (Radau._guess)."""
    count = len(tables.nodes)
    last = LAST * count
    increments = INCREMENT * count
    h = run.h
    before = memory.numbers[LAST_STEP]
    # A step grows by more only after a step that a stop cut.
    known = memory.marks[HAS_LAST] and abs(h) <= 2 * LARGEST * abs(before)
    for i in range(count):
        state = row(memory.stages, i)
        increment = row(memory.vectors, increments + i)
        clear(increment)
        if known:
            for j in range(count):
                weight = output_weight(tables, j, 1 + tables.nodes[i] * h / before)
                add(increment, weight - tables.ending[j], row(memory.vectors, last + j))
        copy(memory.y, state)
        add(state, 1.0, increment)


def output_weight(tables: RadauTables, j: int, theta: float) -> float:
    """The weight of Y_j - y in the collocation polynomial at theta."""
    weight = 0.0
    for m in range(len(tables.nodes) - 1, -1, -1):
        weight = (weight + tables.powers[m, j]) * theta
    return weight


def correct(
    run: Any, tables: Any, memory: Any, t: float, y: Any, increment: Any, change: Any
) -> None:
    """change = the correction of the iterate y = memory.stages, (s n,)."""
    count = len(tables.nodes)
    slopes = SLOPES * count
    transformed = TRANSFORMED * count
    for i in range(count):
        time = t + tables.nodes[i] * run.h
        evaluate(run, memory, time, row(memory.stages, i), row(memory.vectors, slopes + i))
    residuals = newton.CHANGE * count
    copy(increment, change)
    if has_mass(memory):
        for i in range(count):
            residual = row(memory.vectors, residuals + i)
            write_product(memory, MASS, row(memory.vectors, INCREMENT * count + i))
            copy(memory.mass_product, residual)
    for i in range(count):
        for j in range(count):
            residual = row(memory.vectors, residuals + i)
            add(residual, -run.h * tables.a[i, j], row(memory.vectors, slopes + j))
    multiply(tables.inverse, memory.vectors, residuals, transformed, 1.0)
    if is_singular(memory):
        for i in range(count):
            lift_rows(memory, row(memory.vectors, transformed + i))
    odd = count % 2
    if odd:
        solve(memory.matrix, memory.pivots, row(memory.vectors, transformed), 1.0)
    for k in range(len(tables.reciprocals)):
        pair = flat(memory.vectors, transformed + odd + 2 * k, 2)
        solve(row(memory.blocks, k), row(memory.block_pivots, k), pair, 1.0)
    multiply(tables.transform, memory.vectors, transformed, residuals, -1.0)


def multiply(matrix: Any, vectors: Any, source: int, target: int, factor: float) -> None:
    """Rows of vectors from target on = factor times the matrix times the rows from source on."""
    for i in range(len(matrix)):
        result = row(vectors, target + i)
        clear(result)
        for j in range(len(matrix)):
            add(result, factor * matrix[i, j], row(vectors, source + j))
