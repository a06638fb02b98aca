"""Gradients through batches of rows: those of the rows alone, row by row."""

import pytest
import torch
from torch import nn

from pynode import solve
from pynode.adjoints import field_products
from pynode.adjoints.discrete import batched, batched_bdf
from tests.support.cases import directional, tensor
from tests.support.gradients import agree

METHODS = [
    "tsit5",
    "vern7",
    "bs3",
    "rodas5p",
    "rosenbrock23",
    "trbdf2",
    "kvaerno5",
    "implicitmidpoint",
    "qndf",
    "fbdf",
]


class Driven(nn.Module):
    """A damped tanh network, driven in time, with a rate for each row and a force for all."""

    def __init__(self, n=3):
        super().__init__()
        self.W = nn.Parameter(torch.randn(n, n, dtype=torch.float64) / n**0.5)
        self.b = nn.Parameter(torch.randn(n, dtype=torch.float64))

    def forward(self, t, y, rate, force):
        rate = rate.unsqueeze(-1) if rate.dim() else rate
        return (
            torch.tanh(y @ self.W.T + self.b * torch.sin(2 * t)) - rate * y + force * torch.cos(t)
        )


def problem(batch=4, n=3):
    y0 = torch.randn(batch, n, dtype=torch.float64).requires_grad_()
    rate = torch.linspace(0.1, 3.0, batch, dtype=torch.float64).requires_grad_()
    force = tensor(0.3, requires_grad=True)
    start, length = (
        torch.linspace(0, 0.5, batch, dtype=torch.float64),
        torch.linspace(1, 2, batch, dtype=torch.float64),
    )
    # Every other row backwards.
    length = length * torch.tensor([1.0, -0.5] * batch, dtype=torch.float64)[:batch]
    t = start + length * tensor(0.0, 0.11, 0.12, 0.5, 0.83, 1.0).unsqueeze(1)
    return Driven(n), y0, rate, force, t


def compare(method, f, y0, rate, force, t, leaves, tolerance, **options):
    together = solve(f, y0, t, method=method, args=(rate, force), batched=True, **options)
    weights = torch.randn(together.y.shape, dtype=torch.float64)
    found = torch.autograd.grad((weights * together.y).sum(), leaves)
    ys = [
        solve(f, y0[i], t[:, i], method=method, args=(rate[i], force), **options).y
        for i in range(len(y0))
    ]
    expected = torch.autograd.grad((weights * torch.stack(ys, 1)).sum(), leaves)
    agree(found, expected, tolerance)
    return together


@pytest.mark.parametrize("method", METHODS)
def test_rows_have_the_gradients_of_rows_alone(method):
    """y0, module, a tensor by row and one for all; spans of their own in both directions, outputs
    inside and at ends."""
    f, y0, rate, force, t = problem()
    rtol = 1e-3 if method == "implicitmidpoint" else 1e-5
    solution = compare(
        method,
        f,
        y0,
        rate,
        force,
        t,
        [y0, rate, force, *f.parameters()],
        1e-9,
        rtol=rtol,
        atol=1e-7,
    )
    assert solution.stats.backward_nvjp > 0


@pytest.mark.parametrize("method", ["rodas5p", "rosenbrock23"])
@pytest.mark.parametrize("narrow", [0, 128])
def test_few_and_many_rows_of_rosenbrock_methods(method, narrow, monkeypatch):
    """Many rows take each level again with a graph; few go back through the Jacobians of all
    steps."""
    monkeypatch.setattr(batched, "NARROW", narrow)
    f, y0, rate, force, t = problem()
    solution = compare(
        method,
        f,
        y0,
        rate,
        force,
        t,
        [y0, rate, force, *f.parameters()],
        1e-9,
        rtol=1e-5,
        atol=1e-7,
    )
    assert (solution.stats.backward_njac > solution.stats.accepted) == (narrow > 0)


@pytest.mark.parametrize("method", ["trbdf2", "qndf", "fbdf"])
def test_gradients_in_pieces(method, monkeypatch):
    """With Jacobians of few steps at a time: the pieces end within levels and between them."""
    for module in (batched, batched_bdf):
        monkeypatch.setattr(module, "chunk_size", lambda n, device: 22)
    monkeypatch.setattr(field_products, "ROWS", 16)
    f, y0, rate, force, t = problem()
    compare(
        method,
        f,
        y0,
        rate,
        force,
        t,
        [y0, rate, force, *f.parameters()],
        1e-9,
        rtol=1e-4,
        atol=1e-6,
    )


