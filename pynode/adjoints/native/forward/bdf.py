"""Steps of QNDF, FBDF and ABDF2 with the derivatives of the history: the staggered direct method of
Caracotsios & Stewart, Comput. Chem. Eng. 9 (1985)."""

from __future__ import annotations

from typing import Any

from ....backends.native.arithmetic import add, clear, copy
from ....backends.native.bdf_history import (
    GRID,
    NUMBERS,
    RATIO,
    TAKEN,
    TAPE,
    TERMS,
    VALUES,
    VALUES_FORM,
    BDFTables,
    write_output_weights,
    write_reading,
)
from ....backends.native.machine import row
from ....backends.native.mass import INVERSE, MASS
from ....backends.native.newton import C
from ....methods.bdf.formulas import redifference
from ..sweep import factorise_at
from .columns import solve_block, write_mass
from .loop import (
    NOW,
    Sizes,
    add_jacobian,
    add_targets,
    has_inside,
    write_slope,
)

# Blocks: of the prediction; of the end of the step minus the prediction; one that the solution of a
# system overwrites; of the history; and of a copy of it.
START = 1
MOVE = 2
SPARE = 3
HISTORY = 4


def sizes(tables: BDFTables) -> Sizes:
    rows = tables.reading.shape[2]
    return Sizes(blocks=HISTORY + 2 * rows, numbers=NUMBERS, width=1, sparse=True)


def begin(run: Any, tables: BDFTables, memory: Any) -> None:
    """The first history: y0 and its slope."""
    second = row(memory.blocks, HISTORY + 1)
    for i in range(tables.reading.shape[2]):
        clear(row(memory.blocks, HISTORY + i))
    copy(row(memory.blocks, NOW), row(memory.blocks, HISTORY))
    write_slope(run, memory, memory.starts[0], row(memory.states, 0), NOW, START)
    write_mass(memory, INVERSE, START, SPARE)
    weight = run.h0
    if tables.flags[VALUES_FORM]:
        copy(row(memory.blocks, NOW), second)
        weight = -weight
    add(second, weight, row(memory.blocks, START))


def push_step(run: Any, tables: BDFTables, memory: Any, k: int) -> None:
    numbers = memory.numbers
    for i in range(TAPE):
        numbers[i] = memory.tape_numbers[k, i]
    order = int(numbers[TAKEN])
    c = numbers[C]
    if numbers[RATIO] != 0.0:
        push_grid(tables, memory, order)
    y1 = memory.last
    if k + 1 < len(memory.starts):
        y1 = row(memory.states, k + 1)
    t1 = memory.starts[k] + memory.sizes[k]
    factorise_at(run, memory, t1, y1, c)
    write_reading(tables, numbers, order)
    start = row(memory.blocks, START)
    move = row(memory.blocks, MOVE)
    clear(start)
    clear(move)
    for j in range(order + 1):
        add(start, numbers[VALUES + j], row(memory.blocks, HISTORY + j))
        add(move, -numbers[TERMS + j], row(memory.blocks, HISTORY + j))
    write_mass(memory, MASS, MOVE, SPARE)
    add_jacobian(memory, c, START, MOVE)
    add_targets(run, memory, t1, y1, c, MOVE)
    solve_block(memory, MOVE, SPARE)
    run.nsolve += 1
    advance(tables, memory, order)
    while has_inside(run, memory, k):
        write_output_weights(tables, numbers, memory.thetas[run.output])
        target = row(memory.outputs, run.output)
        clear(target)
        for j in range(order + 1):
            add(target, numbers[VALUES + j], row(memory.blocks, HISTORY + j))
        run.output += 1
    copy(row(memory.blocks, HISTORY), row(memory.blocks, NOW))


def push_grid(tables: BDFTables, memory: Any, k: int) -> None:
    """The history moves to the grid of the step."""
    numbers = memory.numbers
    redifference(numbers[GRID:], k, numbers[RATIO])
    old = keep(tables, memory)
    for i in range(tables.reading.shape[2]):
        target = row(memory.blocks, HISTORY + i)
        clear(target)
        if i <= k:
            for j in range(k + 1):
                add(target, numbers[GRID + (k + 1) * i + j], row(memory.blocks, old + j))


def advance(tables: BDFTables, memory: Any, k: int) -> None:
    """The history after the step."""
    old = keep(tables, memory)
    rows = tables.reading.shape[2]
    if tables.flags[VALUES_FORM]:
        end = row(memory.blocks, HISTORY)
        copy(row(memory.blocks, START), end)
        add(end, 1.0, row(memory.blocks, MOVE))
        for i in range(1, rows):
            copy(row(memory.blocks, old + i - 1), row(memory.blocks, HISTORY + i))
        return
    for i in range(rows):
        target = row(memory.blocks, HISTORY + i)
        clear(target)
        add(target, tables.moving[k, i, rows], row(memory.blocks, MOVE))
        for j in range(rows):
            add(target, tables.moving[k, i, j], row(memory.blocks, old + j))


def keep(tables: BDFTables, memory: Any) -> int:
    """Copy the history. Returns the first block of the copy."""
    rows = tables.reading.shape[2]
    old = HISTORY + rows
    for i in range(rows):
        copy(row(memory.blocks, HISTORY + i), row(memory.blocks, old + i))
    return old
