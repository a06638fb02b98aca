"""Systems with M - c J in compiled code, for mass matrices of every kind."""

import types
from fractions import Fraction

import numpy as np
import pytest
import torch

from pynode.algebra.mass import Mass
from pynode.backends.native.blocks import Own
from pynode.backends.native.elimination import plan
from pynode.backends.native.linear import (
    factorise_system,
    linear_arrays,
    solve_system,
    solve_system_transposed,
)
from pynode.backends.native.mass import (
    INVERSE,
    MASS,
    PROJECTOR,
    NativeMass,
    add_product,
    write_transposed,
)
from pynode.backends.native.sparse import COMPONENT
from tests.support.mass_matrices import masses


def memory_of(jacobian, mass, sparse=False):
    """The arrays of a loop for this Jacobian and this mass matrix, a tensor."""
    n = len(jacobian)
    rows, columns = np.nonzero(jacobian)
    native = NativeMass(Mass(mass))
    arrays = {
        name: np.empty(array.shape, array.dtype) if isinstance(array, Own) else array
        for name, array in linear_arrays(n, rows, columns, np.float64, sparse, native).items()
    }
    return types.SimpleNamespace(
        jac=jacobian[rows, columns],
        rows=rows,
        columns=columns,
        matrix=np.empty((n, n)),
        pivots=np.zeros(n, np.int64),
        **arrays,
    )


def full(mass):
    """M as a matrix, from a matrix or a diagonal."""
    return (torch.diag(mass) if mass.dim() == 1 else mass).numpy()


@pytest.mark.parametrize("kind", ["regular", "diagonal", "singular"])
def test_products(kind):
    mass = Mass(masses()[kind][1])
    memory = memory_of(np.eye(4), mass.given)
    v = np.random.default_rng(0).normal(size=4)
    operators = {MASS: mass.to_dense(), INVERSE: mass.pinv_apply_columns(torch.eye(4).double())}
    if mass.singular:
        operators[PROJECTOR] = mass.projector
    for operator, matrix in operators.items():
        product = np.ones(4)
        add_product(memory, operator, 2.0, v, product)
        np.testing.assert_allclose(product, 1 + 2 * matrix.numpy() @ v, atol=1e-14)
        write_transposed(memory, operator, v)
        np.testing.assert_allclose(memory.mass_product, matrix.numpy().T @ v, atol=1e-14)


@pytest.mark.parametrize("kind", ["regular", "diagonal", "singular"])
@pytest.mark.parametrize("c", [10.0, 0.1, 1e-5])
def test_dense_systems(kind, c):
    mass = masses()[kind][1]
    jacobian = np.random.default_rng(1).normal(size=(4, 4))
    memory = memory_of(jacobian, mass)
    assert factorise_system(memory, c)
    check(memory, full(mass) - c * jacobian, c)


def check(memory, matrix, c):
    """The factors solve systems with the matrix and its transpose. c: rounding errors of the matrix
    are that much larger in the algebraic components."""
    x = np.random.default_rng(2).normal(size=len(matrix))
    b = matrix @ x
    solve_system(memory, b, 2.0)
    np.testing.assert_allclose(b, 2 * x, rtol=1e-12 / min(c, 1.0))
    b = matrix.T @ x
    solve_system_transposed(memory, b)
    np.testing.assert_allclose(matrix.T @ b, matrix.T @ x, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("c", [1.0, 1e-6])
@pytest.mark.parametrize("own", [True, False])
def test_sparse_systems(c, own):
    """own: whether each algebraic equation has its own unknown. Otherwise the diagonal has zeros,
    and these rows stay for the elimination with exchanges."""
    n = 40
    numbers = np.random.default_rng(3)
    jacobian = np.diag(-1 - numbers.random(n)) + np.diag(numbers.random(n - 1), -1)
    half = n // 2
    algebraic = np.eye(half)
    if not own:
        algebraic = np.roll(algebraic, 1, axis=1)
    jacobian[half:] = 0.0
    jacobian[half:, half:] = algebraic
    jacobian[half:, :half] += np.eye(half)
    mass = torch.cat((torch.ones(half), torch.zeros(half))).double()
    memory = memory_of(jacobian, mass, sparse=True)
    assert len(memory.plan_rows)
    assert (len(memory.corner) >= half) is not own
    assert factorise_system(memory, c)
    check(memory, full(mass) - c * jacobian, c)


def test_components_without_an_entry_are_no_pivots():
    rows = columns = np.arange(16)
    keep = rows < 8
    found = plan(16, rows[keep], columns[keep], frozenset(range(12, 16)))
    pivots = found.rows[: 16 - found.corner, COMPONENT]
    assert len(pivots) and set(pivots) <= set(range(12))


def test_a_small_c_keeps_the_algebraic_equations():
    """The rows of the algebraic equations are c J. Rounding errors of the other row would take six
    of their digits."""
    jacobian = np.array([[1e-6, -2e-6], [1e3, -1.0]])
    c = 1e-13
    memory = memory_of(jacobian, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert factorise_system(memory, c)
    b = np.array([3e-6 * c, 1.0])
    exact = exact_solution([[0, 0], [0, 1]], jacobian, c, b)
    solve_system(memory, b, 1.0)
    np.testing.assert_allclose(b, exact, rtol=1e-12)


def exact_solution(mass, jacobian, c, b):
    """The solution of a system of two equations, in rational numbers."""
    step = Fraction(c)
    rows = [
        [Fraction(mass[i][j]) - step * Fraction(float(jacobian[i, j])) for j in range(2)]
        for i in range(2)
    ]
    (a11, a12), (a21, a22) = rows
    b1, b2 = map(Fraction, map(float, b))
    determinant = a11 * a22 - a12 * a21
    return [
        float((b1 * a22 - b2 * a12) / determinant),
        float((a11 * b2 - a21 * b1) / determinant),
    ]
