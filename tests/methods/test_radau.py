"""Radau IIA: its numbers against the definition and the book, its transformed solves, its
controller."""

import math

import numpy as np
import pytest
import torch

from pynode import solve
from pynode.core.stats import Stats
from pynode.methods import registry
from pynode.methods.collocation import RadauIIA
from pynode.methods.order_conditions import rooted_trees
from pynode.methods.radau import Transformed
from tests.support.cases import Forced, prothero, tensor

TABLES = [registry.get(f"RadauIIA{order}").tableau for order in (3, 5, 9)]
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def test_three_stages_are_those_of_the_book():
    """Hairer & Wanner II, table IV.5.6 and sec. IV.8."""
    table, s6 = TABLES[1], math.sqrt(6)
    np.testing.assert_allclose(table.c, [(4 - s6) / 10, (4 + s6) / 10, 1], rtol=1e-14)
    a = [
        [(88 - 7 * s6) / 360, (296 - 169 * s6) / 1800, (-2 + 3 * s6) / 225],
        [(296 + 169 * s6) / 1800, (88 + 7 * s6) / 360, (-2 - 3 * s6) / 225],
        [(16 - s6) / 36, (16 + s6) / 36, 1 / 9],
    ]
    np.testing.assert_allclose(table.a, a, rtol=1e-13, atol=1e-15)
    gamma0 = 1 / (3 + 3 ** (2 / 3) - 3 ** (1 / 3))
    assert table.gamma0 == pytest.approx(gamma0, rel=1e-13)
    np.testing.assert_allclose(
        table.e, gamma0 / 3 * np.array([-13 - 7 * s6, -13 + 7 * s6, -1]), rtol=1e-11
    )


@every_table
def test_order_conditions(table):
    b = table.a[-1]
    for tree in rooted_trees(min(table.order, 8)):
        assert b @ tree.weights(table.a) == pytest.approx(1 / tree.density, abs=1e-13)
    for q in range(1, table.order + 1):  # up to its full order on quadratures, and no further
        assert b @ table.c ** (q - 1) == pytest.approx(1 / q, abs=1e-13)
    assert abs(b @ table.c**table.order - 1 / (table.order + 1)) > 1e-7
    for q in range(1, table.stages + 1):  # C(s): every stage integrates polynomials of degree s - 1
        np.testing.assert_allclose(table.a @ table.c ** (q - 1), table.c**q / q, atol=1e-14)


@every_table
def test_transformation(table):
    mu, transform, inverse = table.eigen
    block = inverse @ np.linalg.inv(table.a) @ transform
    expected = np.zeros_like(block)
    odd = table.stages % 2
    if odd:
        expected[0, 0] = mu[0]
    for k, value in enumerate(mu[odd:]):
        i = odd + 2 * k
        expected[i : i + 2, i : i + 2] = [[value.real, -value.imag], [value.imag, value.real]]
    np.testing.assert_allclose(block, expected, atol=1e-11)


@every_table
@pytest.mark.parametrize("n", [3, 60])
def test_transformed_solve_is_the_solve(table, n):
    s, h = table.stages, 0.3
    jac, b = torch.randn(n, n, dtype=torch.float64), torch.randn(s * n, dtype=torch.float64)
    full = torch.eye(s * n, dtype=torch.float64) - h * torch.kron(torch.as_tensor(table.a), jac)
    found = Transformed(table, jac, h, Stats()).solve(b, -2.0)
    torch.testing.assert_close(found, -2.0 * torch.linalg.solve(full, b), rtol=1e-9, atol=1e-10)


@every_table
def test_extrapolation_is_exact_for_polynomials(table):
    """z of u(t) = t^s on [0, 1] to z on [1, 1.7]."""
    s, ratio = table.stages, 0.7
    z = torch.as_tensor(table.c**s)
    expected = (1 + ratio * table.c) ** s - 1
    np.testing.assert_allclose(table.extrapolation(ratio) @ z.numpy(), expected, rtol=1e-10)


def test_error_weights_have_the_order_stated():
    """gamma0 h f0 + sum e_i z_i vanishes for polynomial slopes of degree below s - 1 and not at
    s."""
    for table in TABLES:
        s = table.stages
        for q in range(1, s + 2):
            residual = table.gamma0 * (q == 1) + table.e @ table.c**q
            assert (abs(residual) < 1e-11) == (q <= s)


@pytest.mark.parametrize("method", ["RadauIIA3", "RadauIIA5", "RadauIIA9"])
def test_factorisations_are_kept(method):
    stats = solve(
        prothero(-1e3), tensor(1.0), [0.0, 5.0], method=method, rtol=1e-5, atol=1e-8
    ).stats
    assert stats.njac <= 5 and stats.newton_failures == 0


@pytest.mark.parametrize("method", ["RadauIIA3", "RadauIIA5", "RadauIIA9"])
def test_gradcheck(method):
    f = Forced()
    y0 = tensor(1.0, -0.5, 0.3).requires_grad_()

    def outputs(y0, *parameters):
        return solve(f, y0, [0.0, 0.21, 0.7], method=method, step_size=0.1).y

    assert torch.autograd.gradcheck(outputs, (y0, *f.parameters()), eps=1e-5, atol=1e-8, rtol=1e-6)


def test_any_number_of_stages():
    table = RadauIIA("RadauIIA7", 4, "test")
    assert (
        max(abs(table.a[-1] @ tree.weights(table.a) - 1 / tree.density) for tree in rooted_trees(7))
        < 1e-12
    )
