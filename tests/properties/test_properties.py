"""What holds for every problem, tried on random linear ones, stiff and not; derandomised, the same
each time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pynode import solve
from tests.support.cases import FAMILIES, tensor

every_family = pytest.mark.parametrize("method", FAMILIES)
few = settings(max_examples=12, deadline=None, derandomize=True, database=None)


@st.composite
def systems(draw, stiffness=1.0):
    """(matrix (3, 3) with eigenvalues of negative real part, down to -stiffness; start (3,))."""
    seed = draw(st.integers(0, 2**31))
    fast = draw(st.floats(0.5, stiffness)) if stiffness > 0.5 else 0.5
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))[0]
    upper = torch.triu(torch.randn(3, 3, dtype=torch.float64, generator=generator), diagonal=1)
    matrix = basis @ (upper - torch.diag(tensor(0.1, 0.7, fast))) @ basis.T
    return matrix, torch.randn(3, dtype=torch.float64, generator=generator)


@every_family
@few
@given(system=systems(stiffness=50.0))
def test_the_matrix_exponential(method, system):
    matrix, y0 = system
    t = tensor(0.0, 0.3, 2.0)
    y = solve(lambda t, y: matrix @ y, y0, t, method=method, rtol=1e-7, atol=1e-9).y
    expected = torch.linalg.matrix_exp(t[:, None, None] * matrix) @ y0
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@every_family
@few
@given(system=systems(stiffness=20.0))
def test_the_gradient_of_the_matrix_exponential(method, system):
    matrix, y0 = system
    rate = tensor(1.0)[0].requires_grad_()
    y0 = y0.clone().requires_grad_()
    y = solve(
        lambda t, y: rate * (matrix @ y), y0, [0.0, 1.5], method=method, rtol=1e-8, atol=1e-10
    ).y[-1]
    transition = torch.linalg.matrix_exp(1.5 * matrix)
    weights = tensor(1.0, -2.0, 0.5)
    found = torch.autograd.grad((weights * y).sum(), [y0, rate])
    torch.testing.assert_close(found[0], transition.T @ weights, rtol=1e-4, atol=1e-5)
    expected = 1.5 * weights @ (matrix @ transition @ y0.detach())
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-5)


@every_family
@few
@given(system=systems(stiffness=20.0), power=st.integers(-20, 20))
def test_units_of_the_state_do_not_matter(method, system, power):
    """States and atol in other units (a power of two, so that rounding scales too): the same steps,
    to the bit."""
    matrix, y0 = system
    unit = 2.0**power

    def run(unit):
        return solve(
            lambda t, y: matrix @ y,
            y0 * unit,
            [0.0, 0.7, 2.0],
            method=method,
            rtol=1e-5,
            atol=1e-7 * unit,
        )

    plain, scaled = run(1.0), run(unit)
    assert scaled.stats == plain.stats
    assert torch.equal(scaled.y, unit * plain.y)


@every_family
@few
@given(system=systems(stiffness=20.0), power=st.integers(-20, 20))
def test_units_of_time_do_not_matter(method, system, power):
    """Given the first step, which the automatic choice takes from units."""
    matrix, y0 = system
    unit = 2.0**power

    def run(unit):
        times = [0.0, 0.7 * unit, 2.0 * unit]
        options = {"method": method, "rtol": 1e-5, "atol": 1e-7, "first_step": 1e-3 * unit}
        return solve(lambda t, y: matrix @ y / unit, y0, times, **options)

    plain, scaled = run(1.0), run(unit)
    assert scaled.stats == plain.stats
    torch.testing.assert_close(scaled.y, plain.y, rtol=1e-12, atol=1e-14)


@every_family
@few
@given(system=systems(stiffness=20.0), order=st.permutations(range(3)))
def test_the_order_of_components_does_not_matter(method, system, order):
    matrix, y0 = system
    plain = solve(lambda t, y: matrix @ y, y0, [0.0, 2.0], method=method, rtol=1e-6).y
    moved = solve(
        lambda t, y: matrix[order][:, order] @ y, y0[order], [0.0, 2.0], method=method, rtol=1e-6
    ).y
    torch.testing.assert_close(moved, plain[:, order], rtol=1e-6, atol=1e-8)


@every_family
@few
@given(system=systems())
def test_there_and_back(method, system):
    matrix, y0 = system
    there = solve(lambda t, y: matrix @ y, y0, [0.0, 1.0], method=method, rtol=1e-8, atol=1e-8).y[
        -1
    ]
    back = solve(lambda t, y: matrix @ y, there, [1.0, 0.0], method=method, rtol=1e-8, atol=1e-8).y[
        -1
    ]
    torch.testing.assert_close(back, y0, rtol=1e-5, atol=1e-5)
