"""The sparse factors of M - c J and its solutions, by the plan of elimination.py. M is a diagonal
mass matrix or the identity.

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
    diagonal: Any,
    lift: float,
    factors: Any,
    corner: Any,
    vector: Any,
    bounds: Any,
) -> bool:
    """Write the factors of M - c J, and what is left of the matrix into its corner. Returns False
    if a pivot is too small, zero or not finite.

    values: (nnz,) of J. diagonal: its first n numbers are those of M; without numbers M is the
    identity. lift: the factor of the rows without a number in M (mass.choose_lift).
    """
    n = len(vector)
    inner = n - len(corner)
    for i in range(n):
        first = rows[i, FACTOR]
        last = rows[i + 1, FACTOR]
        for p in range(first, last):
            vector[columns[p]] = 0.0
        if i >= inner:
            for j in range(inner, n):
                vector[j] = 0.0
        vector[i] = 1.0
        weight = c
        if len(diagonal) > 0:
            vector[i] = diagonal[rows[i, COMPONENT]]
            if vector[i] == 0.0:
                weight = c * lift
        for p in range(rows[i, ENTRY], rows[i + 1, ENTRY]):
            vector[entries[p, COLUMN]] -= weight * values[entries[p, PLACE]]
        if not write_row(rows, columns, i, first, last, factors, vector, bounds):
            return False
        if i >= inner:
            for j in range(inner, n):
                corner[i - inner, j - inner] = vector[j]
    return True


def write_row(
    rows: Any,
    columns: Any,
    i: int,
    first: int,
    last: int,
    factors: Any,
    vector: Any,
    bounds: Any,
) -> bool:
    """Subtract the rows of the earlier pivots from row i, and write its factors at first to last -
    1: row i of L and of U, and the bound of column i of L. Returns whether the entries of L are
    small enough, and whether there is a pivot."""
    diagonal = rows[i, DIAGONAL]
    for p in range(first, diagonal):
        k = columns[p]
        pivot = rows[k, DIAGONAL]
        factor = vector[k] * factors[pivot]
        factors[p] = factor
        if not abs(factor) <= bounds[k]:
            return False
        for q in range(pivot + 1, rows[k + 1, FACTOR]):
            vector[columns[q]] -= factor * factors[q]
    if diagonal == last:  # a row of the corner
        return True
    size = abs(vector[i])
    if not 0.0 < size < math.inf:
        return False
    largest = 0.0
    for p in range(diagonal + 1, last):
        value = vector[columns[p]]
        factors[p] = value
        largest = max(largest, abs(value))
    factors[diagonal] = 1.0 / vector[i]
    bounds[i] = 1.0 / THRESHOLD
    if size >= THRESHOLD * largest:
        bounds[i] = math.inf
    return True
