"""Gradients against differences, for fields of every temper, and of what else a solution gives."""

import math

import pytest
import torch
from torch import nn

from pynode import solve
from tests.support.cases import FAMILIES, MULTISTEP, Forced, leaf, smooth, smooth_exact, tensor
from tests.support.gradients import as_function

every_family = pytest.mark.parametrize("method", FAMILIES)


@pytest.mark.parametrize("method", ["RK4", "Tsit5", "DP8", "Rosenbrock23", "Rodas5P"])
def test_gradcheck_on_fixed_steps(method):
    """On fixed steps the outputs are smooth in y0 and the parameters, so that differences are good
    to rounding."""
    f = Forced()
    run = as_function(f, method, step_size=0.25)
    inputs = [
        leaf(tensor(1.0, -0.5, 0.3)),
        tensor(0.0, 0.33, 1.0),
        *[leaf(p) for p in f.parameters()],
    ]
    assert torch.autograd.gradcheck(run, inputs, rtol=1e-6, atol=1e-7)


@every_family
def test_gradcheck_of_an_adaptive_solve(method):
    """With times, the first one too. The choice of steps is not smooth: hence a tight rtol and wide
    differences."""
    f = Forced(2)
    run = as_function(f, method, rtol=1e-10 if method in MULTISTEP else 1e-9, atol=1e-10)
    inputs = [
        leaf(tensor(1.0, -0.5)),
        leaf(tensor(0.1, 0.33, 1.0)),
        *[leaf(p) for p in f.parameters()],
    ]
    assert torch.autograd.gradcheck(run, inputs, eps=1e-3, rtol=1e-4, atol=1e-5)


@every_family
@pytest.mark.parametrize(("start", "end"), [(0.2, 1.1), (1.1, 0.2)], ids=["forwards", "backwards"])
def test_gradient_in_times_is_the_slope_of_the_solution(method, start, end):
    t = leaf(tensor(start, 0.7, end))
    y = solve(smooth, smooth_exact(start), t, method=method, rtol=1e-9, atol=1e-9).y
    for i in range(3):
        for c in range(2):
            (found,) = torch.autograd.grad(y[i, c], t, retain_graph=True)
            expected = torch.zeros(3, dtype=torch.float64)
            if i > 0:
                s = t[i].detach()
                expected[i] = smooth(s, smooth_exact(s))[c]
                expected[0] = -sensitivity_to_start(start, float(s))[c] @ smooth(
                    tensor(start)[0], smooth_exact(start)
                )
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def sensitivity_to_start(start, end):
    """dy(end)/dy(start), (2, 2), by differences of solves."""
    columns = []
    for j in range(2):
        ends = []
        for sign in (1, -1):
            y0 = smooth_exact(start).clone()
            y0[j] += sign * 1e-4
            ends.append(solve(smooth, y0, [start, end], method="dp8", rtol=1e-12, atol=1e-12).y[-1])
        columns.append((ends[0] - ends[1]) / 2e-4)
    return torch.stack(columns, dim=1)


