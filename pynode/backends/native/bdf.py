"""Attempts of QNDF, FBDF and ABDF2, as methods/bdf/step.py. One kind of table serves all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...algebra.newton import MAX_ITERATIONS, UNKNOWN
from ...core import floats
from ...methods.bdf.abdf2 import VariableHistory
from ...methods.bdf.formulas import MAX_ORDER, DifferenceHistory
from ...methods.bdf.step import FAILURES, SAFETY, SLOW, best_order, shrunk
from ...methods.jacobian_reuse import converges_slowly, remembered_rate
from . import newton
from .arithmetic import clear, copy
from .bdf_history import (
    EQUAL,
    HIGHEST,
    HISTORY,
    LAST_STEP,
    MOVE,
    MOVED,
    NEXT_EQUAL,
    NEXT_ORDER,
    NEXT_RATE,
    NODES,
    NUMBERS,
    ORDER,
    PAST,
    PAST_AFTER,
    PSI,
    REJECTIONS,
    ROWS,
    START,
    TAKEN,
    TAPE,
    TIMES,
    VALUES_FORM,
    VARIABLE,
    BDFTables,
    advance,
    combine_history,
    error_constant,
    leading,
    nearby_error,
    on_grid,
    predict,
    set_nodes,
    write_output_weights,
    write_slope_weights,
)
from .linear import solve_system
from .machine import row
from .mass import MASS, is_singular, write_product
from .newton import (
    CHANGE,
    FRESH,
    HAS_JACOBIAN,
    INCREMENT,
    ITERATIONS,
    MEASURED,
    NORM,
    RATE,
    SCALE,
    WHOLE,
    C,
    begin_newton,
    forget,
    iterate,
    norm_of,
    prepare,
    set_c,
    write_scale,
)
from .run import NEWTON, NO_FAILURE, NONFINITE
from .steps import Sizes, fail


def tables_of(method: Any, mass: Any = None) -> BDFTables:
    """The tables of a BDF."""
    form = method.history
    rows = form.rows
    differences = isinstance(form, DifferenceHistory)
    variable = isinstance(form, VariableHistory)
    orders = MAX_ORDER + 1
    error = np.zeros(orders)
    reading = np.zeros((orders, 2, rows))
    moving = np.zeros((orders, rows, rows + 1))
    nearby = np.zeros((orders, 2, rows))
    dense = np.zeros((orders, orders, rows))
    for k in range(1, method.order + 1):
        if not variable:
            error[k] = form.error_constant((), k, 1.0, k)
        reading[k] = form.reading(k)
        if differences:
            moving[k] = form.moving(k)
            nearby[k] = form.nearby(k)
            dense[k, : k + 1] = form.dense_weights(k, None)
    return BDFTables(
        np.array([not differences, variable, method.order], dtype=np.int64),
        np.array([form.largest]),
        np.array(form.alpha[:orders]),
        error,
        reading,
        moving,
        nearby,
        dense,
    )


def sizes(tables: BDFTables) -> Sizes:
    return Sizes(
        stages=tables.reading.shape[2],
        vectors=MOVED + ROWS,
        numbers=NUMBERS,
        marks=REJECTIONS + 1,
        tape_stages=0,
        tape_numbers=TAPE,
        implicit=True,
        sparse=True,
    )


def begin(run: Any, tables: BDFTables, memory: Any) -> None:
    begin_newton(run, memory)
    marks = memory.marks
    numbers = memory.numbers
    marks[ORDER] = 1
    marks[EQUAL] = 0
    marks[TIMES] = 2
    marks[REJECTIONS] = 0
    numbers[LAST_STEP] = run.h
    numbers[PAST] = 0.0
    numbers[PAST + 1] = run.h
    for j in range(tables.reading.shape[2]):
        clear(row(memory.vectors, HISTORY + j))
    copy(memory.y, row(memory.vectors, HISTORY))
    second = row(memory.vectors, HISTORY + 1)
    slope = row(memory.stages, 0)
    for i in range(len(second)):
        second[i] = run.h * slope[i]
        if tables.flags[VALUES_FORM]:
            second[i] = memory.y[i] - second[i]


def cost(run: Any, tables: BDFTables) -> int:
    return 1


def attempt(run: Any, tables: BDFTables, memory: Any) -> None:
    marks = memory.marks
    numbers = memory.numbers
    h = run.h
    k, equal, history = on_grid(run, tables, memory)
    c = h / leading(tables, numbers, k, h)
    set_nodes(tables, memory, k, h, equal)
    predict(tables, memory, k, history)
    start = row(memory.vectors, START)
    write_scale(run, memory, start)
    marks[FRESH] = 0
    if c != numbers[C] and converges_slowly(numbers[RATE], SLOW):
        marks[HAS_JACOBIAN] = 0
    set_c(memory, c)
    # The torch engine's time of the end, t + h. run.t1 is a stop that may differ by rounding.
    if not converged(run, tables, memory, run.t + h):
        give_up(run, memory)
        return
    iterations = marks[ITERATIONS]
    rate = remembered_rate(floats, numbers[MEASURED], iterations > 1)
    move = row(memory.vectors, MOVE)
    norm = numbers[NORM]
    if iterations > 1:
        for i in range(len(move)):
            move[i] = memory.y1[i] - start[i]
        norm = norm_of(move, row(memory.vectors, SCALE), len(move))
    else:
        copy(row(memory.vectors, CHANGE), move)
    if is_singular(memory):
        if marks[FRESH]:
            # This rate says little about the next point (methods/bdf/step.py: _algebraic).
            rate = UNKNOWN
        if marks[REJECTIONS] >= FAILURES:
            norm = norm_without_return(run, memory, move)
    ratio = error_constant(tables, memory, k, h, equal) * norm
    safety = SAFETY[iterations]
    run.ratio = ratio
    run.failure = NO_FAILURE
    run.accepted_last = 0
    if not ratio <= 1.0:
        marks[EQUAL] = 0
        marks[REJECTIONS] += 1
        if is_singular(memory) and marks[REJECTIONS] >= FAILURES:
            marks[ORDER] = 1
        numbers[RATE] = rate
        run.factor = shrunk(ratio, k, safety)
        return
    run.accepted_last = 1
    numbers[TAKEN] = k
    numbers[NEXT_RATE] = rate
    advance(tables, memory, k, h, history)
    choose(run, tables, memory, k, h, equal + 1, safety)


def norm_without_return(run: Any, memory: Any, move: Any) -> float:
    """The norm of a step without the way back to the algebraic equations, which no shorter step
    makes smaller."""
    write_product(memory, MASS, move)
    copy(memory.mass_product, memory.error)
    solve_system(memory, memory.error, 1.0)
    return norm_of(memory.error, row(memory.vectors, SCALE), len(move))


def converged(run: Any, tables: BDFTables, memory: Any, t1: float) -> bool:
    """Newton's iteration of a step. If it fails with an old Jacobian, it runs again with a new one
    (jacobian_reuse.ReusesJacobian.converged)."""
    start = row(memory.vectors, START)
    while True:
        memory.marks[ITERATIONS] = 0
        copy(start, memory.y1)
        solved = False
        if prepare(run, memory, t1, start):
            memory.numbers[MEASURED] = memory.numbers[RATE]
            copy(row(memory.vectors, PSI), row(memory.vectors, INCREMENT))
            solved = iterate(
                newton,
                run,
                tables,
                memory,
                t1,
                memory.y1,
                1,
                memory.numbers[WHOLE],
                MAX_ITERATIONS,
            )
        if solved or memory.marks[FRESH]:
            return solved
        forget(memory)


def give_up(run: Any, memory: Any) -> None:
    """Newton's iteration failed with a new Jacobian: halve the step."""
    run.newton_failures += 1
    forget(memory)
    memory.marks[EQUAL] = 0
    if memory.marks[ITERATIONS] > 0 and not math.isfinite(memory.numbers[NORM]):
        fail(run, 0.5, NONFINITE)
    else:
        fail(run, 0.5, NEWTON)


