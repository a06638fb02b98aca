"""The sparse factors of I - c J and its solutions, by the plan of elimination.py.

The pivots lie on the diagonal, and a test guards them (Duff, Erisman & Reid, Direct Methods for
Sparse Matrices, sec. 5.2): the pivot must not be smaller than THRESHOLD times the largest entry
of its row, or of its column, in the matrix that is left. Each elimination then multiplies the
largest entry of a row or column by 1 + 1 / THRESHOLD at most.

The functions take the arrays of a Plan, and besides them:

- factors: by the places of Plan.columns, L with ones on its diagonal that are not stored, the
  reciprocals of the pivots, and U;
- corner: (m, m), what is left of the last rows, or their dense factors;
- vector: (n,), a row or a solution in the order of the pivots;
- bounds: (n,), of the entries in the columns of L.

They take arrays one by one, because numba then compiles them once for the loops of both
directions.
"""

from __future__ import annotations

import math
from typing import Any

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


def eliminate_sparse(
    rows: Any,
    entries: Any,
    columns: Any,
    values: Any,
    c: float,
    factors: Any,
    corner: Any,
    vector: Any,
    bounds: Any,
) -> bool:
    """Write the factors of I - c J, and what is left of the matrix into its corner. Returns False
    if a pivot is too small, zero or not finite. values: (nnz,) of J."""
    n = len(vector)
    inner = n - len(corner)
    for i in range(n):
        for p in range(rows[i, FACTOR], rows[i + 1, FACTOR]):
            vector[columns[p]] = 0.0
        if i >= inner:
            for j in range(inner, n):
                vector[j] = 0.0
        vector[i] = 1.0
        for p in range(rows[i, ENTRY], rows[i + 1, ENTRY]):
            vector[entries[p, COLUMN]] -= c * values[entries[p, PLACE]]
        if not subtract_rows(rows, columns, i, factors, vector, bounds):
            return False
        if i >= inner:
            for j in range(inner, n):
                corner[i - inner, j - inner] = vector[j]
        elif not write_row(rows, columns, i, factors, vector, bounds):
            return False
    return True


def subtract_rows(rows: Any, columns: Any, i: int, factors: Any, vector: Any, bounds: Any) -> bool:
    """Subtract the rows of the earlier pivots from row i, and write row i of L. Returns whether its
    entries are small enough."""
    for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
        k = columns[p]
        diagonal = rows[k, DIAGONAL]
        factor = vector[k] * factors[diagonal]
        factors[p] = factor
        if not abs(factor) <= bounds[k]:
            return False
        if factor != 0.0:
            for q in range(diagonal + 1, rows[k + 1, FACTOR]):
                vector[columns[q]] -= factor * factors[q]
    return True


def write_row(rows: Any, columns: Any, i: int, factors: Any, vector: Any, bounds: Any) -> bool:
    """Write row i of U, and the bound of column i of L. Returns whether there is a pivot."""
    diagonal = rows[i, DIAGONAL]
    pivot = vector[i]
    if pivot == 0.0 or not math.isfinite(pivot):
        return False
    largest = 0.0
    for p in range(diagonal + 1, rows[i + 1, FACTOR]):
        value = vector[columns[p]]
        factors[p] = value
        largest = max(largest, abs(value))
    factors[diagonal] = 1.0 / pivot
    bounds[i] = 1.0 / THRESHOLD
    if abs(pivot) >= THRESHOLD * largest:
        bounds[i] = math.inf
    return True


def solve_lower(rows: Any, columns: Any, factors: Any, vector: Any, b: Any, factor: float) -> None:
    """Solve with L: the first half of a solution for factor b, (n,). The last part of the vector is
    then the right-hand side of the corner."""
    for i in range(len(b)):
        total = factor * b[rows[i, COMPONENT]]
        for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
            total -= factors[p] * vector[columns[p]]
        vector[i] = total


def solve_upper(rows: Any, columns: Any, factors: Any, vector: Any, b: Any, inner: int) -> None:
    """Solve with U: the second half of a solution, when that of the corner is known. Writes b.
    inner: the number of sparse pivots."""
    for i in range(len(b) - 1, -1, -1):
        total = vector[i]
        if i < inner:
            diagonal = rows[i, DIAGONAL]
            for p in range(diagonal + 1, rows[i + 1, FACTOR]):
                total -= factors[p] * vector[columns[p]]
            total *= factors[diagonal]
            vector[i] = total
        b[rows[i, COMPONENT]] = total


def solve_upper_transposed(
    rows: Any, columns: Any, factors: Any, vector: Any, b: Any, inner: int
) -> None:
    """Solve with the transpose of U: the first half of a transposed solution, as solve_lower."""
    for i in range(len(b)):
        vector[i] = b[rows[i, COMPONENT]]
    for i in range(inner):
        diagonal = rows[i, DIAGONAL]
        value = vector[i] * factors[diagonal]
        vector[i] = value
        for p in range(diagonal + 1, rows[i + 1, FACTOR]):
            vector[columns[p]] -= factors[p] * value


def solve_lower_transposed(rows: Any, columns: Any, factors: Any, vector: Any, b: Any) -> None:
    """Solve with the transpose of L: the second half of a transposed solution. Writes b."""
    for i in range(len(b) - 1, -1, -1):
        value = vector[i]
        b[rows[i, COMPONENT]] = value
        for p in range(rows[i, FACTOR], rows[i, DIAGONAL]):
            vector[columns[p]] -= factors[p] * value
