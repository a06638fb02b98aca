"""The LU factors of the native engine against NumPy. The functions run as Python here."""

import numpy as np
import pytest

from pynode.backends.native.matrices import (
    PANEL,
    factorise,
    fill,
    solve,
    solve_transposed,
)

SIZES = [1, 2, 3, PANEL - 1, PANEL, PANEL + 1, 2 * PANEL, 2 * PANEL + 3]


def factors(matrix):
    lu = matrix.copy()
    pivots = np.zeros(len(matrix), np.int64)
    return lu, pivots, factorise(lu, pivots)


def random_matrix(n):
    """Well conditioned after a permutation, so that every column needs another pivot row."""
    generator = np.random.default_rng(n)
    matrix = generator.normal(size=(n, n)) + 4 * n * np.eye(n)
    return matrix[generator.permutation(n)]


@pytest.mark.parametrize("n", SIZES)
def test_solves(n):
    matrix = random_matrix(n)
    b = np.arange(1.0, n + 1)
    lu, pivots, regular = factors(matrix)
    assert regular
    x = b.copy()
    solve(lu, pivots, x, 0.5)
    np.testing.assert_allclose(matrix @ x, 0.5 * b, rtol=1e-12)
    x = b.copy()
    solve_transposed(lu, pivots, x)
    np.testing.assert_allclose(matrix.T @ x, b, rtol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_a_zero_column_is_singular(n):
    matrix = random_matrix(n)
    matrix[:, n // 2] = 0.0
    assert not factors(matrix)[2]


def test_pivots_bound_the_factors():
    """Without row exchanges the first pivot, 1e-20, would destroy all digits."""
    matrix = np.array([[1e-20, 1.0], [1.0, 1.0]])
    lu, pivots, _ = factors(matrix)
    x = np.array([1.0, 2.0])
    solve(lu, pivots, x, 1.0)
    np.testing.assert_allclose(x, [1.0, 1.0], rtol=1e-14)


def test_fill():
    matrix = np.full((3, 3), np.nan)
    rows = np.array([0, 1, 2, 2])
    columns = np.array([1, 1, 0, 2])
    fill(matrix, 0.5, np.array([2.0, 4.0, 6.0, 8.0]), rows, columns)
    assert matrix.tolist() == [[1.0, -1.0, 0.0], [0.0, -1.0, 0.0], [-3.0, 0.0, -3.0]]
