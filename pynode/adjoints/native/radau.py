"""Radau IIA steps backwards, by the formulas of adjoints/discrete/radau.py."""

from __future__ import annotations

from typing import Any

from ...backends.native.arithmetic import add, clear, copy
from ...backends.native.machine import flat, row
from ...backends.native.mass import MASS, has_mass, write_transposed
from ...backends.native.matrices import factorise, solve_transposed
from ...backends.native.radau_stages import RadauTables, output_weight
from .sweep import Sizes, end_outputs, has_output, linearise_at, pull_targets

SLOPE = 0  # position in Memory.vectors: the cotangent of f at a stage


def sizes(tables: RadauTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(bars=count, vectors=1, implicit=True, width=count)


def pull_step(run: Any, tables: RadauTables, memory: Any, k: int) -> None:
    count = len(tables.nodes)
    end_outputs(run, memory, k)
    clear(memory.start)
    for i in range(count):
        clear(row(memory.bars, i))
    at_end(tables, memory, memory.ybar)
    while has_output(run, memory, k):
        run.output -= 1
        cotangent = row(memory.cotangents, run.output)
        theta = memory.thetas[run.output]
        for i in range(count):
            share(memory, i, output_weight(tables, i, theta), cotangent)
        add(memory.start, 1.0, cotangent)
    factorise_stages(run, tables, memory, k)
    solve_stages(memory, flat(memory.bars, 0, count))
    run.nsolve += 1
    slope = row(memory.vectors, SLOPE)
    h = memory.sizes[k]
    for j in range(count):
        part = row(memory.bars, j)
        if has_mass(memory):
            write_transposed(memory, MASS, part)
            part = memory.mass_product
        add(memory.start, 1.0, part)
        clear(slope)
        for i in range(count):
            add(slope, h * tables.a[i, j], row(memory.bars, i))
        state = row(row(memory.stages, k), j)
        pull_targets(run, memory, memory.starts[k] + tables.nodes[j] * h, state, slope)
    copy(memory.start, memory.ybar)


def at_end(tables: RadauTables, memory: Any, cotangent: Any) -> None:
    """Add the cotangent of the end of the step to those of the stages and of the start."""
    count = len(tables.nodes)
    if tables.ends[0]:
        add(row(memory.bars, count - 1), 1.0, cotangent)
        return
    add(memory.start, 1.0, cotangent)
    for i in range(count):
        share(memory, i, tables.ending[i], cotangent)


def share(memory: Any, i: int, weight: float, cotangent: Any) -> None:
    """The cotangent of weight (Y_i - y)."""
    add(row(memory.bars, i), weight, cotangent)
    add(memory.start, -weight, cotangent)


def factorise_stages(run: Any, tables: RadauTables, memory: Any, k: int) -> None:
    """The factors of I x M - h a x J, (s n, s n), with the Jacobian of each stage of step k."""
    h = memory.sizes[k]
    n = len(memory.last)
    matrix = memory.matrix
    for i in range(len(matrix)):
        clear(row(matrix, i))
        if not has_mass(memory):
            matrix[i, i] = 1.0
    for j in range(len(tables.nodes)):
        state = row(row(memory.stages, k), j)
        linearise_at(run, memory, memory.starts[k] + tables.nodes[j] * h, state)
        for i in range(len(tables.nodes)):
            weight = h * tables.a[i, j]
            for m in range(len(memory.rows)):
                place = n * j + memory.columns[m]
                matrix[n * i + memory.rows[m], place] -= weight * memory.jac[m]
    if has_mass(memory):
        for j in range(len(tables.nodes)):
            for i in range(n):
                for e in range(memory.mass_starts[i], memory.mass_starts[i + 1]):
                    place = n * j + memory.mass_columns[e]
                    matrix[n * j + i, place] += memory.mass_values[e]
    for i in range(len(matrix)):
        copy(row(matrix, i), row(memory.whole, i))
    factorise(matrix, memory.pivots)
    run.nlu += 1


def solve_stages(memory: Any, bars: Any) -> None:
    """bars = A^-T bars, (s n,), from the factors of A, refined once.

    A stiff step has entries of the size h J beside ones. Elimination then loses as many digits, and
    a refinement gives them back (Higham, Accuracy and Stability of Numerical Algorithms, ch. 12).
    """
    right = row(memory.right, 0)
    rest = row(memory.right, 1)
    copy(bars, right)
    solve_transposed(memory.matrix, memory.pivots, bars)
    copy(right, rest)
    for i in range(len(bars)):
        add(rest, -bars[i], row(memory.whole, i))
    solve_transposed(memory.matrix, memory.pivots, rest)
    add(bars, 1.0, rest)


def finish(run: Any, tables: RadauTables, memory: Any) -> None:
    """Nothing is left."""
