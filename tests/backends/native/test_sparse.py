"""Sparse elimination in the native engine against NumPy. The functions run as Python here."""

import gc
import math
import types

import numpy as np
import pytest

from pynode.backends.native import elimination
from pynode.backends.native.blocks import Own
from pynode.backends.native.elimination import DENSE, SMALLEST, plan, plan_of
from pynode.backends.native.linear import (
    SPARSE,
    factorise_system,
    linear_arrays,
    solve_system,
    solve_system_transposed,
)
from pynode.backends.native.sparse import THRESHOLD

C = 0.25  # of I - C J


def chain(n=24):
    """Each component and its two neighbours."""
    return np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1) > 0


def cascade(n=24):
    """Each component depends on the one before, the first one on none."""
    return np.eye(n) + np.eye(n, k=-1) > 0


def arrow(n=24):
    """The first component is coupled to all others, which makes a full matrix if it goes first."""
    pattern = np.eye(n) > 0
    pattern[0] = True
    pattern[:, 0] = True
    return pattern


def grid(side=6):
    """A square grid and its four neighbours."""
    line = np.eye(side, k=1) + np.eye(side, k=-1)
    both = np.kron(line, np.eye(side)) + np.kron(np.eye(side), line)
    return both + np.eye(side * side) > 0


def scattered(n=40, seed=0):
    """An unsymmetric pattern at random. A part of the diagonal is not in it."""
    return np.random.default_rng(seed).random((n, n)) < 2.0 / n


PATTERNS = {
    "chain": chain(),
    "cascade": cascade(),
    "arrow": arrow(),
    "grid": grid(),
    "diagonal": np.eye(16) > 0,
    **{f"scattered {seed}": scattered(seed=seed) for seed in range(4)},
}


def system(jacobian, pattern=None, real=np.float64):
    """(memory, I - C J) as the loops have them. pattern: with entries that are zero by chance."""
    n = len(jacobian)
    rows, columns = np.nonzero(jacobian != 0 if pattern is None else pattern)
    arrays = {
        name: np.empty(array.shape, array.dtype) if isinstance(array, Own) else array
        for name, array in linear_arrays(n, rows, columns, real, sparse=True).items()
    }
    memory = types.SimpleNamespace(
        jac=jacobian[rows, columns].astype(real),
        rows=rows,
        columns=columns,
        matrix=np.empty((n, n), real),
        pivots=np.zeros(n, np.int64),
        **arrays,
    )
    return memory, np.eye(n) - C * jacobian


def random_jacobian(pattern, seed=1):
    """Numbers for a pattern, with which the pivots on the diagonal are large enough."""
    jacobian = np.random.default_rng(seed).normal(size=pattern.shape) * pattern
    return jacobian - np.diag(np.abs(jacobian).sum(1) * pattern.diagonal())


