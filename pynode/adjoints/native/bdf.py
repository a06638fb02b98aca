"""Steps of QNDF, FBDF and ABDF2 backwards, by the formulas of adjoints/discrete/bdf.py.

memory.bars is the cotangent of the history. memory.ybar only collects outputs, until ``finish``
writes the cotangent of y0 into it.
"""

from __future__ import annotations

from typing import Any

from ...backends.native.arithmetic import add, clear, copy
from ...backends.native.bdf_history import (
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
from ...backends.native.linear import solve_system_transposed
from ...backends.native.machine import row
from ...backends.native.mass import INVERSE, MASS, has_mass, write_transposed
from ...backends.native.newton import C
from ...methods.bdf.formulas import redifference
from .sweep import Sizes, end_outputs, factorise_at, has_output, pull, pull_targets

# Positions in Memory.vectors: the cotangent of the end of the step minus its prediction, and the
# solution of the transposed system. From OLD on: a copy of the cotangent of the history.
MOVE = 0
LAMBDA = 1
OLD = 2


def sizes(tables: BDFTables) -> Sizes:
    rows = tables.reading.shape[2]
    return Sizes(
        bars=rows, vectors=OLD + rows, numbers=NUMBERS, implicit=True, sparse=True, kept=True
    )


def pull_step(run: Any, tables: BDFTables, memory: Any, k: int) -> None:
    numbers = memory.numbers
    for i in range(TAPE):
        numbers[i] = memory.tape_numbers[k, i]
    order = int(numbers[TAKEN])
    c = numbers[C]
    outputs(run, tables, memory, k)
    move = row(memory.vectors, MOVE)
    write_move(tables, memory, order, move)
    y1 = memory.last
    if k + 1 < len(memory.starts):
        y1 = row(memory.states, k + 1)
    t1 = memory.starts[k] + memory.sizes[k]
    factorise_at(run, memory, t1, y1, c)
    lam = row(memory.vectors, LAMBDA)
    copy(move, lam)
    solve_system_transposed(memory, lam)
    run.nsolve += 1
    pull_history(tables, memory, order)
    if numbers[RATIO] != 0.0:
        pull_grid(memory, order)
    for i in range(len(lam)):
        lam[i] *= c
    pull_targets(run, memory, t1, y1, lam)


def outputs(run: Any, tables: BDFTables, memory: Any, k: int) -> None:
    """Add the cotangents of the outputs of step k to that of the history after it."""
    clear(memory.ybar)
    end_outputs(run, memory, k)
    add(row(memory.bars, 0), 1.0, memory.ybar)
    numbers = memory.numbers
    while has_output(run, memory, k):
        run.output -= 1
        write_output_weights(tables, numbers, memory.thetas[run.output])
        for j in range(int(numbers[TAKEN]) + 1):
            add(row(memory.bars, j), numbers[VALUES + j], row(memory.cotangents, run.output))


def write_move(tables: BDFTables, memory: Any, k: int, move: Any) -> None:
    """The cotangent of the end of the step minus its prediction."""
    if tables.flags[VALUES_FORM]:
        copy(row(memory.bars, 0), move)
        return
    rows = memory.bars.shape[0]
    clear(move)
    for i in range(rows):
        add(move, tables.moving[k, i, rows], row(memory.bars, i))


def pull_history(tables: BDFTables, memory: Any, k: int) -> None:
    """Through the step to the history before it, on the grid of the step."""
    numbers = memory.numbers
    write_reading(tables, numbers, k)
    move = row(memory.vectors, MOVE)
    mass_lam = row(memory.vectors, LAMBDA)
    if has_mass(memory):
        write_transposed(memory, MASS, mass_lam)
        mass_lam = memory.mass_product
    keep(memory)
    rows = memory.bars.shape[0]
    for j in range(rows):
        bar = row(memory.bars, j)
        clear(bar)
        if tables.flags[VALUES_FORM]:
            if j + 1 < rows:
                copy(row(memory.vectors, OLD + j + 1), bar)
        else:
            for i in range(rows):
                add(bar, tables.moving[k, i, j], row(memory.vectors, OLD + i))
        if j <= k:
            value = numbers[VALUES + j]
            add(bar, value - numbers[TERMS + j], mass_lam)
            if not tables.flags[VALUES_FORM]:
                add(bar, -value, move)


def pull_grid(memory: Any, k: int) -> None:
    """Through the move of the history to the grid of the step."""
    numbers = memory.numbers
    redifference(numbers[GRID:], k, numbers[RATIO])
    keep(memory)
    for j in range(memory.bars.shape[0]):
        bar = row(memory.bars, j)
        clear(bar)
        if j <= k:
            for i in range(k + 1):
                add(bar, numbers[GRID + (k + 1) * i + j], row(memory.vectors, OLD + i))


def keep(memory: Any) -> None:
    """Copy the cotangent of the history."""
    for i in range(memory.bars.shape[0]):
        copy(row(memory.bars, i), row(memory.vectors, OLD + i))


def finish(run: Any, tables: BDFTables, memory: Any) -> None:
    """Through the first history, which consists of y0 and its slope."""
    first = row(memory.bars, 0)
    second = row(memory.bars, 1)
    copy(first, memory.start)
    weight = run.h0
    if tables.flags[VALUES_FORM]:
        add(memory.start, 1.0, second)
        weight = -weight
    if len(memory.starts) > 0:
        for i in range(len(second)):
            second[i] *= weight
        if has_mass(memory):
            write_transposed(memory, INVERSE, second)
            copy(memory.mass_product, second)
        pull(run, memory, memory.starts[0], row(memory.states, 0), second)
    copy(memory.start, memory.ybar)