def choose(
    run: Any, tables: BDFTables, memory: Any, k: int, h: float, equal: int, safety: float
) -> None:
    """Order and factor of the step after an accepted one (BDF._select)."""
    marks = memory.marks
    marks[NEXT_ORDER] = k
    marks[NEXT_EQUAL] = equal
    run.factor = 1.0
    if equal <= k:
        return
    times = tables.reading.shape[2]
    if tables.flags[VALUES_FORM]:
        times = min(marks[TIMES] + 1, times)
    lower = math.inf
    upper = math.inf
    highest = tables.flags[HIGHEST]
    # With a variable leading coefficient the order does not fall.
    if k > 1 and not tables.flags[VARIABLE]:
        lower = nearby_error(tables, memory, k, 0, times, h)
    if k < highest and times >= k + 3:
        upper = nearby_error(tables, memory, k, 1, times, h)
    order, factor = best_order(k, run.ratio, lower, upper, safety, tables.largest[0])
    run.factor = factor
    marks[NEXT_ORDER] = order
    if order != k or factor != 1.0:
        marks[NEXT_EQUAL] = 0


def complete(run: Any, tables: BDFTables, memory: Any) -> None:
    """The history after the step suffices."""


def interpolate(run: Any, tables: BDFTables, memory: Any, theta: float, target: Any) -> None:
    write_output_weights(tables, memory.numbers, theta)
    combine_history(memory, 1.0, target)


def interpolate_slope(run: Any, tables: BDFTables, memory: Any, theta: float, target: Any) -> None:
    write_slope_weights(tables, memory.numbers, theta)
    combine_history(memory, 1.0 / run.h, target)


def polynomials(
    tables: BDFTables,
    sizes: np.ndarray,
    states: np.ndarray,
    stages: np.ndarray,
    numbers: np.ndarray,
) -> np.ndarray:
    """(k, degree + 1, n) coefficients of the powers of theta on k recorded steps."""
    orders = numbers[:, TAKEN].astype(int)
    weights = np.zeros((len(orders), MAX_ORDER + 1, stages.shape[1]))
    if not tables.flags[VALUES_FORM]:
        weights[:] = tables.dense[orders]
    for k in set(orders.tolist()) if tables.flags[VALUES_FORM] else ():
        rows = np.flatnonzero(orders == k)
        nodes = np.ones((len(rows), k + 1))
        nodes[:, 1:] = numbers[rows, NODES : NODES + k]
        powers = nodes[:, :, None] ** np.arange(k + 1)
        weights[rows, : k + 1, : k + 1] = np.linalg.inv(powers)
    return np.matmul(weights, stages).astype(states.dtype)


def accept(run: Any, tables: BDFTables, memory: Any) -> None:
    marks = memory.marks
    numbers = memory.numbers
    rows = tables.reading.shape[2]
    for i in range(rows):
        copy(row(memory.stages, i), row(memory.vectors, HISTORY + i))
        numbers[PAST + i] = numbers[PAST_AFTER + i]
    marks[ORDER] = marks[NEXT_ORDER]
    marks[EQUAL] = marks[NEXT_EQUAL]
    marks[TIMES] = min(marks[TIMES] + 1, rows)
    marks[REJECTIONS] = 0
    numbers[LAST_STEP] = run.h
    numbers[RATE] = numbers[NEXT_RATE]
