"""The linear algebra by itself: combinations, factorisations, Newton's iteration, Jacobians, many
points at once."""

import math

import pytest
import torch
from torch.func import jacrev

from pynode.algebra.combine import CoefficientRow, combine
from pynode.algebra.jacobian import Jacobian
from pynode.algebra.linear import INVERSE_BELOW, Factorised
from pynode.algebra.newton import MAX_ITERATIONS, implicit_diff, simplified_newton
from pynode.core.norm import Tolerance
from pynode.core.stats import Stats
from tests.support.cases import Forced, field_of, smooth, smooth_exact, smooth_jac, tensor

SUMS = [(), (0, 2), (0.5, 0, -1), (1, 2, 3), (1, 2, 0, 3, 4), (0, 0, 0, 1, -1)]


@pytest.mark.parametrize(
    ("coefficients", "start"), [(c, True) for c in SUMS] + [(c, False) for c in SUMS if c]
)
def test_combinations_are_sums(coefficients, start):
    """As a chain of additions or as a matrix-vector product; the gradient too, also after use in
    inference mode."""
    y = torch.randn(3, dtype=torch.float64, requires_grad=True)
    ks = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in coefficients]
    row, first = CoefficientRow(coefficients), y if start else None
    with torch.inference_mode():
        combine(first, 0.3, row, ks)
    found = combine(first, 0.3, row, ks)
    expected = sum(
        (0.3 * c * k for c, k in zip(coefficients, ks, strict=True)), y if start else torch.zeros(3)
    )
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)
    used = ([y] if start else []) + [k for c, k in zip(coefficients, ks, strict=True) if c]
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), used), torch.autograd.grad(expected.sum(), used)
    )


@pytest.mark.parametrize("n", [3, INVERSE_BELOW + 2])
def test_factorisations(n):
    jac, b, stats = (
        torch.randn(n, n, dtype=torch.float64),
        torch.randn(n, dtype=torch.float64),
        Stats(),
    )
    eye = torch.eye(n, dtype=torch.float64)
    solver = Factorised(eye, jac, 0.1, stats)
    matrix = eye - 0.1 * jac
    assert solver.ok and stats.nlu == 1
    torch.testing.assert_close(matrix @ solver.solve(b, 2.0), 2 * b)
    torch.testing.assert_close(matrix.T @ solver.solve_transposed(b), b)
    assert not Factorised(eye, eye, 1.0, stats).ok


class TestNewton:
    """y = start + c f(t, y) - psi with f = -y^3, from a Jacobian of more or less quality."""

    def run(self, c, jac, rate=1.0, start=1.0, f=lambda t, y: -(y**3)):
        field, tol = field_of(f, tensor(start)), Tolerance(1e-6, torch.tensor(1e-6), 1)
        y = tensor(start)
        solver = Factorised(torch.eye(1, dtype=torch.float64), tensor([jac]), c, field.stats)
        return simplified_newton(
            field, 0.0, y, torch.zeros(1), c, tol.scale(y), tol, 1e-3, solver, rate
        ), field.stats

    def test_converges_with_its_jacobian(self):
        found, stats = self.run(0.01, -3.0)
        y = float(found.y)
        assert y == pytest.approx(1 - 0.01 * y**3, rel=1e-8)
        assert (
            1 < found.iterations <= MAX_ITERATIONS and stats.nfe == stats.nsolve == found.iterations
        )
        assert 0 < found.rate < 0.1

    def test_one_iteration_where_the_rate_is_known(self):
        found, _ = self.run(1e-5, -3.0, rate=1e-5)
        assert found.iterations == 1 and found.rate == 1e-5

    def test_diverges_without_a_jacobian(self):
        found, _ = self.run(1.0, 0.0)
        assert found.y is None and found.rate >= 1

    def test_gives_up_early_where_it_would_take_too_long(self):
        """Hairer & Wanner II, (IV.8.11): the iterations left would not reach the tolerance."""
        found, _ = self.run(0.1, 0.0)
        assert found.y is None and found.rate < 1 and found.iterations < MAX_ITERATIONS

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_stops_at_once_where_f_is_not_finite(self, bad):
        found, _ = self.run(0.1, -3.0, f=lambda t, y: y * bad)
        assert found.y is None and found.iterations == 1 and not math.isfinite(found.norm)

    def test_nothing_to_do(self):
        found, _ = self.run(0.1, -3.0, f=lambda t, y: 0 * y)
        assert found.y == 1.0 and found.iterations == 1

    def test_implicit_derivative(self):
        """d y/d start = 1/(1 + 3 c y^2) for y = start - c y^3, whatever the iteration did."""
        start = tensor(1.0).requires_grad_()
        field = field_of(lambda t, y: -(y**3), tensor(1.0))
        y = self.run(0.01, -3.0)[0].y
        solver = Factorised(
            torch.eye(1, dtype=torch.float64), tensor([-3 * float(y) ** 2]), 0.01, field.stats
        )
        attached = implicit_diff(field, 0.0, start, torch.zeros(1), 0.01, solver, y)
        assert torch.equal(attached.detach(), y)
        (found,) = torch.autograd.grad(attached, start)
        assert found.item() == pytest.approx(1 / (1 + 0.03 * float(y) ** 2), rel=1e-12)


