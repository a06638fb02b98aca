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

# Blocks: of df/dp at a stage, of the stages, and of their right-hand sides.
FORCING = 1
STATES = 2


def sizes(tables: RadauTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(blocks=STATES + 2 * count, width=count)


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
    solve_stages(memory, STATES * len(memory.point))
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


def solve_stages(memory: Any, first: int) -> None:
    """X = A^-1 X from the factors of A, (s n, s n), refined once, as in native/radau.py. X is the
    lines from ``first`` on; as many behind them may be overwritten."""
    whole = memory.whole
    lines = memory.lines
    m = len(whole)
    rest = first + m
    for i in range(m):
        copy(row(lines, first + i), row(lines, rest + i))
    solve_rows(memory.matrix, memory.pivots, lines, first)
    for i in range(m):
        for j in range(m):
            if whole[i, j] != 0.0:
                add(row(lines, rest + i), -whole[i, j], row(lines, first + j))
    solve_rows(memory.matrix, memory.pivots, lines, rest)
    for i in range(m):
        add(row(lines, first + i), 1.0, row(lines, rest + i))


def share(memory: Any, target: Any, i: int, weight: float) -> None:
    """target += that of weight (Y_i - y)."""
    add(target, weight, row(memory.blocks, STATES + i))
    add(target, -weight, row(memory.blocks, NOW))
