"""Attempts of diagonally implicit Runge-Kutta methods, as methods/esdirk.py.

memory.stages has the states Y_i of the s stages, then the slope at the start of the step, then the
slopes k_i. The tables have one column for each of these 2 s + 1 rows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...algebra.newton import POOR, UNKNOWN
from ...core import floats
from ...methods.esdirk import below_rounding
from ...methods.jacobian_reuse import (
    ITERATIONS,
    SLOW,
    converges_slowly,
    growth_after_newton,
    remembered_rate,
)
from . import arithmetic, newton
from .arithmetic import add, clear, combine, copy
from .linear import solve_system
from .machine import row
from .mass import MASS, has_mass, write_product
from .newton import (
    FACTORISED,
    FLOOR,
    FRESH,
    HAS_JACOBIAN,
    INCREMENT,
    MEASURED,
    NORM,
    RATE,
    STAGE,
    C,
    begin_newton,
    correct,
    forget,
    iterate,
    norm_of_change,
    prepare,
    set_c,
    write_scale,
)
from .run import NEWTON, NONFINITE
from .steps import Sizes, evaluate, fail, judge

FULL_ITERATIONS = 30  # of Newton's iteration with a new Jacobian each time
# Positions in Memory.marks: whether the slope at the start is known, and the most iterations of a
# stage.
KNOWN = newton.MARKS
MOST = KNOWN + 1
# Positions in Memory.numbers: the slowest rate of a stage, the rate after the attempt, and c before
# it.
SLOWEST = newton.NUMBERS
NEXT_RATE = SLOWEST + 1
C_BEFORE = SLOWEST + 2
# Position in Memory.vectors: the known part of a stage.
BASE = newton.VECTORS
# Positions in ESDIRKTables.flags: the number of stages, whether the first one is explicit, whether
# the last one is the end of the step, whether the error is filtered.
STAGES = 0
EXPLICIT_FIRST = 1
STIFFLY_ACCURATE = 2
FILTERED = 3


class ESDIRKTables(NamedTuple):
    """The numbers of a diagonally implicit tableau.

    a: (s + 2, 2 s + 1), the rows left of the diagonal, then b and b_err. predictors: (s, 2 s + 1).
    nodes: (s,). dense: (2 s + 1, degree). gamma: (1,). flags: (4,).
    """

    a: np.ndarray
    predictors: np.ndarray
    nodes: np.ndarray
    dense: np.ndarray
    gamma: np.ndarray
    flags: np.ndarray


def tables_of(method: Any, mass: Any = None) -> ESDIRKTables:
    """The tables of a DIRK method."""
    stages, b, b_err = method.rows
    count = len(stages)
    explicit_first = method.begins_explicitly
    predictors = _padded(method.predictors, count, count + explicit_first)
    dense = method.dense_weights(mass)
    return ESDIRKTables(
        _padded((*stages, b, b_err), count, count + 1),
        predictors,
        np.array(method.nodes),
        np.concatenate((np.zeros((count + 1, dense.shape[1])), dense)),
        np.array([method.gamma]),
        np.array([count, explicit_first, method.stiffly_accurate, method.filtered], dtype=np.int64),
    )


def _padded(rows, stages, first):
    """The rows as a matrix whose coefficients begin at column ``first``."""
    matrix = np.zeros((len(rows), 2 * stages + 1))
    for i, coefficients in enumerate(rows):
        for j, value in zip(coefficients.indices, coefficients.values):
            matrix[i, first + j] = value
    return matrix


def sizes(tables: ESDIRKTables) -> Sizes:
    count = len(tables.nodes)
    return Sizes(
        stages=2 * count + 1,
        vectors=BASE + 1,
        numbers=C_BEFORE + 1,
        marks=MOST + 1,
        tape_stages=count,
        implicit=True,
        sparse=True,
    )


def begin(run: Any, tables: ESDIRKTables, memory: Any) -> None:
    begin_newton(run, memory)
    copy(row(memory.stages, 0), row(memory.stages, tables.flags[STAGES]))
    memory.marks[KNOWN] = 1


def cost(run: Any, tables: ESDIRKTables) -> int:
    return 1


def attempt(run: Any, tables: ESDIRKTables, memory: Any) -> None:
    marks = memory.marks
    numbers = memory.numbers
    c = tables.gamma[0] * run.h
    numbers[C_BEFORE] = numbers[C]
    if not has_mass(memory) and below_rounding(run.h, numbers[C], numbers[FLOOR]):
        marks[KNOWN] = 0
    set_c(memory, c)
    write_scale(run, memory, memory.y)
    if not converged(run, tables, memory):
        give_up(run, memory)
        return
    count = tables.flags[STAGES]
    if tables.flags[STIFFLY_ACCURATE]:
        copy(row(memory.stages, count - 1), memory.y1)
    else:
        copy(memory.y, memory.y1)
        combine(memory.y1, run.h, tables.a, count, memory.stages)
    numbers[NEXT_RATE] = remembered_rate(floats, numbers[SLOWEST], marks[MOST] > 1)
    if run.adaptive:
        clear(memory.error)
        combine(memory.error, run.h, tables.a, count + 1, memory.stages)
        if tables.flags[FILTERED]:
            if has_mass(memory):
                write_product(memory, MASS, memory.error)
                copy(memory.mass_product, memory.error)
            solve_system(memory, memory.error, 1.0)
            run.nsolve += 1
    judge(run, memory)
    if not run.accepted_last:
        numbers[RATE] = numbers[NEXT_RATE]
    elif run.adaptive:
        run.factor = growth_after_newton(floats, run.factor, marks[MOST], ITERATIONS)


def converged(run: Any, tables: ESDIRKTables, memory: Any) -> bool:
    """Solve all stages. If an iteration fails with an old Jacobian, solve them again with a new one
    (jacobian_reuse.ReusesJacobian.converged)."""
    marks = memory.marks
    known = marks[KNOWN]
    while True:
        marks[MOST] = 0
        solved = False
        if prepare(run, memory, run.t, memory.y):
            if not known:
                first = row(memory.stages, tables.flags[STAGES])
                evaluate(run, memory, run.t, memory.y, first)
                marks[KNOWN] = 1
            solved = solve_stages(run, tables, memory)
        if solved or marks[FRESH]:
            return solved
        forget(memory)


def solve_stages(run: Any, tables: ESDIRKTables, memory: Any) -> bool:
    """Solve the stages one after the other. Returns whether all iterations converged."""
    marks = memory.marks
    numbers = memory.numbers
    count = tables.flags[STAGES]
    numbers[MEASURED] = numbers[RATE]
    slowest = -1.0
    for i in range(count):
        state = row(memory.stages, i)
        slope = row(memory.stages, count + 1 + i)
        if i == 0 and tables.flags[EXPLICIT_FIRST]:
            copy(memory.y, state)
            copy(row(memory.stages, count), slope)
            continue
        if not solve_stage(run, tables, memory, i, state, slope):
            return False
        marks[MOST] = max(marks[MOST], marks[newton.ITERATIONS])
        if numbers[MEASURED] < UNKNOWN:
            slowest = max(slowest, numbers[MEASURED])
    numbers[SLOWEST] = slowest
    if slowest < 0.0:
        numbers[SLOWEST] = UNKNOWN
    return True


def solve_stage(
    run: Any, tables: ESDIRKTables, memory: Any, i: int, state: Any, slope: Any
) -> bool:
    """Solve Y = base + c f(t_i, Y) for the state Y, and write its slope (Y - base) / c."""
    c = memory.numbers[C]
    h = run.h
    t = run.t + tables.nodes[i] * h
    base = row(memory.vectors, BASE)
    copy(memory.y, base)
    combine(base, h, tables.a, i, memory.stages)
    copy(memory.y, state)
    combine(state, h, tables.predictors, i, memory.stages)
    difference(state, base, row(memory.vectors, INCREMENT))
    tolerance = memory.numbers[STAGE]
    limit = ITERATIONS
    if not run.adaptive:
        tolerance = memory.numbers[FLOOR]
        limit = 4 * ITERATIONS
    solved = iterate(newton, run, tables, memory, t, state, 1, tolerance, limit)
    if not solved and run.adaptive:
        return False
    if not solved:
        copy(memory.y, state)
        combine(state, h, tables.predictors, i, memory.stages)
        difference(state, base, row(memory.vectors, INCREMENT))
        if not iterate_fully(run, tables, memory, t, state):
            return False
        # The other stages use the Jacobian at the start of the step again.
        forget(memory)
        if not prepare(run, memory, run.t, memory.y):
            return False
    # An evaluation of f would multiply the remaining error by the stiffness.
    for k in range(len(state)):
        slope[k] = (state[k] - base[k]) / c
    return True


def difference(a: Any, b: Any, target: Any) -> None:
    """target = a - b, (n,)."""
    for k in range(len(a)):
        target[k] = a[k] - b[k]


def iterate_fully(run: Any, tables: ESDIRKTables, memory: Any, t: float, y: Any) -> bool:
    """Newton's iteration with a new Jacobian each time (algebra/newton.py: full_newton)."""
    increment = row(memory.vectors, INCREMENT)
    change = row(memory.vectors, newton.CHANGE)
    scale = row(memory.vectors, newton.OWN_SCALE)
    copy(row(memory.vectors, newton.SCALE), scale)
    memory.numbers[MEASURED] = UNKNOWN
    for iteration in range(1, FULL_ITERATIONS + 1):
        memory.marks[newton.ITERATIONS] = iteration
        forget(memory)
        if not prepare(run, memory, t, y):
            return False
        correct(run, tables, memory, t, y, increment, change)
        run.nsolve += 1
        norm = norm_of_change(run, y, change, scale, len(y))
        memory.numbers[NORM] = norm
        add(y, 1.0, change)
        add(increment, 1.0, change)
        if not math.isfinite(norm):
            return False
        if norm <= max(memory.numbers[FLOOR], 1e-5):
            memory.numbers[MEASURED] = POOR
            return True
    return False


