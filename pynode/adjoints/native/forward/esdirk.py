"""Steps of diagonally implicit Runge-Kutta methods with the derivatives of their stages.

Stage i solves M Y = M base + c f(t_i, Y), and its slope is (Y - base) / c. The implicit function
theorem gives the derivative of Y: (M - c J) dY = M dbase + c df/dp.
"""

from __future__ import annotations

from typing import Any

from ....backends.native.arithmetic import add, copy
from ....backends.native.esdirk import EXPLICIT_FIRST, STAGES, ESDIRKTables
from ....backends.native.machine import row
from ....backends.native.mass import INVERSE, MASS
from ..sweep import factorise_at
from .columns import scale, solve_block, write_mass
from .loop import NOW, Sizes, add_targets, write_inside, write_slope

# Blocks: of the known part of a stage; one that the solution of a system overwrites; of the slopes
# of the stages.
BASE = 1
SPARE = 2
SLOPES = 3


def sizes(tables: ESDIRKTables) -> Sizes:
    return Sizes(blocks=SLOPES + len(tables.nodes), width=1, sparse=True)


def begin(run: Any, tables: ESDIRKTables, memory: Any) -> None:
    """The state suffices."""


def push_step(run: Any, tables: ESDIRKTables, memory: Any, k: int) -> None:
    h = memory.sizes[k]
    count = tables.flags[STAGES]
    for i in range(count):
        t = memory.starts[k] + tables.nodes[i] * h
        if i == 0 and tables.flags[EXPLICIT_FIRST]:
            write_slope(run, memory, t, row(memory.states, k), NOW, SLOPES)
            write_mass(memory, INVERSE, SLOPES, SPARE)
        else:
            push_stage(run, tables, memory, k, i, t)
    # The tables have columns for the states of the stages and the slope at the start before those
    # of the slopes.
    write_inside(run, memory, k, h, tables.dense, SLOPES, count + 1)
    for j in range(count):
        add(
            row(memory.blocks, NOW),
            h * tables.a[count, count + 1 + j],
            row(memory.blocks, SLOPES + j),
        )


def push_stage(run: Any, tables: ESDIRKTables, memory: Any, k: int, i: int, t: float) -> None:
    """The block of the slope of an implicit stage, at the time t."""
    h = memory.sizes[k]
    c = tables.gamma[0] * h
    count = tables.flags[STAGES]
    y = row(row(memory.stages, k), i)
    base = row(memory.blocks, BASE)
    slope = row(memory.blocks, SLOPES + i)
    copy(row(memory.blocks, NOW), base)
    for j in range(i):
        add(base, h * tables.a[i, count + 1 + j], row(memory.blocks, SLOPES + j))
    factorise_at(run, memory, t, y, c)
    copy(base, slope)
    write_mass(memory, MASS, SLOPES + i, SPARE)
    add_targets(run, memory, t, y, c, SLOPES + i)
    solve_block(memory, SLOPES + i, SPARE)
    run.nsolve += 1
    # The slope without a product with J, because a large J gives large rounding errors.
    add(slope, -1.0, base)
    scale(slope, 1.0 / c)