def assert_solves(memory, matrix, rtol=1e-10):
    """The factors in memory solve systems with the matrix and with its transpose."""
    b = np.random.default_rng(2).normal(size=len(matrix))
    x = b.copy()
    solve_system(memory, x, 0.5)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, 0.5 * b), rtol=rtol, atol=rtol)
    x = b.copy()
    solve_system_transposed(memory, x)
    np.testing.assert_allclose(x, np.linalg.solve(matrix.T, b), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", PATTERNS)
def test_solves(name):
    memory, matrix = system(random_jacobian(PATTERNS[name]), PATTERNS[name])
    assert factorise_system(memory, C)
    assert memory.pivots[0] == SPARSE
    assert_solves(memory, matrix)


@pytest.mark.parametrize("name", PATTERNS)
def test_without_a_corner(name, monkeypatch):
    """The same with every pivot sparse."""
    monkeypatch.setattr(elimination, "dense_step", lambda m: math.inf)
    monkeypatch.setattr(elimination, "ADVANTAGE", math.inf)
    memory, matrix = system(random_jacobian(PATTERNS[name]), PATTERNS[name])
    assert len(memory.corner) == 0
    assert factorise_system(memory, C)
    assert memory.pivots[0] == SPARSE
    assert_solves(memory, matrix)


def test_float32():
    memory, matrix = system(random_jacobian(grid()), real=np.float32)
    assert factorise_system(memory, C)
    assert memory.factors.dtype == np.float32
    assert_solves(memory, matrix, 1e-4)


@pytest.mark.parametrize("size", [0.0, 1e-12, THRESHOLD / 2])
def test_small_pivots_leave_it_to_dense_elimination(size):
    """All pivots on the diagonal are small beside the entries of their rows and columns."""
    pattern = chain()
    jacobian = 8.0 * pattern
    np.fill_diagonal(jacobian, (1.0 - 2.0 * size) / C)
    memory, matrix = system(jacobian)
    assert factorise_system(memory, C)
    assert memory.pivots[0] != SPARSE
    assert_solves(memory, matrix)
    memory.jac[:] = random_jacobian(pattern)[pattern]
    assert factorise_system(memory, C)
    assert memory.pivots[0] == SPARSE
    assert_solves(memory, np.eye(len(pattern)) - C * random_jacobian(pattern))


@pytest.mark.parametrize("place", ["row", "column"])
def test_units(place):
    """Units of a component change no decision: large entries in its row alone, or in its column."""
    jacobian = random_jacobian(chain())
    row, column = (5, slice(None)) if place == "row" else (slice(None), 5)
    diagonal = jacobian[5, 5]
    jacobian[row, column] *= 1e6
    jacobian[5, 5] = diagonal
    memory, matrix = system(jacobian)
    assert factorise_system(memory, C)
    assert memory.pivots[0] == SPARSE
    b = np.ones(len(matrix))
    x = b.copy()
    solve_system(memory, x, 1.0)
    size = np.abs(matrix) @ np.abs(x) + np.abs(b)
    assert np.all(np.abs(matrix @ x - b) <= 1e-13 * size)


@pytest.mark.parametrize("component", [0, 7, 23])
def test_a_singular_matrix(component):
    jacobian = random_jacobian(chain())
    jacobian[component] = 0.0
    jacobian[component, component] = 1.0 / C
    memory, _ = system(jacobian, chain())
    assert not factorise_system(memory, C)


def test_numbers_that_are_not_finite():
    """The dense elimination decides what becomes of them."""
    jacobian = random_jacobian(chain())
    jacobian[3, 4] = math.nan
    memory, _ = system(jacobian, chain())
    factorise_system(memory, C)
    x = np.ones(len(jacobian))
    solve_system(memory, x, 1.0)
    assert memory.pivots[0] != SPARSE
    assert not np.all(np.isfinite(x))


@pytest.mark.parametrize("name", ["chain", "cascade", "arrow", "diagonal"])
def test_no_fill(name):
    """These patterns can be eliminated without new entries."""
    pattern = PATTERNS[name]
    made = plan(len(pattern), *np.nonzero(pattern))
    assert made is not DENSE
    assert len(made.columns) <= np.count_nonzero(pattern)
    components = made.rows[:-1, elimination.COMPONENT]
    assert sorted(components) == list(range(len(pattern)))


def test_dense_and_small_patterns_stay_dense():
    full = np.nonzero(np.ones((40, 40)))
    assert plan_of(40, *full) is DENSE
    small = np.nonzero(np.eye(SMALLEST - 1))
    assert plan_of(SMALLEST - 1, *small) is DENSE
    memory, matrix = system(random_jacobian(np.ones((40, 40)) > 0))
    assert factorise_system(memory, C)
    assert memory.pivots[0] != SPARSE
    assert_solves(memory, matrix)


def test_a_pattern_has_one_plan():
    rows, columns = np.nonzero(grid())
    first = plan_of(36, rows, columns)
    assert plan_of(36, rows, columns) is first
    number = id(rows)
    assert (number, frozenset()) in elimination._plans
    del rows, columns
    gc.collect()
    assert (number, frozenset()) not in elimination._plans
