"""Steps of diagonally implicit Runge-Kutta methods backwards, by the formulas of
adjoints/discrete/esdirk.py.

memory.bars has the rows of the forward memory.stages; only those of the slopes are in use.
"""

from __future__ import annotations

from typing import Any

from ...backends.native.arithmetic import copy
from ...backends.native.esdirk import EXPLICIT_FIRST, STAGES, ESDIRKTables
from ...backends.native.linear import solve_system_transposed
from ...backends.native.machine import row
from ...backends.native.mass import INVERSE, MASS, has_mass, write_transposed
from .sweep import Sizes, end_outputs, factorise_at, inside_outputs, pull, pull_targets

INCOMING = 0  # position in Memory.vectors: the cotangent of a slope from elsewhere


def sizes(tables: ESDIRKTables) -> Sizes:
    bars = 2 * len(tables.nodes) + 1
    return Sizes(bars=bars, vectors=1, implicit=True, sparse=True, kept=True)


def pull_step(run: Any, tables: ESDIRKTables, memory: Any, k: int) -> None:
    h = memory.sizes[k]
    count = tables.flags[STAGES]
    end_outputs(run, memory, k)
    copy(memory.ybar, memory.start)
    for j in range(memory.bars.shape[0]):
        weight = h * tables.a[count, j]
        for m in range(len(memory.ybar)):
            memory.bars[j, m] = weight * memory.ybar[m]
    inside_outputs(run, memory, k, h, tables.dense)
    for i in range(count - 1, -1, -1):
        t = memory.starts[k] + tables.nodes[i] * h
        if i == 0 and tables.flags[EXPLICIT_FIRST]:
            cotangent = row(memory.bars, count + 1)
            if has_mass(memory):
                write_transposed(memory, INVERSE, cotangent)
                cotangent = memory.mass_product
            pull(run, memory, t, row(memory.states, k), cotangent)
        else:
            pull_stage(run, tables, memory, k, i, t)
    copy(memory.start, memory.ybar)


def pull_stage(run: Any, tables: ESDIRKTables, memory: Any, k: int, i: int, t: float) -> None:
    """Through the equation of an implicit stage, at the time t."""
    h = memory.sizes[k]
    c = tables.gamma[0] * h
    bar = row(memory.bars, tables.flags[STAGES] + 1 + i)
    incoming = row(memory.vectors, INCOMING)
    y = row(row(memory.stages, k), i)
    factorise_at(run, memory, t, y, c)
    copy(bar, incoming)
    solve_system_transposed(memory, bar)
    run.nsolve += 1
    pull_targets(run, memory, t, y, bar)
    mass_bar = bar
    if has_mass(memory):
        write_transposed(memory, MASS, bar)
        mass_bar = memory.mass_product
    for m in range(len(bar)):
        # c J^T bar without the product, because a large J gives large rounding errors.
        back = (mass_bar[m] - incoming[m]) / c
        memory.start[m] += back
        incoming[m] = back
    for j in range(memory.bars.shape[0]):
        weight = h * tables.a[i, j]
        if weight != 0.0:
            for m in range(len(bar)):
                memory.bars[j, m] += weight * incoming[m]


def finish(run: Any, tables: ESDIRKTables, memory: Any) -> None:
    """Nothing is left."""
