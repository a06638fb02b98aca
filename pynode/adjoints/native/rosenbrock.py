"""Rosenbrock steps backwards, by the formulas of adjoints/discrete/rosenbrock.py."""

from __future__ import annotations

from typing import Any

from ...backends.native.arithmetic import combine, copy
from ...backends.native.linear import solve_system_transposed
from ...backends.native.machine import call, flat, row
from ...backends.native.mass import MASS, has_mass, write_transposed
from ...backends.native.rosenbrock import RosenbrockTables
from .sweep import Sizes, collect, end_outputs, factorise_at, inside_outputs, pull


def sizes(tables: RosenbrockTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(bars=count, implicit=True, slopes=count, sparse=True, staged=True)


def pull_step(run: Any, tables: RosenbrockTables, memory: Any, k: int) -> None:
    h = memory.sizes[k]
    t = memory.starts[k]
    y = row(memory.states, k)
    stages = row(memory.stages, k)
    n = len(y)
    count = len(tables.nodes)
    end_outputs(run, memory, k)
    copy(memory.ybar, memory.start)
    for i in range(count):
        for m in range(n):
            memory.bars[i, m] = tables.a[count, i] * memory.ybar[m]
    inside_outputs(run, memory, k, 1.0, tables.dense)
    c = h * tables.gamma[0]
    factorise_at(run, memory, t, y, c)
    for i in range(count - 1, -1, -1):
        # v is the cotangent of the right-hand side of stage i.
        v = row(memory.bars, i)
        for m in range(n):
            v[m] *= c
        solve_system_transposed(memory, v)
        run.nsolve += 1
        # Through f at the stage.
        copy(y, memory.point)
        combine(memory.point, 1.0, tables.a, i, stages)
        pull(run, memory, t + tables.nodes[i] * h, memory.point, v)
        mass_v = v
        if has_mass(memory):
            write_transposed(memory, MASS, v)
            mass_v = memory.mass_product
        for j in range(i):
            a = tables.a[i, j]
            coupling = tables.couplings[i, j] / h
            for m in range(n):
                memory.bars[j, m] += a * memory.pulled[m] + coupling * mass_v[m]
    if n < count:
        write_rows(tables, memory, k)
    else:
        write_stages(tables, memory, k)
    # Through J and df/dt at the start of step k: the derivative of the sum of v_i . (J u_i + h d_i
    # df/dt) over the stages.
    pairs = flat(memory.pairs, 0, len(memory.pairs))
    call(run.second, t, y, pairs, memory.inputs, memory.pulled, memory.work)
    collect(memory)
    copy(memory.start, memory.ybar)


def write_stages(tables: RosenbrockTables, memory: Any, k: int) -> None:
    """A set of vectors for each stage: v_i from memory.bars, u_i, and h d_i."""
    n = len(memory.start)
    for i in range(len(tables.nodes)):
        for m in range(n):
            memory.pairs[i, m] = memory.bars[i, m]
            memory.pairs[i, n + m] = memory.stages[k, i, m]
        memory.pairs[i, 2 * n] = memory.sizes[k] * tables.drifts[i]


def write_rows(tables: RosenbrockTables, memory: Any, k: int) -> None:
    """The same sum over the components, which are fewer than the stages: e_j . (J U_j + s_j df/dt)
    with U_j = sum_i v_ij u_i and s_j = sum_i v_ij h d_i."""
    n = len(memory.start)
    for j in range(n):
        for m in range(2 * n + 1):
            memory.pairs[j, m] = 0.0
        memory.pairs[j, j] = 1.0
        for i in range(len(tables.nodes)):
            v = memory.bars[i, j]
            for m in range(n):
                memory.pairs[j, n + m] += v * memory.stages[k, i, m]
            memory.pairs[j, 2 * n] += v * memory.sizes[k] * tables.drifts[i]


def finish(run: Any, tables: RosenbrockTables, memory: Any) -> None:
    """Nothing is left."""
