"""Attempts of Rosenbrock methods, as methods/rosenbrock.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import arithmetic
from .arithmetic import clear, combine, copy
from .linear import factorise_system, solve_system
from .machine import row
from .mass import INVERSE, MASS, add_product, has_mass, is_singular, write_product
from .run import NONFINITE
from .steps import Sizes, evaluate, fail, judge, linearise


class RosenbrockTables(NamedTuple):
    """The numbers of a Rosenbrock tableau with s stages.

    a: (s + 2, s), the rows of the stages, then b and b_err. couplings: (s, s), the matrix C. nodes,
    drifts: (s,), c and d. dense: (s, degree). gamma: (1,). algebraic: (1,), the error of the
    algebraic components over its estimate.
    """

    a: np.ndarray
    couplings: np.ndarray
    nodes: np.ndarray
    drifts: np.ndarray
    dense: np.ndarray
    gamma: np.ndarray
    algebraic: np.ndarray


def tables_of(method: Any, mass: Any = None) -> RosenbrockTables:
    """The tables of a RosenbrockMethod."""
    tableau = method.tableau
    gamma, nodes, drifts = method.numbers
    return RosenbrockTables(
        _padded((*tableau.a, tableau.b, tableau.b_err), tableau.stages),
        _padded(tableau.C, tableau.stages),
        np.array(nodes),
        np.array(drifts),
        np.ascontiguousarray(tableau.dense_weights),
        np.array([gamma]),
        np.array([method.algebraic]),
    )


def _padded(rows, width):
    matrix = np.zeros((len(rows), width))
    for i, numbers in enumerate(rows):
        matrix[i, : len(numbers)] = [float(x) for x in numbers]
    return matrix


def sizes(tables: RosenbrockTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(stages=count, tape_stages=count, implicit=True, slopes=True, sparse=True)


def begin(run: Any, tables: RosenbrockTables, memory: Any) -> None:
    run.known = 0


def cost(run: Any, tables: RosenbrockTables) -> int:
    return len(tables.nodes)


def attempt(run: Any, tables: RosenbrockTables, memory: Any) -> None:
    t = run.t
    h = run.h
    count = len(tables.nodes)
    if not run.known:
        linearise(run, memory, t, memory.y)
        run.known = 1
    c = h * tables.gamma[0]
    run.nlu += 1
    if not factorise_system(memory, c):
        fail(run, 0.25, NONFINITE)
        return
    slope = len(memory.rows)
    for i in range(count):
        u = row(memory.stages, i)
        if i == 0:
            # The first stage is at the start, where f came with the Jacobian.
            copy(memory.jac[slope + len(u) :], u)
            run.nfe += 1
        else:
            copy(memory.y, memory.point)
            combine(memory.point, 1.0, tables.a, i, memory.stages)
            evaluate(run, memory, t + tables.nodes[i] * h, memory.point, u)
        if has_mass(memory):
            clear(memory.error)
            combine(memory.error, 1.0 / h, tables.couplings, i, memory.stages)
            add_product(memory, MASS, 1.0, memory.error, u)
        else:
            combine(u, 1.0 / h, tables.couplings, i, memory.stages)
        drift = h * tables.drifts[i]
        for k in range(len(u)):
            u[k] += drift * memory.jac[slope + k]
        # (M/(gamma h) - J) u = rhs, scaled by gamma h so that the matrix is M - gamma h J.
        solve_system(memory, u, c)
        run.nsolve += 1
    copy(memory.y, memory.y1)
    combine(memory.y1, 1.0, tables.a, count, memory.stages)
    clear(memory.error)
    combine(memory.error, 1.0, tables.a, count + 1, memory.stages)
    if is_singular(memory):
        correct_algebraic(memory, tables.algebraic[0])
    judge(run, memory)


def correct_algebraic(memory: Any, factor: float) -> None:
    """Multiply the algebraic components of memory.error, those in the null space of M."""
    if factor == 1.0:
        return
    error = memory.error
    write_product(memory, MASS, error)
    clear(memory.point)
    add_product(memory, INVERSE, 1.0, memory.mass_product, memory.point)
    for k in range(len(error)):
        error[k] -= (1.0 - factor) * (error[k] - memory.point[k])


def complete(run: Any, tables: RosenbrockTables, memory: Any) -> None:
    """The stages of the step suffice."""


def interpolate(run: Any, tables: RosenbrockTables, memory: Any, theta: float, target: Any) -> None:
    copy(memory.y, target)
    arithmetic.interpolate(target, 1.0, tables.dense, theta, memory.stages)


def interpolate_slope(
    run: Any, tables: RosenbrockTables, memory: Any, theta: float, target: Any
) -> None:
    clear(target)
    arithmetic.interpolate_slope(target, 1.0 / run.h, tables.dense, theta, memory.stages)


def accept(run: Any, tables: RosenbrockTables, memory: Any) -> None:
    run.known = 0


def polynomials(
    tables: RosenbrockTables,
    sizes: np.ndarray,
    states: np.ndarray,
    stages: np.ndarray,
    numbers: np.ndarray,
) -> np.ndarray:
    """(k, degree + 1, n) coefficients of the powers of theta on k recorded steps."""
    return np.concatenate(
        (states[:, None], np.matmul(tables.dense.T, stages)), 1, dtype=states.dtype
    )
