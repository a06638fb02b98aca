"""Adams, RKC and Verlet: what is theirs alone."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from pynode import solve
from pynode.methods.adams import MAX_ORDER, basis
from pynode.methods.rkc import coefficients
from tests.support.cases import Forced, prothero, smooth, smooth_exact, tensor


def observed(errors):
    return math.log2(errors[0] / errors[1])


# Adams


def test_adams_coefficients_on_an_even_grid():
    """Hairer, Norsett & Wanner I, tables III.1.1 (gamma_j, explicit formulas) and III.1.2
    (implicit: differences)."""
    past = tuple(0.1 * i for i in range(6))
    _, g, betas = basis(past, 0.1, 5)
    assert g == pytest.approx([1, 1 / 2, 5 / 12, 3 / 8, 251 / 720, 95 / 288])
    assert [b - a for a, b in pairwise(g)] == pytest.approx(
        [-1 / 2, -1 / 12, -1 / 24, -19 / 720, -3 / 160]
    )
    assert betas == pytest.approx([1] * 6)


def test_adams_interpolates_exactly():
    """Any grid: f a polynomial of degree k is integrated without error by the basis and its
    modified differences."""
    h, past = 0.3, (0.0, 0.2, 0.7, 0.8)
    rows, g, _ = basis(past, h, 3)
    nodes = [-p for p in past]

    def divided(values, points):
        if len(points) == 1:
            return values[0]
        return (divided(values[:-1], points[:-1]) - divided(values[1:], points[1:])) / (
            points[0] - points[-1]
        )

    for degree in range(4):
        values, total, product = [x**degree for x in nodes], 0.0, 1.0
        for j in range(4):
            # phi*_j = prod_(i<j) (h + past_i) times the divided difference
            total += h * g[j] * product * divided(values[: j + 1], nodes[: j + 1])
            product *= h + past[j]
        assert total == pytest.approx(h ** (degree + 1) / (degree + 1))
    assert all(sum(row) == pytest.approx(1) for row in rows)


def test_adams_raises_its_order_and_step():
    solution = solve(
        smooth,
        smooth_exact(0.0),
        [0.0, 6.0],
        method="AdamsPECE",
        rtol=1e-11,
        atol=1e-11,
        dense=True,
    )
    steps = solution._trajectory.steps
    assert 9 <= max(step.before[1].order for step in steps) <= MAX_ORDER
    assert solution.stats.nfe <= 2 * (solution.stats.accepted + solution.stats.rejected) + 2
    assert solution.stats.nfe < 400  # Tsit5 takes 2,000
    assert (solution.y[-1] - smooth_exact(6.0)).abs().max() < 1e-9


def test_adams_orders_are_reached():
    """Error falls by the tolerance, and the work hardly rises: the sign of high order."""
    errors, work = [], []
    for rtol in (1e-4, 1e-7, 1e-10):
        solution = solve(
            smooth, smooth_exact(0.0), [0.0, 4.0], method="vcabm", rtol=rtol, atol=rtol
        )
        errors.append(float((solution.y[-1] - smooth_exact(4.0)).abs().max()))
        work.append(solution.stats.nfe)
    assert errors[0] > 100 * errors[1] > 10_000 * errors[2]
    assert work[2] < 4 * work[0]


# RKC


@pytest.mark.parametrize("s", [2, 3, 5, 20])
def test_rkc_is_stable_on_its_interval(s):
    first, rows = coefficients(s)
    beta = 2 / 3 * (s * s - 1) * (1 - 2 / 15 * 2 / 13)
    for z in torch.linspace(0.01, 0.99 * beta, 400).tolist():
        older, newer = 1.0, 1 - first * z
        for _, mu, nu, slope, slope0 in rows:
            older, newer = (
                newer,
                1 - mu - nu + mu * newer + nu * older - z * (slope * newer + slope0),
            )
        assert abs(newer) <= 1 + 1e-12
    z = 1e-3
    older, newer = 1.0, 1 - first * z
    for _, mu, nu, slope, slope0 in rows:
        older, newer = newer, 1 - mu - nu + mu * newer + nu * older - z * (slope * newer + slope0)
    assert abs(newer - math.exp(-z)) < z**3


def test_rkc_order():
    errors = []
    for count in (64, 128):
        y = solve(smooth, smooth_exact(0.0), [0.0, 1.0], method="RKC", step_size=1 / count).y[-1]
        errors.append(float((y - smooth_exact(1.0)).norm()))
    assert observed(errors) == pytest.approx(2, abs=0.2)


def test_rkc_dense_order():
    errors = []
    for h in (1 / 64, 1 / 128):
        solution = solve(
            smooth, smooth_exact(0.3), [0.3, 0.3 + h], method="RKC", step_size=h, dense=True
        )
        times = 0.3 + h * tensor(0.3, 0.6)
        errors.append((solution(times) - smooth_exact(times)).norm(dim=1))
    assert (torch.log2(errors[0] / errors[1]) - 1 > 1.8).all()


def heat(n):
    def f(t, y):
        left, right = nn.functional.pad(y, (1, 0))[:-1], nn.functional.pad(y, (0, 1))[1:]
        return (left - 2 * y + right) * (n + 1) ** 2 + torch.sin(t)

    return f


def test_rkc_on_the_heat_equation():
    """The spectral radius is 4 (n + 1)^2: an explicit method pays for it in full, RKC for its
    root."""
    n = 80
    x = torch.linspace(0, 1, n + 2, dtype=torch.float64)[1:-1]
    y0 = torch.sin(math.pi * x)
    found = solve(heat(n), y0, [0.0, 0.5], method="RKC", rtol=1e-4, atol=1e-6)
    other = solve(heat(n), y0, [0.0, 0.5], method="Tsit5", rtol=1e-4, atol=1e-6)
    exact = solve(heat(n), y0, [0.0, 0.5], method="RadauIIA5", rtol=1e-9, atol=1e-11)
    assert (found.y[-1] - exact.y[-1]).abs().max() < 1e-4
    assert found.stats.nfe < other.stats.nfe / 5
    assert found.stats.njac == found.stats.nlu == 0


# Verlet


class Pendulum(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(tensor(1.3, 0.7))

    def forward(self, t, y):
        q, p = y
        return p * (1 + 0.1 * torch.cos(t)), -self.k * torch.sin(q) + 0.1 * torch.sin(t)


def test_verlet_order_and_dense_order():
    f, y0 = Pendulum(), (tensor(0.5, -0.4), tensor(0.1, 0.3))
    with torch.no_grad():
        times = tensor(0.0, 0.33, 1.0)
        exact = solve(f, y0, times, method="Vern7", rtol=1e-12, atol=1e-13).y
        errors = []
        for count in (50, 100):
            y = solve(f, y0, times, method="verlet", step_size=1 / count).y
            errors.append([float((a - b)[i].norm()) for a, b in zip(y, exact) for i in (1, 2)])
    for a, b in zip(*errors):
        assert observed((a, b)) == pytest.approx(2, abs=0.2)


def test_verlet_keeps_the_energy():
    def f(t, y):
        return torch.stack((y[1], -y[0]))

    y = solve(f, tensor(1.0, 0.0), [0.0, 300.0, 600.0], method="VelocityVerlet", step_size=0.1).y
    assert ((y**2).sum(1) - 1).abs().max() < 5e-3


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_verlet_gradient_is_direct(start, end):
    f, y0 = Pendulum(), tensor(0.5, -0.4, 0.1, 0.3).requires_grad_()
    times = tensor(*(start + (end - start) * x for x in (0.0, 0.13, 0.51, 1.0))).requires_grad_()
    found = []
    for adjoint in ("discrete", "direct"):
        q, p = solve(
            f, (y0[:2], y0[2:]), times, method="VelocityVerlet", step_size=0.05, adjoint=adjoint
        ).y
        found.append(torch.autograd.grad((q**2 + p.sin()).sum(), [y0, times, f.k]))
    for a, b in zip(*found):
        assert b.abs().max() > 0 and (a - b).abs().max() <= 1e-12 * b.abs().max()


def test_verlet_refuses():
    with pytest.raises(ValueError, match="give step_size"):
        solve(lambda t, y: y, tensor(1.0, 2.0), [0.0, 1.0], method="VelocityVerlet")
    with pytest.raises(ValueError, match="two parts of equal size"):
        solve(
            lambda t, y: y,
            tensor(1.0, 2.0, 3.0),
            [0.0, 1.0],
            method="VelocityVerlet",
            step_size=0.1,
        )


# The gradient that takes every step again


@pytest.mark.parametrize("method", ["AdamsPECE", "RKC"])
@pytest.mark.parametrize(("start", "end"), [(0.3, 4.0), (4.0, 0.3)], ids=["forwards", "backwards"])
def test_repeated_steps_give_the_direct_gradient(method, start, end):
    f, y0 = Forced(), tensor(1.0, -0.5, 0.3).requires_grad_()
    times = tensor(
        *(start + (end - start) * x for x in (0.0, 0.11, 0.12, 0.51, 1.0))
    ).requires_grad_()
    weights, found, stats = torch.randn(5, 3, dtype=torch.float64), [], []
    for adjoint in ("discrete", "direct"):
        solution = solve(f, y0, times, method=method, rtol=1e-5, atol=1e-7, adjoint=adjoint)
        before = solution.stats.nfe
        found.append(
            torch.autograd.grad((weights * solution.y).sum(), [y0, times, *f.parameters()])
        )
        stats.append(solution.stats)
        assert solution.stats.nfe == before
    assert stats[0].backward_nfe > 0
    for a, b in zip(*found):
        assert b.abs().max() > 0 and (a - b).abs().max() <= 1e-12 * b.abs().max()


def test_repeated_fixed_steps():
    """So long that the error control which they do without would refuse them."""
    f, y0, found = Forced(), tensor(1.0, -0.5, 0.3).requires_grad_(), []
    for adjoint in ("discrete", "direct"):
        y = solve(
            f,
            y0,
            [0.0, 0.33, 2.0],
            method="RKC",
            step_size=0.25,
            rtol=1e-9,
            atol=1e-12,
            adjoint=adjoint,
        ).y
        found.append(torch.autograd.grad(y.square().sum(), [y0, *f.parameters()]))
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()


def test_repeated_steps_with_rejections():
    """A step after a rejected one begins with a state that no accepted step has left."""
    f, y0 = prothero(-40.0), tensor(2.0).requires_grad_()
    found = []
    for adjoint in ("discrete", "direct"):
        solution = solve(
            f, y0, [0.0, 0.7, 3.0], method="AdamsPECE", rtol=1e-6, first_step=0.3, adjoint=adjoint
        )
        assert solution.stats.rejected > 0
        found.append(torch.autograd.grad(solution.y.sum(), y0)[0])
    assert (found[0] - found[1]).abs().max() <= 1e-12 * found[1].abs().max()
