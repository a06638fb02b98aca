"""Attempts of QNDF and FBDF, as methods/bdf/step.py. One table serves both."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...algebra.newton import MAX_ITERATIONS
from ...core import floats
from ...methods.bdf.formulas import (
    FACTORIAL,
    MAX_ORDER,
    DifferenceHistory,
    divided_difference,
    lagrange_values,
    leading_error,
    read_values,
    redifference,
    trusted_differences,
    trusted_values,
)
from ...methods.bdf.step import SAFETY, SLOW, best_order, shrunk
from ...methods.jacobian_reuse import converges_slowly, remembered_rate
from . import newton
from .arithmetic import clear, copy
from .machine import row
from .newton import (
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

ROWS = MAX_ORDER + 3  # of the longer history
# Positions in Memory.marks: order and equal steps for the next attempt; number of known times;
# order and equal steps after the attempt.
ORDER = newton.MARKS
EQUAL = ORDER + 1
TIMES = ORDER + 2
NEXT_ORDER = ORDER + 3
NEXT_EQUAL = ORDER + 4
# Positions in Memory.numbers. Of the attempted step, for the record: the ratio of its size to the
# last one's if the history moved to another grid, otherwise 0; its order; its nodes. Then the size
# of the last accepted step, and the rate after the attempt. The others begin arrays of a step:
# distances in time before and after, weights, and the matrix that moves the history.
RATIO = newton.NUMBERS
TAKEN = RATIO + 1
NODES = RATIO + 2
TAPE = NODES + ROWS  # numbers of a recorded step
LAST_STEP = TAPE
NEXT_RATE = TAPE + 1
PAST = TAPE + 2
PAST_AFTER = PAST + ROWS
VALUES = PAST_AFTER + ROWS
TERMS = VALUES + ROWS
WORK = TERMS + ROWS
GRID = WORK + ROWS
NUMBERS = GRID + (MAX_ORDER + 1) ** 2
# Positions in Memory.vectors: the prediction, the other terms of the formula, the end of the step
# minus the prediction, the history, and the history on the grid of the step.
START = newton.VECTORS
PSI = START + 1
MOVE = START + 2
HISTORY = START + 3
MOVED = HISTORY + ROWS


class BDFTables(NamedTuple):
    """The numbers of a form of the history (methods/bdf/formulas.py), by order.

    flags: whether the history has past values, not differences. largest: (1,), of the factors.
    alpha: leading coefficients, error: error constants of equal steps, (orders,). reading: (orders,
    2, rows), moving: (orders, rows, rows + 1), nearby: (orders, 2, rows), dense: (orders, degree +
    1, rows); the last three serve only differences.
    """

    flags: np.ndarray
    largest: np.ndarray
    alpha: np.ndarray
    error: np.ndarray
    reading: np.ndarray
    moving: np.ndarray
    nearby: np.ndarray
    dense: np.ndarray


def tables_of(method: Any) -> BDFTables:
    """The tables of a BDF of fixed leading coefficient."""
    form = method.history
    rows = form.rows
    differences = isinstance(form, DifferenceHistory)
    orders = MAX_ORDER + 1
    error = np.zeros(orders)
    reading = np.zeros((orders, 2, rows))
    moving = np.zeros((orders, rows, rows + 1))
    nearby = np.zeros((orders, 2, rows))
    dense = np.zeros((orders, orders, rows))
    for k in range(1, orders):
        error[k] = form.error_constant((), k, 1.0, k)
        reading[k] = form.reading(k)
        if differences:
            moving[k] = form.moving(k)
            nearby[k] = form.nearby(k)
            dense[k, : k + 1] = form.dense_weights(k, None)
    return BDFTables(
        np.array([not differences], dtype=np.int64),
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
        marks=NEXT_EQUAL + 1,
        tape_stages=0,
        tape_numbers=TAPE,
        implicit=True,
    )


def begin(run: Any, tables: BDFTables, memory: Any) -> None:
    begin_newton(run, memory)
    marks = memory.marks
    numbers = memory.numbers
    marks[ORDER] = 1
    marks[EQUAL] = 0
    marks[TIMES] = 2
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
        if tables.flags[0]:
            second[i] = memory.y[i] - second[i]


def cost(run: Any, tables: BDFTables) -> int:
    return 1


def attempt(run: Any, tables: BDFTables, memory: Any) -> None:
    marks = memory.marks
    numbers = memory.numbers
    h = run.h
    k, equal, history = on_grid(run, tables, memory)
    c = h / tables.alpha[k]
    set_nodes(tables, memory, k, h, equal)
    predict(tables, memory, k, history)
    start = row(memory.vectors, START)
    write_scale(run, memory, start)
    marks[FRESH] = 0
    if c != numbers[C] and converges_slowly(numbers[RATE], SLOW):
        marks[HAS_JACOBIAN] = 0
    set_c(memory, c)
    # The torch engine's time of the end, t + h. run.t1 is a stop that may differ by rounding.
    if not converged(run, memory, run.t + h):
        give_up(run, memory)
        return
    iterations = marks[ITERATIONS]
    rate = remembered_rate(floats, numbers[MEASURED], iterations > 1)
    move = row(memory.vectors, MOVE)
    norm = numbers[NORM]
    if iterations > 1:
        for i in range(len(move)):
            move[i] = memory.y1[i] - start[i]
        norm = norm_of(move, row(memory.vectors, SCALE))
    else:
        copy(memory.error, move)
    ratio = error_constant(tables, memory, k, h, equal) * norm
    safety = SAFETY[iterations]
    run.ratio = ratio
    run.failure = NO_FAILURE
    run.accepted_last = 0
    if not ratio <= 1.0:
        marks[EQUAL] = 0
        numbers[RATE] = rate
        run.factor = shrunk(ratio, k, safety)
        return
    run.accepted_last = 1
    numbers[TAKEN] = k
    numbers[NEXT_RATE] = rate
    advance(tables, memory, k, h, history)
    choose(run, tables, memory, k, h, equal + 1, safety)


def on_grid(run: Any, tables: BDFTables, memory: Any) -> tuple[int, int, int]:
    """(order, equal steps, place of the history) for a step of run.h."""
    marks = memory.marks
    numbers = memory.numbers
    k = marks[ORDER]
    h = run.h
    numbers[RATIO] = 0.0
    if h == numbers[LAST_STEP]:
        return k, marks[EQUAL], HISTORY
    ratio = h / numbers[LAST_STEP]
    largest = tables.largest[0]
    values = tables.flags[0]
    if abs(ratio) > largest:
        if values:
            k = int(trusted_values(floats, k, ratio, numbers[newton.FLOOR], largest))
        else:
            k = int(trusted_differences(floats, k, ratio, numbers[newton.FLOOR], largest))
    if values:
        return k, 0, HISTORY
    numbers[RATIO] = ratio
    redifference(numbers[GRID:], k, ratio)
    for i in range(tables.reading.shape[2]):
        moved = row(memory.vectors, MOVED + i)
        clear(moved)
        if i <= k:
            for j in range(k + 1):
                add(moved, numbers[GRID + (k + 1) * i + j], row(memory.vectors, HISTORY + j))
    return k, 0, MOVED


def add(target: Any, weight: float, vector: Any) -> None:
    """target += weight vector, (n,)."""
    if weight != 0.0:
        for i in range(len(target)):
            target[i] += weight * vector[i]


def set_nodes(tables: BDFTables, memory: Any, k: int, h: float, equal: int) -> None:
    """The times of the history minus the present one, divided by h, and the weights of the
    prediction and of the other terms."""
    numbers = memory.numbers
    for j in range(k + 1):
        if equal >= k:
            numbers[NODES + j] = -j
        else:
            numbers[NODES + j] = -numbers[PAST + j] / h
    write_reading(tables, numbers, k)


def write_reading(tables: BDFTables, numbers: Any, k: int) -> None:
    """The weights of the prediction and of the other terms for the nodes."""
    if tables.flags[0]:
        read_values(numbers[NODES:], k, tables.alpha[k], numbers[VALUES:], numbers[TERMS:])
        return
    for j in range(k + 1):
        numbers[VALUES + j] = tables.reading[k, 0, j]
        numbers[TERMS + j] = tables.reading[k, 1, j]


def predict(tables: BDFTables, memory: Any, k: int, history: int) -> None:
    """The prediction and the other terms of the formula."""
    start = row(memory.vectors, START)
    psi = row(memory.vectors, PSI)
    clear(start)
    clear(psi)
    for j in range(k + 1):
        add(start, memory.numbers[VALUES + j], row(memory.vectors, history + j))
        add(psi, memory.numbers[TERMS + j], row(memory.vectors, history + j))


def converged(run: Any, memory: Any, t1: float) -> bool:
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
            solved = iterate(run, memory, t1, memory.y1, memory.numbers[WHOLE], MAX_ITERATIONS)
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


def error_constant(tables: BDFTables, memory: Any, k: int, h: float, equal: int) -> float:
    """Local error over the distance between prediction and solution."""
    if not tables.flags[0] or equal >= k:
        return tables.error[k]
    numbers = memory.numbers
    for j in range(k + 1):
        numbers[WORK + j] = h / (h + numbers[PAST + j])
    return leading_error(numbers[WORK:], k, tables.alpha[k])


def advance(tables: BDFTables, memory: Any, k: int, h: float, history: int) -> None:
    """memory.stages = the history after a step, and its times."""
    rows = tables.reading.shape[2]
    move = row(memory.vectors, MOVE)
    if tables.flags[0]:
        copy(memory.y1, row(memory.stages, 0))
        memory.numbers[PAST_AFTER] = 0.0
        for i in range(1, rows):
            memory.numbers[PAST_AFTER + i] = memory.numbers[PAST + i - 1] + h
            copy(row(memory.vectors, history + i - 1), row(memory.stages, i))
        return
    for i in range(rows):
        target = row(memory.stages, i)
        weight = tables.moving[k, i, rows]
        for m in range(len(target)):
            target[m] = weight * move[m]
        for j in range(rows):
            add(target, tables.moving[k, i, j], row(memory.vectors, history + j))


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
    if tables.flags[0]:
        times = min(marks[TIMES] + 1, times)
    lower = math.inf
    upper = math.inf
    if k > 1:
        lower = nearby_error(tables, memory, k, 0, times, h)
    if k < MAX_ORDER and times >= k + 3:
        upper = nearby_error(tables, memory, k, 1, times, h)
    order, factor = best_order(k, run.ratio, lower, upper, safety, tables.largest[0])
    run.factor = factor
    marks[NEXT_ORDER] = order
    if order != k or factor != 1.0:
        marks[NEXT_EQUAL] = 0


def nearby_error(tables: BDFTables, memory: Any, k: int, side: int, times: int, h: float) -> float:
    """The scaled error of order k - 1 (side 0) or k + 1 (side 1)."""
    numbers = memory.numbers
    count = tables.reading.shape[2]
    if tables.flags[0]:
        m = k - 1 + 2 * side
        count = min(m + 2, times)
        for j in range(count):
            numbers[WORK + j] = -numbers[PAST_AFTER + j] / h
        divided_difference(numbers[WORK:], count, FACTORIAL[m], numbers[VALUES:])
    else:
        for j in range(count):
            numbers[VALUES + j] = tables.nearby[k, side, j]
    sum_ = memory.error
    clear(sum_)
    for j in range(count):
        add(sum_, numbers[VALUES + j], row(memory.stages, j))
    return norm_of(sum_, row(memory.vectors, SCALE))


def complete(run: Any, tables: BDFTables, memory: Any) -> None:
    """The history after the step suffices."""


def interpolate(run: Any, tables: BDFTables, memory: Any, theta: float, target: Any) -> None:
    write_output_weights(tables, memory.numbers, theta)
    combine_history(memory, 1.0, target)


def interpolate_slope(run: Any, tables: BDFTables, memory: Any, theta: float, target: Any) -> None:
    write_slope_weights(tables, memory.numbers, theta)
    combine_history(memory, 1.0 / run.h, target)


def combine_history(memory: Any, factor: float, target: Any) -> None:
    """target = factor times the weighted sum of the history after the step."""
    clear(target)
    for j in range(int(memory.numbers[TAKEN]) + 1):
        add(target, factor * memory.numbers[VALUES + j], row(memory.stages, j))


def write_output_weights(tables: BDFTables, numbers: Any, theta: float) -> None:
    """The weights of the history after a step in the state at a fraction of the step."""
    k = int(numbers[TAKEN])
    if tables.flags[0]:
        write_nodes_after(numbers, k)
        lagrange_values(numbers[WORK:], k + 1, theta, numbers[VALUES:])
        return
    for j in range(k + 1):
        weight = 0.0
        for m in range(k, -1, -1):
            weight = weight * theta + tables.dense[k, m, j]
        numbers[VALUES + j] = weight


def write_slope_weights(tables: BDFTables, numbers: Any, theta: float) -> None:
    """The derivatives of these weights in theta."""
    k = int(numbers[TAKEN])
    if tables.flags[0]:
        write_nodes_after(numbers, k)
        for j in range(k + 1):
            numbers[VALUES + j] = lagrange_slope(numbers[WORK:], k + 1, j, theta)
        return
    for j in range(k + 1):
        weight = 0.0
        for m in range(k, 0, -1):
            weight = weight * theta + m * tables.dense[k, m, j]
        numbers[VALUES + j] = weight


def write_nodes_after(numbers: Any, k: int) -> None:
    """The times of the history after a step, as fractions of the step."""
    numbers[WORK] = 1.0
    for j in range(k):
        numbers[WORK + 1 + j] = numbers[NODES + j]


def lagrange_slope(nodes: Any, count: int, j: int, x: float) -> float:
    """The derivative at x of polynomial j of the Lagrange basis; x may be a node."""
    total = 0.0
    for i in range(count):
        if i != j:
            term = 1.0 / (nodes[j] - nodes[i])
            for m in range(count):
                if m != i and m != j:
                    term *= (x - nodes[m]) / (nodes[j] - nodes[m])
            total += term
    return total


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
    if not tables.flags[0]:
        weights[:] = tables.dense[orders]
    for k in set(orders.tolist()) if tables.flags[0] else ():
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
    numbers[LAST_STEP] = run.h
    numbers[RATE] = numbers[NEXT_RATE]
