"""Explicit Runge-Kutta steps with the derivatives of their stages: Hairer, Norsett & Wanner,
Solving ODEs I, sec. II.6."""

from __future__ import annotations

from typing import Any

from ....backends.native.arithmetic import add, combine, copy
from ....backends.native.explicit import ExplicitTables
from ....backends.native.machine import row
from ..explicit import complete
from .loop import NOW, Sizes, has_inside, write_inside, write_slope

# Blocks: of the state at a stage, and of the slopes of the stages.
STATE = 1
SLOPES = 2


def sizes(tables: ExplicitTables) -> Sizes:
    return Sizes(blocks=SLOPES + len(tables.nodes))


def begin(run: Any, tables: ExplicitTables, memory: Any) -> None:
    """The state suffices."""


def push_step(run: Any, tables: ExplicitTables, memory: Any, k: int) -> None:
    h = memory.sizes[k]
    count = tables.counts[0]
    total = len(tables.nodes)
    first = 0
    if k > 0 and tables.counts[1] and not memory.fresh[k]:
        # The first stage is the last one of the step before.
        copy(row(memory.blocks, SLOPES + count - 1), row(memory.blocks, SLOPES))
        first = 1
    if has_inside(run, memory, k):
        complete(run, tables, memory, k)
        push_stages(run, tables, memory, k, first, total)
        write_inside(run, memory, k, h, tables.dense, SLOPES, 0)
    else:
        push_stages(run, tables, memory, k, first, count)
    for j in range(count):
        add(row(memory.blocks, NOW), h * tables.a[total, j], row(memory.blocks, SLOPES + j))


def push_stages(
    run: Any, tables: ExplicitTables, memory: Any, k: int, first: int, last: int
) -> None:
    """The blocks of the slopes of the stages first to last - 1."""
    h = memory.sizes[k]
    for i in range(first, last):
        copy(row(memory.states, k), memory.point)
        combine(memory.point, h, tables.a, i, row(memory.stages, k))
        copy(row(memory.blocks, NOW), row(memory.blocks, STATE))
        for j in range(i):
            add(row(memory.blocks, STATE), h * tables.a[i, j], row(memory.blocks, SLOPES + j))
        t = memory.starts[k] + tables.nodes[i] * h
        write_slope(run, memory, t, memory.point, STATE, SLOPES + i)
