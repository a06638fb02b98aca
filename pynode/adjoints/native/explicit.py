"""Explicit Runge-Kutta steps backwards, by the formulas of adjoints/discrete/explicit.py."""

from __future__ import annotations

from typing import Any

from ...backends.native.arithmetic import combine, copy
from ...backends.native.explicit import ExplicitTables
from ...backends.native.machine import call, row
from .sweep import Sizes, end_outputs, has_output, inside_outputs, pull


def sizes(tables: ExplicitTables) -> Sizes:
    return Sizes(bars=len(tables.nodes), staged=True)


def pull_step(run: Any, tables: ExplicitTables, memory: Any, k: int) -> None:
    h = memory.sizes[k]
    t = memory.starts[k]
    y = row(memory.states, k)
    stages = row(memory.stages, k)
    point = memory.point
    total = len(tables.nodes)
    count = tables.counts[0]
    end_outputs(run, memory, k)
    copy(memory.ybar, memory.start)
    for i in range(total):
        weight = h * tables.a[total, i]
        for m in range(len(point)):
            memory.bars[i, m] = weight * memory.ybar[m]
    if has_output(run, memory, k):
        complete(run, tables, memory, k)
        inside_outputs(run, memory, k, h, tables.dense)
        count = total
    for i in range(count - 1, -1, -1):
        bar = row(memory.bars, i)
        if is_zero(bar):
            continue
        copy(y, point)
        combine(point, h, tables.a, i, stages)
        pull(run, memory, t + tables.nodes[i] * h, point, bar)
        for j in range(i):
            weight = h * tables.a[i, j]
            if weight != 0.0:
                for m in range(len(point)):
                    memory.bars[j, m] += weight * memory.pulled[m]
    copy(memory.start, memory.ybar)


def complete(run: Any, tables: ExplicitTables, memory: Any, k: int) -> None:
    """The stages of step k that only its dense output needs. The solve does not make them for each
    step."""
    stages = row(memory.stages, k)
    for i in range(tables.counts[0], len(tables.nodes)):
        copy(row(memory.states, k), memory.point)
        combine(memory.point, memory.sizes[k], tables.a, i, stages)
        t = memory.starts[k] + tables.nodes[i] * memory.sizes[k]
        run.nfe += 1
        call(run.f, t, memory.point, memory.point, memory.inputs, row(stages, i), memory.work)


def is_zero(vector: Any) -> bool:
    """Whether all components are zero."""
    for k in range(len(vector)):
        if vector[k] != 0.0:
            return False
    return True


def finish(run: Any, tables: ExplicitTables, memory: Any) -> None:
    """Nothing is left."""
