"""The sparse factors of I - c J and its solutions, by the plan of elimination.py.

The pivots lie on the diagonal, and a test guards them (Duff, Erisman & Reid, Direct Methods for
Sparse Matrices, sec. 5.2): the pivot must not be smaller than THRESHOLD times the largest entry
of its row, or of its column, in the matrix that is left. Each elimination then multiplies the
largest entry of a row or column by 1 + 1 / THRESHOLD at most.

``memory`` has the arrays of a Plan as plan_rows, plan_entries and plan_columns, and besides them:

- factors: by the places of plan_columns, L with ones on its diagonal that are not stored, the
  reciprocals of the pivots, and U;
- corner, corner_pivots: (m, m) and (m,), the dense factors of the last rows;
- ordered: (2, n), a vector in the order of the pivots, and bounds of the entries of L.
"""

from __future__ import annotations

import math
from typing import Any

from .machine import row

# Columns of Plan.rows: the component of the system, the first entry of the matrix, the first factor
# and the factor on the diagonal.
COMPONENT = 0
ENTRY = 1
FACTOR = 2
DIAGONAL = 3
# Columns of Plan.entries: the place among the nonzeros of the Jacobian, and the column.
PLACE = 0
COLUMN = 1

THRESHOLD = 0.01
# Rows of Memory.ordered.
VECTOR = 0
BOUNDS = 1


def eliminate_sparse(memory: Any, c: float) -> bool:
    """Write the factors of I - c J, and what is left of the matrix into its corner. Returns False
    if a pivot is too small, zero or not finite."""
    n = len(memory.plan_rows) - 1
    inner = n - len(memory.corner)
    vector = row(memory.ordered, VECTOR)
    for i in range(n):
        read_row(memory, c, i, inner, vector)
        if not eliminate_row(memory, i, vector):
            return False
        if i < inner:
            if not write_row(memory, i, vector):
                return False
        else:
            for j in range(inner, n):
                memory.corner[i - inner, j - inner] = vector[j]
    return True


def read_row(memory: Any, c: float, i: int, inner: int, vector: Any) -> None:
    """vector = row i of I - c J, where its factors are."""
    rows = memory.plan_rows
    for p in range(rows[i, FACTOR], rows[i + 1, FACTOR]):
        vector[memory.plan_columns[p]] = 0.0
    if i >= inner:
        for j in range(inner, len(vector)):
            vector[j] = 0.0
    vector[i] = 1.0
    for p in range(rows[i, ENTRY], rows[i + 1, ENTRY]):
        place = memory.plan_entries[p, PLACE]
        vector[memory.plan_entries[p, COLUMN]] -= c * memory.jac[place]


def eliminate_row(memory: Any, i: int, vector: Any) -> bool:
    """Subtract the rows of the earlier pivots, and write row i of L. Returns whether its entries
    are small enough."""
    rows = memory.plan_rows
    columns = memory.plan_columns
    factors = memory.factors
    for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
        k = columns[p]
        diagonal = rows[k, DIAGONAL]
        factor = vector[k] * factors[diagonal]
        factors[p] = factor
        if not abs(factor) <= memory.ordered[BOUNDS, k]:
            return False
        if factor != 0.0:
            for q in range(diagonal + 1, rows[k + 1, FACTOR]):
                vector[columns[q]] -= factor * factors[q]
    return True


def write_row(memory: Any, i: int, vector: Any) -> bool:
    """Write row i of U, and the bound of column i of L. Returns whether there is a pivot."""
    diagonal = memory.plan_rows[i, DIAGONAL]
    pivot = vector[i]
    if pivot == 0.0 or not math.isfinite(pivot):
        return False
    largest = 0.0
    for p in range(diagonal + 1, memory.plan_rows[i + 1, FACTOR]):
        value = vector[memory.plan_columns[p]]
        memory.factors[p] = value
        largest = max(largest, abs(value))
    memory.factors[diagonal] = 1.0 / pivot
    memory.ordered[BOUNDS, i] = 1.0 / THRESHOLD
    if abs(pivot) >= THRESHOLD * largest:
        memory.ordered[BOUNDS, i] = math.inf
    return True


def solve_lower(memory: Any, b: Any, factor: float) -> None:
    """Solve with L: the first half of a solution for factor b, (n,). Writes row VECTOR of
    memory.ordered; its last part is the right-hand side of the corner."""
    rows = memory.plan_rows
    columns = memory.plan_columns
    factors = memory.factors
    x = row(memory.ordered, VECTOR)
    for i in range(len(b)):
        total = factor * b[rows[i, COMPONENT]]
        for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
            total -= factors[p] * x[columns[p]]
        x[i] = total


def solve_upper(memory: Any, b: Any) -> None:
    """Solve with U: the second half of a solution, when that of the corner is known. Writes b."""
    rows = memory.plan_rows
    columns = memory.plan_columns
    factors = memory.factors
    n = len(b)
    inner = n - len(memory.corner)
    x = row(memory.ordered, VECTOR)
    for i in range(n - 1, -1, -1):
        total = x[i]
        if i < inner:
            diagonal = rows[i, DIAGONAL]
            for p in range(diagonal + 1, rows[i + 1, FACTOR]):
                total -= factors[p] * x[columns[p]]
            total *= factors[diagonal]
            x[i] = total
        b[rows[i, COMPONENT]] = total


def solve_upper_transposed(memory: Any, b: Any) -> None:
    """Solve with the transpose of U: the first half of a transposed solution, as solve_lower."""
    rows = memory.plan_rows
    columns = memory.plan_columns
    factors = memory.factors
    n = len(b)
    inner = n - len(memory.corner)
    x = row(memory.ordered, VECTOR)
    for i in range(n):
        x[i] = b[rows[i, COMPONENT]]
    for i in range(inner):
        diagonal = rows[i, DIAGONAL]
        value = x[i] * factors[diagonal]
        x[i] = value
        for p in range(diagonal + 1, rows[i + 1, FACTOR]):
            x[columns[p]] -= factors[p] * value


def solve_lower_transposed(memory: Any, b: Any) -> None:
    """Solve with the transpose of L: the second half of a transposed solution. Writes b."""
    rows = memory.plan_rows
    columns = memory.plan_columns
    factors = memory.factors
    x = row(memory.ordered, VECTOR)
    for i in range(len(b) - 1, -1, -1):
        value = x[i]
        b[rows[i, COMPONENT]] = value
        for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
            x[columns[p]] -= factors[p] * value
