"""Radau IIA steps with the derivatives of their stages.

The stages solve M (Y_i - y) = h sum_j a_ij f(Y_j). Their derivatives solve one system of s n
equations, with the Jacobian of each stage.
"""

from __future__ import annotations

from typing import Any

from ....backends.native.arithmetic import add, clear, copy
from ....backends.native.machine import row
from ....backends.native.mass import MASS
from ....backends.native.radau_stages import RadauTables, output_weight
from ..radau import factorise_stages
from .columns import solve_rows, write_mass
from .loop import NOW, Sizes, add_targets, has_inside

# Blocks: of df/dp at a stage, and of the stages.
FORCING = 1
STATES = 2


def sizes(tables: RadauTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(blocks=STATES + count, width=count)


def begin(run: Any, tables: RadauTables, memory: Any) -> None:
    """The state suffices."""


def push_step(run: Any, tables: RadauTables, memory: Any, k: int) -> None:
    h = memory.sizes[k]
    count = len(tables.nodes)
    factorise_stages(run, tables, memory, k)
    for i in range(count):
        copy(row(memory.blocks, NOW), row(memory.blocks, STATES + i))
        write_mass(memory, MASS, STATES + i, FORCING)
    forcing = row(memory.blocks, FORCING)
    for j in range(count):
        state = row(row(memory.stages, k), j)
        clear(forcing)
        add_targets(run, memory, memory.starts[k] + tables.nodes[j] * h, state, 1.0, FORCING)
        for i in range(count):
            add(row(memory.blocks, STATES + i), h * tables.a[i, j], forcing)
    solve_rows(memory.matrix, memory.pivots, memory.lines, STATES * len(memory.point))
    run.nsolve += 1
    while has_inside(run, memory, k):
        target = row(memory.outputs, run.output)
        copy(row(memory.blocks, NOW), target)
        for i in range(count):
            share(memory, target, i, output_weight(tables, i, memory.thetas[run.output]))
        run.output += 1
    if tables.ends[0]:
        copy(row(memory.blocks, STATES + count - 1), row(memory.blocks, NOW))
        return
    copy(row(memory.blocks, NOW), forcing)
    for i in range(count):
        share(memory, forcing, i, tables.ending[i])
    copy(forcing, row(memory.blocks, NOW))


def share(memory: Any, target: Any, i: int, weight: float) -> None:
    """target += that of weight (Y_i - y)."""
    add(target, weight, row(memory.blocks, STATES + i))
    add(target, -weight, row(memory.blocks, NOW))