def indexing(t, y):
    return torch.stack((y[0] * y[1], torch.exp(2 * torch.sin(t)) - y[0] ** 2 - torch.sin(t)))


def mixing(t, y):
    """Broadcasts in shape but mixes rows: a mean over all entries, small beside what moves fast."""
    return -1e3 * y + tensor(1.0, -3.0) * y.mean()


def symmetric(t, y):
    """A matrix product that accepts any (n, n): y in place of a stack of states would go unnoticed
    at n = 2 alone."""
    return torch.tensor([[0.0, 1.0], [-2.0, 3.0]], dtype=y.dtype) @ y


FIELDS = {
    "broadcasting": (smooth, True),
    "module": (Forced(2), True),
    "linear": (lambda t, y: -y, True),
    "indexing": (indexing, False),
    "matrix": (symmetric, False),
    "mixing": (mixing, False),
    "constant": (lambda t, y: tensor(1.0, 2.0), None),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("graph", [False, True])
def test_jacobians(name, graph):
    """Broadcast where f allows it, row by row where not: the same as jacrev, and df/dt beside
    it."""
    f, broadcasts = FIELDS[name]
    y, t = smooth_exact(0.4), 0.4
    jacobian = Jacobian(field_of(f, y))
    jac, rate = jacobian.with_time(t, y.clone().requires_grad_(graph), graph=graph)
    time = tensor(t)[0]
    torch.testing.assert_close(
        jac.detach(), jacrev(f, argnums=1)(time, y).detach(), rtol=1e-12, atol=1e-12
    )
    expected = jacrev(f, argnums=0)(time, y).detach()
    rate = torch.zeros_like(y) if rate is None else rate.detach()
    torch.testing.assert_close(rate, expected, rtol=1e-12, atol=1e-12)
    assert broadcasts is None or jacobian._broadcasts is broadcasts
    assert jac.requires_grad is (graph and name in ("broadcasting", "indexing", "module"))


def test_the_given_jacobian_is_used():
    field = field_of(smooth, smooth_exact(0.4), jac=lambda t, y: 2 * smooth_jac(t, y))
    jac, rate = Jacobian(field).with_time(0.4, smooth_exact(0.4))
    torch.testing.assert_close(jac, 2 * smooth_jac(0.4, smooth_exact(0.4)))
    assert rate[0] == 0 and rate[1] != 0
    assert field.stats.njac == 1 and field.stats.nfe == 0


def test_points_are_vectorised_or_looped():
    """VectorField.many: one call under vmap, a call a point where f refuses; the same values."""
    calls = []

    def obliging(t, y):
        calls.append(t)
        return -y

    def refusing(t, y):
        return obliging(t, y) if y[0].item() > 0 else y

    t, y = tensor(0.0, 1.0, 2.0), torch.rand(3, 2, dtype=torch.float64)
    for f, count in ((obliging, 1), (refusing, 3)):
        field = field_of(f, y[0])
        field.batch_eval(t[:1], y[:1])  # finds out which
        calls.clear()
        assert torch.equal(field.batch_eval(t, y), -y)
        assert len(calls) == count


def test_a_coupling_of_rows_that_wakes_up_later():
    """At t = 0 f broadcasts, as far as can be seen: the sum over everything is multiplied by sin
    t."""
    field = field_of(lambda t, y: -y + torch.sin(t) * y.sum(), tensor(1.0, 0.5, -0.3))
    jacobian, y = Jacobian(field), tensor(1.0, 0.5, -0.3)
    for t in (0.0, 0.7, 1.1):
        torch.testing.assert_close(jacobian(t, y), -torch.eye(3).double() + math.sin(t))
