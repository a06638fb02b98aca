"""Attempts of explicit Runge-Kutta methods, as methods/explicit.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import arithmetic
from .arithmetic import clear, combine, copy
from .machine import row
from .steps import Sizes, evaluate, judge


class ExplicitTables(NamedTuple):
    """The numbers of a RungeKutta tableau. s: its stages, with those of the dense output.

    a: (s + 2, s), the rows of the stages, then b and b_err. nodes: (s,). dense: (s, degree).
    counts: the stages of a step, and whether the last one is f at its end.
    """

    a: np.ndarray
    nodes: np.ndarray
    dense: np.ndarray
    counts: np.ndarray


def tables_of(method: Any, mass: Any = None) -> ExplicitTables:
    """The tables of an ExplicitRungeKutta method."""
    tableau = method.tableau
    matrix = tableau.matrix()
    weights = np.zeros((2, len(matrix)))
    weights[0, : tableau.stages] = [float(x) for x in tableau.b]
    weights[1, : tableau.stages] = [float(x) for x in tableau.b_err]
    return ExplicitTables(
        np.concatenate((matrix, weights)),
        np.array(method.nodes),
        np.ascontiguousarray(tableau.dense_weights),
        np.array([tableau.stages, tableau.fsal]),
    )


def sizes(tables: ExplicitTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(stages=count, tape_stages=count)


def begin(run: Any, tables: ExplicitTables, memory: Any) -> None:
    run.known = 1


def cost(run: Any, tables: ExplicitTables) -> int:
    if run.dense:
        return len(tables.nodes) - run.known
    return tables.counts[0] - run.known


def attempt(run: Any, tables: ExplicitTables, memory: Any) -> None:
    t = run.t
    h = run.h
    count = tables.counts[0]
    y1 = memory.y1
    if not run.known:
        evaluate(run, memory, t, memory.y, row(memory.stages, 0))
        run.known = 1
    for i in range(1, count):
        copy(memory.y, y1)
        combine(y1, h, tables.a, i, memory.stages)
        evaluate(run, memory, t + tables.nodes[i] * h, y1, row(memory.stages, i))
    if not tables.counts[1]:
        copy(memory.y, y1)
        combine(y1, h, tables.a, len(tables.nodes), memory.stages)
    clear(memory.error)
    combine(memory.error, h, tables.a, len(tables.nodes) + 1, memory.stages)
    judge(run, memory)


def complete(run: Any, tables: ExplicitTables, memory: Any) -> None:
    for i in range(tables.counts[0], len(tables.nodes)):
        copy(memory.y, memory.point)
        combine(memory.point, run.h, tables.a, i, memory.stages)
        t = run.t + tables.nodes[i] * run.h
        evaluate(run, memory, t, memory.point, row(memory.stages, i))


def interpolate(run: Any, tables: ExplicitTables, memory: Any, theta: float, target: Any) -> None:
    copy(memory.y, target)
    arithmetic.interpolate(target, run.h, tables.dense, theta, memory.stages)


def interpolate_slope(
    run: Any, tables: ExplicitTables, memory: Any, theta: float, target: Any
) -> None:
    clear(target)
    arithmetic.interpolate_slope(target, 1.0, tables.dense, theta, memory.stages)


def accept(run: Any, tables: ExplicitTables, memory: Any) -> None:
    run.known = tables.counts[1]
    if run.known:
        copy(row(memory.stages, tables.counts[0] - 1), row(memory.stages, 0))


def polynomials(
    tables: ExplicitTables,
    sizes: np.ndarray,
    states: np.ndarray,
    stages: np.ndarray,
    numbers: np.ndarray,
) -> np.ndarray:
    """(k, degree + 1, n) coefficients of the powers of theta on k recorded steps."""
    slopes = np.matmul(tables.dense.T, stages)
    return np.concatenate((states[:, None], slopes * sizes[:, None, None]), 1, dtype=states.dtype)
