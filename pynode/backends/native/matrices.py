"""The matrix I - c J of an implicit step: its factors and its solutions, for dense matrices."""

from __future__ import annotations

import numpy as np


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

    Gaussian elimination with partial pivoting by rows: pivots[k] is the row that changed places
    with row k. Golub & Van Loan, Matrix Computations, sec. 3.4.
    """
    n = len(matrix)
    regular = True
    for k in range(n):
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
            regular = False
            continue
        inverse = 1.0 / matrix[k, k]
        for i in range(k + 1, n):
            factor = matrix[i, k] * inverse
            matrix[i, k] = factor
            if factor != 0.0:
                for j in range(k + 1, n):
                    matrix[i, j] -= factor * matrix[k, j]
    return regular


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