class Branching(nn.Module):
    """Cannot be vectorised: a branch on the value of a state, which vmap refuses."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(tensor(0.5)[0])

    def forward(self, t, y):
        return -self.rate * y if y[0].item() > -100 else y


class Plain(Branching):
    def forward(self, t, y):
        return -self.rate * y


class Lazy(Plain):
    """Makes a constant at its first call and keeps it, as modules with caches do."""

    ones = None

    def forward(self, t, y):
        if self.ones is None:
            self.ones = torch.ones_like(y)
        return -self.rate * y * self.ones


class Gradient(Plain):
    """Differentiates inside itself, as Hamiltonian networks do."""

    def forward(self, t, y):
        with torch.enable_grad():
            y = y if y.requires_grad else y.detach().requires_grad_()
            energy = 0.5 * self.rate * (y * y).sum()
            return -torch.autograd.grad(energy, y, create_graph=True)[0]


class Indexing(Plain):
    """Written for one state alone: it does not broadcast."""

    def forward(self, t, y):
        return torch.stack((-self.rate * y[0], -self.rate * y[1]))


class InPlace(Plain):
    def forward(self, t, y):
        out = torch.zeros_like(y)
        out[..., 0] = -self.rate * y[..., 0]
        out[..., 1] -= self.rate * y[..., 1]
        return out


@pytest.mark.parametrize("field", [Branching, Lazy, Gradient, Indexing, InPlace])
@every_family
def test_fields_of_every_temper(field, method):
    """Whatever f does inside, the gradient is that of the plain formula, in as many evaluations."""
    results = []
    for f in (field(), Plain()):
        y0 = leaf(tensor(1.0, 2.0))
        solution = solve(f, y0, [0.0, 0.5, 1.0], method=method, rtol=1e-6)
        solution.y.square().sum().backward()
        results.append((solution, y0.grad, f.rate.grad))
    (found, *gradient), (expected, *wanted) = results
    torch.testing.assert_close(found.y, expected.y, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)
    assert found.stats.accepted == expected.stats.accepted
    assert found.stats.nfe <= expected.stats.nfe + 8  # trials of whether f broadcasts


@every_family
def test_constant_field(method):
    """f depends neither on y nor on t, only on a parameter: no Jacobian to be had."""
    slope = leaf(tensor(2.0, -1.0))
    y0 = leaf(tensor(1.0, 1.0))
    y = solve(lambda t, y: slope * torch.ones_like(slope), y0, [0.0, 3.0], method=method).y[-1]
    torch.testing.assert_close(y, tensor(7.0, -2.0))
    torch.testing.assert_close(
        torch.autograd.grad(y.sum(), [y0, slope]), (tensor(1.0, 1.0), tensor(3.0, 3.0))
    )


@every_family
def test_field_without_any_graph(method):
    """f returns a constant that knows no inputs: the gradient in y0 is one."""
    y0 = leaf(tensor(1.0, 1.0))
    y = solve(lambda t, y: tensor(1.0, 2.0), y0, [0.0, 3.0], method=method).y[-1]
    torch.testing.assert_close(torch.autograd.grad(y.sum(), y0)[0], tensor(1.0, 1.0))


@every_family
def test_dense_output_is_differentiable(method):
    """The same numbers as an output asked for in advance."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    inputs = [y0, *f.parameters()]
    asked = solve(f, y0, [0.0, 0.4, 1.0], method=method).y[1]
    later = solve(f, y0, [0.0, 1.0], method=method, dense=True)(0.4)
    torch.testing.assert_close(later, asked, rtol=1e-12, atol=1e-14)
    found, expected = (
        torch.autograd.grad(later.sum(), inputs),
        torch.autograd.grad(asked.sum(), inputs),
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@every_family
def test_partial_solutions_are_differentiable(method):
    """After a failure the outputs reached still carry their gradient."""
    rate = leaf(tensor(1.0))
    partial = solve(
        lambda t, y: rate * y * y,
        tensor(1.0),
        [0.0, 0.25, 0.5, 2.0],
        method=method,
        throw=False,
        rtol=1e-9,
        atol=1e-9,
    )
    assert not partial.success and len(partial.t) == 3
    (found,) = torch.autograd.grad(partial.y[-1].sum(), rate)
    # y = 1/(1 - rate t), dy/drate = t/(1 - rate t)^2.
    assert found.item() == pytest.approx(0.5 / 0.25, rel=1e-6)


@every_family
def test_gradient_of_a_long_decay_stays_finite(method):
    """The sensitivity underflows; nothing divides by it."""
    y0 = leaf(tensor(1.0))
    y = solve(lambda t, y: -y, y0, [0.0, 50.0], method=method, rtol=1e-6, atol=1e-6).y[-1]
    (found,) = torch.autograd.grad(y.sum(), y0)
    assert math.isfinite(found.item()) and abs(found.item()) < 1e-4


@every_family
def test_several_backward_passes_give_the_same(method):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    total = solve(f, y0, [0.0, 0.5, 1.0], method=method).y.sum()
    first = torch.autograd.grad(total, [y0, *f.parameters()], retain_graph=True)
    torch.testing.assert_close(
        torch.autograd.grad(total, [y0, *f.parameters()]), first, rtol=0, atol=0
    )
