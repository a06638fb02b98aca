"""Sparse elimination, planned from the pattern of the Jacobian alone: which pivots, which fill.

The plan of a pattern eliminates its sparse pivots one after the other. What they leave is a dense
corner, which matrices.py factorises. sparse.py does both with numbers.
"""

from __future__ import annotations

import functools
import heapq
import math
import threading
import weakref
from typing import NamedTuple

import numpy as np

from .sparse import COMPONENT, DIAGONAL, ENTRY, FACTOR

# The rule that chooses between sparse and dense elimination. Times are in units of a multiplication
# and addition of the dense elimination, in which m rows and columns take m^2 + LINE m + STEP for
# their next pivot. A sparse pivot with r and c other entries in its row and column takes
# INDIRECT r c + ENTRIES (r + c) + PIVOT, and each of the m rows of the dense corner takes another
# COPY m + PIVOT. Measured on grids, chains and networks of 14 to 300 states.
LINE = 12.0
STEP = 20.0
INDIRECT = 2.5
ENTRIES = 30.0
PIVOT = 60.0
COPY = 2.0
SMALLEST = 12  # components; a smaller system is dense
ADVANTAGE = 0.8  # of the dense time: the sparse one must be shorter than this


class Plan(NamedTuple):
    """The elimination of one pattern of n components. Row and column k are those of pivot k.

    rows: (n + 1, 4); the last row ends the lists of the one before. entries: (nnz, 2), the entries
    of the Jacobian by rows. columns: the columns of the factors by rows, in rising order: those of
    L, of the diagonal and of U. A row of the corner has those of L alone. corner: rows that stay
    dense. All arrays are int64.
    """

    rows: np.ndarray
    entries: np.ndarray
    columns: np.ndarray
    corner: int


DENSE = Plan(np.empty((0, 4), np.int64), np.empty((0, 2), np.int64), np.empty(0, np.int64), 0)

_plans: dict[tuple[int, frozenset[int]], tuple[weakref.ref, Plan]] = {}
_lock = threading.Lock()


def plan_of(
    n: int, rows: np.ndarray, columns: np.ndarray, empty: frozenset[int] = frozenset()
) -> Plan:
    """The plan for M - c J, where J has nonzeros at rows and columns, (nnz,) int64 each, and M is
    diagonal. empty: the components without a number in M. DENSE if sparse elimination does not
    pay.

    It is made once for an array ``rows``, which must not change.
    """
    if n < SMALLEST:
        return DENSE
    key = (id(rows), empty)
    known = _plans.get(key)
    if known is not None and known[0]() is rows:
        return known[1]
    with _lock:
        known = _plans.get(key)
        if known is None or known[0]() is not rows:
            known = (
                weakref.ref(rows, functools.partial(_forget, key)),
                plan(n, rows, columns, empty),
            )
            _plans[key] = known
    return known[1]


def _forget(key, reference):
    known = _plans.get(key)
    if known is not None and known[0] is reference:
        del _plans[key]


def plan(
    n: int, rows: np.ndarray, columns: np.ndarray, empty: frozenset[int] = frozenset()
) -> Plan:
    """The plan for a pattern; DENSE if sparse elimination does not pay. empty: as in plan_of."""
    pivots, beside, below, time = choose_pivots(n, rows, columns, empty)
    inner = len(pivots)
    if time + corner_time(n - inner) > ADVANTAGE * dense_time(n):
        return DENSE
    chosen = np.array(pivots, np.int64)
    others = np.setdiff1d(np.arange(n), chosen)
    components = np.concatenate((chosen, others))
    position = np.empty(n, np.int64)
    position[components] = np.arange(n)
    upper = [(k, j) for k, pivot in enumerate(pivots) for j in beside[pivot]]
    lower = [(i, k) for k, pivot in enumerate(pivots) for i in below[pivot]]
    factors = [np.arange(inner) * (n + 1)]
    if upper:
        at, over = np.array(upper, np.int64).T
        factors.append(at * n + position[over])
    if lower:
        over, at = np.array(lower, np.int64).T
        factors.append(position[over] * n + at)
    places = np.sort(np.concatenate(factors))
    table = np.empty((n + 1, 4), np.int64)
    ends = np.arange(n + 1) * n
    table[:n, COMPONENT] = components
    table[n, COMPONENT] = n
    table[:, FACTOR] = np.searchsorted(places, ends)
    table[:inner, DIAGONAL] = np.searchsorted(places, np.arange(inner) * (n + 1))
    table[inner:n, DIAGONAL] = table[inner + 1 :, FACTOR]
    table[n, DIAGONAL] = len(places)
    wanted = position[rows] * n + position[columns]
    order = np.argsort(wanted, kind="stable")
    table[:, ENTRY] = np.searchsorted(wanted[order], ends)
    entries = np.stack((order, position[columns][order]), axis=1)
    return Plan(table, np.ascontiguousarray(entries), places % n, n - inner)


def choose_pivots(
    n: int, rows: np.ndarray, columns: np.ndarray, empty: frozenset[int] = frozenset()
) -> tuple[list[int], list[set[int]], list[set[int]], float]:
    """The pivots on the diagonal whose sparse elimination is faster than a dense one; for each
    component the other entries in its row and in its column when it is eliminated; and the time.
    empty: components without a number in M. They are no pivots if J has none there either.

    The next pivot is the one with the least fill (Markowitz, Management Science 3, 1957, 255-269;
    Duff, Erisman & Reid, Direct Methods for Sparse Matrices, sec. 7.2). They end where the dense
    elimination of the next pivot takes less time.
    """
    beside: list[set[int]] = [set() for _ in range(n)]
    below: list[set[int]] = [set() for _ in range(n)]
    absent = set(empty)
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        if i != j:
            beside[i].add(j)
            below[j].add(i)
        else:
            absent.discard(i)
    times = [sparse_time(len(beside[k]), len(below[k])) for k in range(n)]
    for k in absent:
        times[k] = math.inf
    queue = [(time, k) for k, time in enumerate(times)]
    heapq.heapify(queue)
    pivots: list[int] = []
    total = 0.0
    while queue:
        time, k = heapq.heappop(queue)
        if time != times[k]:
            continue
        if time >= dense_step(n - len(pivots)):
            break
        pivots.append(k)
        total += time
        times[k] = -1.0
        for i in below[k]:
            beside[i] |= beside[k]
            beside[i] -= {i, k}
        for j in beside[k]:
            below[j] |= below[k]
            below[j] -= {j, k}
        for i in (below[k] | beside[k]) - absent:
            times[i] = sparse_time(len(beside[i]), len(below[i]))
            heapq.heappush(queue, (times[i], i))
    return pivots, beside, below, total


def sparse_time(beside: int, below: int) -> float:
    """The time for a pivot with so many other entries in its row and in its column."""
    return INDIRECT * beside * below + ENTRIES * (beside + below) + PIVOT


def dense_step(m: int) -> float:
    """The time for a pivot of the dense elimination, with m rows left."""
    return m * (m + LINE) + STEP


def corner_time(m: int) -> float:
    """The time of the dense corner of m rows."""
    return dense_time(m) + m * (COPY * m + PIVOT)


def dense_time(n: int) -> float:
    """The time of the dense elimination of n rows: the sum of their steps."""
    return n * (n + 1) * ((2 * n + 1) / 6 + LINE / 2) + STEP * n