def test_states_that_are_factorised():
    """Above algebra.linear's size for inverses."""
    f, y0, rate, force, t = problem(batch=2, n=50)
    compare(
        "qndf",
        f,
        y0,
        rate,
        force,
        t,
        [y0, rate, force, *f.parameters()],
        1e-9,
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "qndf"])
def test_times_have_gradients(method):
    """Output times of each row, the first of which moves the start."""
    f, y0, rate, force, t = problem()
    compare(method, f, y0, rate, force, t.requires_grad_(), [y0, t], 1e-8, rtol=1e-6, atol=1e-8)
    t = torch.linspace(0.0, 1.0, 4, dtype=torch.float64).requires_grad_()
    common = solve(f, y0, t, method=method, args=(rate, force), batched=True).y
    assert torch.autograd.grad(common.square().sum(), t)[0].abs().min() > 0


@pytest.mark.parametrize("method", ["rk4", "rodas4", "kvaerno3"])
def test_fixed_steps_pass_gradcheck(method):
    f = Driven(2)
    y0, force = torch.randn(2, 2, dtype=torch.float64), torch.randn(2, 1, dtype=torch.float64)
    t = torch.stack((torch.linspace(0, 1, 3), torch.linspace(0.5, 0, 3)), 1).to(torch.float64)

    def final(y0, rate, force, weights):
        g = lambda t, y, rate, force: f(t, y, rate, force) + torch.sin(y @ weights)  # noqa: E731
        return solve(
            g,
            y0,
            t,
            args=(rate, force),
            params=(rate, force, weights),
            method=method,
            step_size=0.2,
            batched=True,
        ).y

    inputs = (y0, tensor(0.5, 2.0), force, torch.randn(2, 2, dtype=torch.float64))
    assert torch.autograd.gradcheck(
        final, [x.requires_grad_() for x in inputs], rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("method", ["tsit5", "qndf"])
def test_against_differences(method):
    """With steps so small that their changes do not matter, of a leaf that a plain function closes
    over."""
    scale, y0 = (
        tensor(1.0, 3.0, requires_grad=True),
        torch.tensor([[1.0, 0.5], [0.2, -1.0]], dtype=torch.float64),
    )

    def loss():
        return (
            solve(
                lambda t, y: -scale * y**3 + torch.cos(t),
                y0,
                [0.0, 0.3, 1.5],
                method=method,
                rtol=1e-11,
                atol=1e-11,
                batched=True,
            )
            .y.square()
            .sum()
        )

    found, difference = directional(loss, [scale], eps=1e-4)
    assert difference == pytest.approx(found, rel=1e-5 if method == "qndf" else 1e-7)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "qndf"])
def test_a_row_that_fails_has_no_part_in_the_gradient(method):
    """The outputs that were reached have theirs; those that were not get none, whatever the loss
    says of them."""
    # Y' = y^2 blows up at t = 1 in the first row.
    y0 = tensor(1.0, -1.0, 0.1).unsqueeze(1).requires_grad_()
    solution = solve(
        lambda t, y: y * y, y0, [0.0, 0.5, 2.0], method=method, rtol=1e-5, batched=True, throw=False
    )
    solution.y.nansum().backward()
    one = y0.detach()
    exact = 1 + 1 / (1 - 0.5 * one) ** 2 + tensor(0.0, 1.0, 1.0).unsqueeze(1) / (1 - 2 * one) ** 2
    assert torch.allclose(y0.grad, exact, rtol=2e-3)


def test_single_precision_and_structures():
    y0 = {"a": torch.randn(5, 2, requires_grad=True), "b": torch.randn(5, requires_grad=True)}
    for method in ("tsit5", "rodas5p", "kvaerno5", "qndf"):
        y = solve(
            lambda t, y: {"a": -y["a"], "b": -2 * y["b"]},
            y0,
            [0.0, 1.0],
            method=method,
            rtol=1e-4,
            batched=True,
        ).y
        found = torch.autograd.grad(y["a"].sum() + y["b"].sum(), list(y0.values()))
        for g, rate in zip(found, (1.0, 2.0), strict=True):
            assert g.dtype == torch.float32
            assert torch.allclose(
                g, torch.full_like(g, 1 + torch.exp(torch.tensor(-rate)).item()), rtol=1e-3
            )
