"""Attempts of Radau IIA methods, as methods/radau.py.

memory.stages has the states Y_i of the s stages. Steps of a fixed size whose simplified Newton
iteration fails are halved; the torch engine first tries a full iteration.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core import floats
from ...methods.jacobian_reuse import ITERATIONS, SLOW, converges_slowly, remembered_rate
from ...methods.radau import SMALLEST, predicted_factor
from . import newton, radau_stages
from .arithmetic import add, clear, copy, error_ratio
from .machine import flat, row
from .mass import MASS, has_mass, is_singular, lift_rows, write_product
from .matrices import solve
from .newton import (
    FACTORISED,
    FLOOR,
    FRESH,
    HAS_JACOBIAN,
    MEASURED,
    NORM,
    RATE,
    STAGE,
    begin_newton,
    forget,
    iterate,
    set_c,
    write_scale,
)
from .radau_stages import (
    CAREFUL,
    FIRST,
    HAS_LAST,
    KNOWN,
    LAST,
    LAST_ERROR,
    LAST_STEP,
    NEXT_RATE,
    SLOPES,
    RadauTables,
    guess,
    output_weight,
    prepare,
)
from .run import NEWTON, NO_FAILURE, NONFINITE
from .steps import Sizes, evaluate, fail


def tables_of(method: Any, mass: Any = None) -> RadauTables:
    """The tables of a Radau method."""
    tableau = method.tableau
    mu, transform, inverse = tableau.eigen
    pairs = [1 / x for x in mu[tableau.stages % 2 :]]
    return RadauTables(
        a=np.ascontiguousarray(tableau.a),
        transform=np.ascontiguousarray(transform),
        inverse=np.ascontiguousarray(inverse),
        powers=np.ascontiguousarray(tableau.powers),
        nodes=np.ascontiguousarray(tableau.c),
        e=np.ascontiguousarray(tableau.e),
        ending=np.ascontiguousarray(tableau.ending),
        reciprocals=np.array([[x.real, x.imag] for x in pairs]).reshape(-1, 2),
        gamma0=np.array([tableau.gamma0]),
        ends=np.array([tableau.c[-1] == 1.0], dtype=np.int64),
    )


def sizes(tables: RadauTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(
        stages=count,
        vectors=FIRST * count + 2,
        numbers=NEXT_RATE + 1,
        marks=CAREFUL + 1,
        tape_stages=count,
        implicit=True,
        blocks=len(tables.reciprocals),
    )


def begin(run: Any, tables: RadauTables, memory: Any) -> None:
    begin_newton(run, memory)
    # With a mass matrix the slope at the start is M^+ f, but the error estimate needs f.
    memory.marks[KNOWN] = not has_mass(memory)
    memory.marks[HAS_LAST] = 0
    memory.marks[CAREFUL] = 1
    memory.numbers[LAST_ERROR] = 0.0
    memory.numbers[LAST_STEP] = run.h
    copy(row(memory.stages, 0), row(memory.vectors, FIRST * len(tables.nodes)))


def cost(run: Any, tables: RadauTables) -> int:
    return len(tables.nodes)


def attempt(run: Any, tables: RadauTables, memory: Any) -> None:
    marks = memory.marks
    numbers = memory.numbers
    count = len(tables.nodes)
    set_c(memory, run.h)
    write_scale(run, memory, memory.y)
    for i in range(1, count):
        copy(row(memory.vectors, 0), row(memory.vectors, i))
    if not converged(run, tables, memory):
        give_up(run, memory)
        return
    if tables.ends[0]:
        copy(row(memory.stages, count - 1), memory.y1)
    else:
        copy(memory.y, memory.y1)
        add_stages(memory, tables.ending, memory.y1)
    iterations = marks[newton.ITERATIONS]
    rate = remembered_rate(floats, numbers[MEASURED], iterations > 1)
    numbers[NEXT_RATE] = rate
    run.failure = NO_FAILURE
    run.accepted_last = 1
    run.factor = 1.0
    run.ratio = 0.0
    if not run.adaptive:
        return
    ratio = scaled_error(run, tables, memory)
    run.ratio = ratio
    if not ratio <= 1.0:
        run.accepted_last = 0
        marks[CAREFUL] = 1
        numbers[RATE] = rate
    if not math.isfinite(ratio):
        fail(run, SMALLEST, NONFINITE)
        return
    run.factor = predicted_factor(
        ratio, run.h, numbers[LAST_ERROR], numbers[LAST_STEP], iterations, run.order
    )


def converged(run: Any, tables: RadauTables, memory: Any) -> bool:
    """Newton's iteration for all stages. If it fails with an old Jacobian, it runs again with a new
    one (jacobian_reuse.ReusesJacobian.converged)."""
    marks = memory.marks
    numbers = memory.numbers
    count = len(tables.nodes)
    tolerance = numbers[STAGE]
    limit = ITERATIONS
    if not run.adaptive:
        tolerance = numbers[FLOOR]
        limit = 4 * ITERATIONS
    while True:
        marks[newton.ITERATIONS] = 0
        solved = False
        if prepare(run, tables, memory):
            guess(run, tables, memory)
            numbers[MEASURED] = numbers[RATE]
            states = flat(memory.stages, 0, count)
            solved = iterate(
                radau_stages, run, tables, memory, run.t, states, count, tolerance, limit
            )
        if solved or marks[FRESH]:
            return solved
        forget(memory)


def add_stages(memory: Any, weights: Any, target: Any) -> None:
    """target += sum_i weights_i (Y_i - y)."""
    for i in range(len(weights)):
        for k in range(len(target)):
            target[k] += weights[i] * (memory.stages[i, k] - memory.y[k])


def scaled_error(run: Any, tables: RadauTables, memory: Any) -> float:
    """The scaled error of the step (IV.8.19). If it is too large in a first step or after a
    rejection, it comes from (IV.8.20)."""
    marks = memory.marks
    first = row(memory.vectors, FIRST * len(tables.nodes))
    known = row(memory.vectors, FIRST * len(tables.nodes) + 1)
    if not marks[KNOWN]:
        evaluate(run, memory, run.t, memory.y, first)
        marks[KNOWN] = 1
    clear(known)
    add_stages(memory, tables.e, known)
    if has_mass(memory):
        write_product(memory, MASS, known)
        copy(memory.mass_product, known)
    ratio = filtered(run, tables, memory, known, first)
    if ratio > 1.0 and marks[CAREFUL]:
        copy(memory.y, memory.point)
        add(memory.point, 1.0, memory.error)
        again = row(memory.vectors, SLOPES * len(tables.nodes))
        evaluate(run, memory, run.t, memory.point, again)
        ratio = filtered(run, tables, memory, known, again)
    return ratio


def filtered(run: Any, tables: RadauTables, memory: Any, known: Any, slope: Any) -> float:
    """The norm of the error with this slope at the start. Leaves the error in memory.error."""
    copy(known, memory.error)
    add(memory.error, run.h * tables.gamma0[0], slope)
    if is_singular(memory):
        lift_rows(memory, memory.error)
    solve(memory.matrix, memory.pivots, memory.error, 1.0)
    return error_ratio(memory.error, memory.y, memory.y1, memory.atol, run.rtol)


def give_up(run: Any, memory: Any) -> None:
    """Newton's iteration failed with a new Jacobian: halve the step. The Jacobian stays, unless it
    gave a value that is not finite."""
    marks = memory.marks
    run.newton_failures += 1
    marks[CAREFUL] = 1
    marks[FACTORISED] = 0
    if marks[newton.ITERATIONS] > 0 and not math.isfinite(memory.numbers[NORM]):
        forget(memory)
        fail(run, 0.5, NONFINITE)
    else:
        fail(run, 0.5, NEWTON)


def complete(run: Any, tables: RadauTables, memory: Any) -> None:
    """The stages of the step suffice."""


def interpolate(run: Any, tables: RadauTables, memory: Any, theta: float, target: Any) -> None:
    copy(memory.y, target)
    for j in range(len(tables.nodes)):
        weight = output_weight(tables, j, theta)
        for k in range(len(target)):
            target[k] += weight * (memory.stages[j, k] - memory.y[k])


def interpolate_slope(
    run: Any, tables: RadauTables, memory: Any, theta: float, target: Any
) -> None:
    clear(target)
    for j in range(len(tables.nodes)):
        weight = 0.0
        for m in range(len(tables.nodes) - 1, -1, -1):
            weight = weight * theta + (m + 1) * tables.powers[m, j]
        for k in range(len(target)):
            target[k] += weight / run.h * (memory.stages[j, k] - memory.y[k])


def polynomials(
    tables: RadauTables,
    sizes: np.ndarray,
    states: np.ndarray,
    stages: np.ndarray,
    numbers: np.ndarray,
) -> np.ndarray:
    """(k, degree + 1, n) coefficients of the powers of theta on k recorded steps."""
    moved = np.matmul(tables.powers, stages - states[:, None])
    return np.concatenate((states[:, None], moved), 1, dtype=states.dtype)


def accept(run: Any, tables: RadauTables, memory: Any) -> None:
    marks = memory.marks
    numbers = memory.numbers
    count = len(tables.nodes)
    for i in range(count):
        last = row(memory.vectors, LAST * count + i)
        copy(row(memory.stages, i), last)
        add(last, -1.0, memory.y)
    marks[HAS_LAST] = 1
    marks[KNOWN] = 0
    marks[CAREFUL] = 0
    marks[FRESH] = 0
    numbers[LAST_STEP] = run.h
    if run.adaptive:
        numbers[LAST_ERROR] = max(run.ratio, 1e-2)
    rate = numbers[NEXT_RATE]
    numbers[RATE] = rate
    if converges_slowly(rate, SLOW):
        marks[HAS_JACOBIAN] = 0
