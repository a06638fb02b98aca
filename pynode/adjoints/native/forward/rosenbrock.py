"""Rosenbrock steps with the derivatives of their stages.

Stage i solves (M - c J) u_i = c (f(Y_i) + M sum_j C_ij / h u_j + h d_i df/dt), with c = gamma h,
and J and df/dt at the start of the step. Its derivative solves a system with the same matrix, whose
right-hand side also has the derivative of J u_i + h d_i df/dt: the second derivatives of f.
"""

from __future__ import annotations

from typing import Any

from ....backends.native.arithmetic import add, combine, copy
from ....backends.native.machine import call, row
from ....backends.native.mass import MASS, has_mass
from ....backends.native.rosenbrock import RosenbrockTables
from ..sweep import factorise_at, linearise_at
from .columns import add_mass, scale, solve_block
from .loop import (
    NOW,
    Sizes,
    add_jacobian,
    add_kept,
    add_targets,
    write_inside,
)

# Blocks: of the state at a stage, of which the solution of the system needs a second one, and of
# the stages.
STATE = 1
STAGES = 2


def sizes(tables: RosenbrockTables) -> Sizes:
    return Sizes(blocks=STAGES + len(tables.nodes), slopes=True, width=1, sparse=True)


def begin(run: Any, tables: RosenbrockTables, memory: Any) -> None:
    """The state suffices."""


def push_step(run: Any, tables: RosenbrockTables, memory: Any, k: int) -> None:
    h = memory.sizes[k]
    t = memory.starts[k]
    count = len(tables.nodes)
    c = h * tables.gamma[0]
    factorise_at(run, memory, t, row(memory.states, k), c)
    for i in range(count):
        target = STAGES + i
        copy(row(memory.states, k), memory.point)
        combine(memory.point, 1.0, tables.a, i, row(memory.stages, k))
        copy(row(memory.blocks, NOW), row(memory.blocks, STATE))
        for j in range(i):
            add(row(memory.blocks, STATE), tables.a[i, j], row(memory.blocks, STAGES + j))
        if i > 0:
            linearise_at(run, memory, t + tables.nodes[i] * h, memory.point)
        write_second(run, tables, memory, k, i)
        add_jacobian(memory, 1.0, STATE, target)
        add_targets(run, memory, t + tables.nodes[i] * h, memory.point, 1.0, target)
        for j in range(i):
            coupling = tables.couplings[i, j] / h
            if has_mass(memory):
                add_mass(memory, MASS, coupling, STAGES + j, target)
            else:
                add(row(memory.blocks, target), coupling, row(memory.blocks, STAGES + j))
        scale(row(memory.blocks, target), c)
        solve_block(memory, target, STATE)
        run.nsolve += 1
    write_inside(run, memory, k, 1.0, tables.dense, STAGES, 0)
    for i in range(count):
        add(row(memory.blocks, NOW), tables.a[count, i], row(memory.blocks, STAGES + i))


def write_second(run: Any, tables: RosenbrockTables, memory: Any, k: int, i: int) -> None:
    """The block of stage i = the derivative of J u_i + h d_i df/dt at the start of step k, for
    constant u_i."""
    n = len(memory.point)
    t = memory.starts[k]
    y = row(memory.states, k)
    for m in range(n):
        memory.pair[m] = 0.0
        memory.pair[n + m] = memory.stages[k, i, m]
    memory.pair[2 * n] = memory.sizes[k] * tables.drifts[i]
    for j in range(n):
        memory.pair[j] = 1.0
        call(run.second, t, y, memory.pair, memory.inputs, memory.pulled, memory.work)
        memory.pair[j] = 0.0
        target = row(memory.lines, (STAGES + i) * n + j)
        for d in range(len(target)):
            target[d] = 0.0
        for m in range(n):
            add(target, memory.pulled[m], row(memory.lines, NOW * n + m))
        add_kept(memory, n, 1.0, target)
