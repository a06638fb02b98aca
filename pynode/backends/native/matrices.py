"""The matrix I - c J of an implicit step: its factors and its solutions, for dense matrices."""

from __future__ import annotations

import numpy as np

PANEL = 8  # columns that are eliminated together; a multiple of 4


def fill(
    matrix: np.ndarray, c: float, values: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> None:
    """matrix = I - c J, (n, n). values: of J at rows and columns, (nnz,)."""
    n = len(matrix)
    for i in range(n):
        for j in range(n):
            matrix[i, j] = 0.0
        matrix[i, i] = 1.0
    for k in range(len(rows)):
        matrix[rows[k], columns[k]] -= c * values[k]


def factorise(matrix: np.ndarray, pivots: np.ndarray) -> bool:
    """Replace the matrix by its factors, P A = L U. Returns whether no pivot is zero.

    Gaussian elimination with partial pivoting, PANEL columns at a time: pivots[k] is the row that
    changed places with row k. Golub & Van Loan, Matrix Computations, sec. 3.4 and 3.2.11.
    """
    n = len(matrix)
    regular = True
    for first in range(0, n, PANEL):
        last = min(first + PANEL, n)
        for k in range(first, last):
            regular &= eliminate(matrix, pivots, k, last)
        if last < n:
            update(matrix, first, last)
    return regular


def eliminate(matrix: np.ndarray, pivots: np.ndarray, k: int, last: int) -> bool:
    """Choose the pivot of column k, and eliminate the column from the columns before last. Returns
    whether the pivot is not zero."""
    n = len(matrix)
    largest = k
    size = abs(matrix[k, k])
    for i in range(k + 1, n):
        if abs(matrix[i, k]) > size:
            largest = i
            size = abs(matrix[i, k])
    pivots[k] = largest
    if largest != k:
        for j in range(n):
            kept = matrix[k, j]
            matrix[k, j] = matrix[largest, j]
            matrix[largest, j] = kept
    if matrix[k, k] == 0.0:
        return False
    inverse = 1.0 / matrix[k, k]
    for i in range(k + 1, n):
        factor = matrix[i, k] * inverse
        matrix[i, k] = factor
        if factor != 0.0:
            for j in range(k + 1, last):
                matrix[i, j] -= factor * matrix[k, j]
    return True


def update(matrix: np.ndarray, first: int, last: int) -> None:
    """Eliminate the columns first to last - 1, which are PANEL, from the columns after them.

    Four at a time, because the speed of memory limits this loop.
    """
    n = len(matrix)
    for k in range(first, last):
        for i in range(k + 1, last):
            factor = matrix[i, k]
            for j in range(last, n):
                matrix[i, j] -= factor * matrix[k, j]
    for i in range(last, n):
        for k in range(first, last, 4):
            f0 = matrix[i, k]
            f1 = matrix[i, k + 1]
            f2 = matrix[i, k + 2]
            f3 = matrix[i, k + 3]
            for j in range(last, n):
                matrix[i, j] -= (
                    f0 * matrix[k, j]
                    + f1 * matrix[k + 1, j]
                    + f2 * matrix[k + 2, j]
                    + f3 * matrix[k + 3, j]
                )


def solve(matrix: np.ndarray, pivots: np.ndarray, b: np.ndarray, factor: float) -> None:
    """b = factor A^-1 b, (n,), from the factors of A."""
    n = len(matrix)
    for k in range(n):
        kept = b[pivots[k]]
        b[pivots[k]] = b[k]
        b[k] = factor * kept
    for i in range(1, n):
        total = b[i]
        for j in range(i):
            total -= matrix[i, j] * b[j]
        b[i] = total
    for i in range(n - 1, -1, -1):
        total = b[i]
        for j in range(i + 1, n):
            total -= matrix[i, j] * b[j]
        b[i] = total / matrix[i, i]


def solve_transposed(matrix: np.ndarray, pivots: np.ndarray, b: np.ndarray) -> None:
    """b = A^-T b, (n,), from the factors of A."""
    n = len(matrix)
    for i in range(n):
        b[i] /= matrix[i, i]
        for j in range(i + 1, n):
            b[j] -= matrix[i, j] * b[i]
    for i in range(n - 1, 0, -1):
        for j in range(i):
            b[j] -= matrix[i, j] * b[i]
    for k in range(n - 1, -1, -1):
        kept = b[pivots[k]]
        b[pivots[k]] = b[k]
        b[k] = kept