def give_up(run: Any, memory: Any) -> None:
    """Newton's iteration failed with a new Jacobian: halve the step. The Jacobian stays, unless it
    gave a value that is not finite, or a singular matrix."""
    marks = memory.marks
    run.newton_failures += 1
    memory.numbers[C] = memory.numbers[C_BEFORE]
    marks[FACTORISED] = 0
    if not marks[newton.REGULAR]:
        forget(memory)
        fail(run, 0.5, NEWTON)
    elif math.isfinite(memory.numbers[NORM]):
        fail(run, 0.5, NEWTON)
    else:
        forget(memory)
        fail(run, 0.5, NONFINITE)


def complete(run: Any, tables: ESDIRKTables, memory: Any) -> None:
    """The stages of the step suffice."""


def interpolate(run: Any, tables: ESDIRKTables, memory: Any, theta: float, target: Any) -> None:
    copy(memory.y, target)
    arithmetic.interpolate(target, run.h, tables.dense, theta, memory.stages)


def interpolate_slope(
    run: Any, tables: ESDIRKTables, memory: Any, theta: float, target: Any
) -> None:
    clear(target)
    arithmetic.interpolate_slope(target, 1.0, tables.dense, theta, memory.stages)


def polynomials(
    tables: ESDIRKTables,
    sizes: np.ndarray,
    states: np.ndarray,
    stages: np.ndarray,
    numbers: np.ndarray,
) -> np.ndarray:
    """(k, degree + 1, n) coefficients of the powers of theta on k recorded steps."""
    slopes = np.matmul(tables.dense.T, stages)
    return np.concatenate((states[:, None], slopes * sizes[:, None, None]), 1, dtype=states.dtype)


def accept(run: Any, tables: ESDIRKTables, memory: Any) -> None:
    marks = memory.marks
    count = tables.flags[STAGES]
    marks[KNOWN] = tables.flags[STIFFLY_ACCURATE]
    if marks[KNOWN]:
        copy(row(memory.stages, 2 * count), row(memory.stages, count))
    marks[FRESH] = 0
    rate = memory.numbers[NEXT_RATE]
    memory.numbers[RATE] = rate
    if converges_slowly(rate, SLOW):
        marks[HAS_JACOBIAN] = 0
