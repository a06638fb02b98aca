"""The history of QNDF and FBDF in compiled code: how a step reads it, and how it becomes the
history after the step. methods/bdf/formulas.py has the rules and the small matrices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...core import floats
from ...methods.bdf.abdf2 import scale_terms, variable_leading
from ...methods.bdf.formulas import (
    FACTORIAL,
    MAX_ORDER,
    divided_difference,
    lagrange_values,
    leading_error,
    read_values,
    redifference,
    trusted_differences,
    trusted_values,
)
from . import newton
from .arithmetic import add, clear, copy
from .machine import row
from .newton import SCALE, norm_of

ROWS = MAX_ORDER + 3  # of the longer history
# Positions in Memory.marks: order and equal steps for the next attempt; number of known times;
# order and equal steps after the attempt; rejections by the error since the last step.
ORDER = newton.MARKS
EQUAL = ORDER + 1
TIMES = ORDER + 2
NEXT_ORDER = ORDER + 3
NEXT_EQUAL = ORDER + 4
REJECTIONS = ORDER + 5
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


# Positions in BDFTables.flags: whether the history has past values, not differences; whether the
# leading coefficient follows from the actual steps; the highest order.
VALUES_FORM = 0
VARIABLE = 1
HIGHEST = 2


class BDFTables(NamedTuple):
    """The numbers of a form of the history (methods/bdf/formulas.py), by order.

    flags: (3,). largest: (1,), of the factors.
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
    values = tables.flags[VALUES_FORM]
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
    if tables.flags[VALUES_FORM]:
        read_values(numbers[NODES:], k, tables.alpha[k], numbers[VALUES:], numbers[TERMS:])
        if tables.flags[VARIABLE]:
            scale_terms(numbers[NODES:], k, tables.alpha[k], numbers[TERMS:])
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


def leading(tables: BDFTables, numbers: Any, k: int, h: float) -> float:
    """The leading coefficient of the formula: y' = (leading / h) y1 + older values."""
    if tables.flags[VARIABLE]:
        return variable_leading(numbers[PAST:], k, h)
    return tables.alpha[k]


def error_constant(tables: BDFTables, memory: Any, k: int, h: float, equal: int) -> float:
    """Local error over the distance between prediction and solution."""
    numbers = memory.numbers
    if tables.flags[VARIABLE]:
        return h / (h + numbers[PAST + k])
    if not tables.flags[VALUES_FORM] or equal >= k:
        return tables.error[k]
    for j in range(k + 1):
        numbers[WORK + j] = h / (h + numbers[PAST + j])
    return leading_error(numbers[WORK:], k, tables.alpha[k])


def advance(tables: BDFTables, memory: Any, k: int, h: float, history: int) -> None:
    """memory.stages = the history after a step, and its times."""
    rows = tables.reading.shape[2]
    move = row(memory.vectors, MOVE)
    if tables.flags[VALUES_FORM]:
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


def nearby_error(tables: BDFTables, memory: Any, k: int, side: int, times: int, h: float) -> float:
    """The scaled error of order k - 1 (side 0) or k + 1 (side 1)."""
    numbers = memory.numbers
    count = tables.reading.shape[2]
    if tables.flags[VALUES_FORM]:
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
    return norm_of(sum_, row(memory.vectors, SCALE), len(sum_))


def combine_history(memory: Any, factor: float, target: Any) -> None:
    """target = factor times the weighted sum of the history after the step."""
    clear(target)
    for j in range(int(memory.numbers[TAKEN]) + 1):
        add(target, factor * memory.numbers[VALUES + j], row(memory.stages, j))


def write_output_weights(tables: BDFTables, numbers: Any, theta: float) -> None:
    """The weights of the history after a step in the state at a fraction of the step."""
    k = int(numbers[TAKEN])
    if tables.flags[VALUES_FORM]:
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
    if tables.flags[VALUES_FORM]:
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
