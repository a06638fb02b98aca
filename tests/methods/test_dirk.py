"""Diagonally implicit methods: what is theirs alone, and split fields by additive pairs."""

import math

import pytest
import torch
from torch import nn

from pynode import SplitField, solve
from pynode.methods import registry
from pynode.methods.esdirk import DIRK
from tests.support.cases import Forced, prothero, smooth, smooth_exact, tensor

NAMES = [name for name in registry.names() if isinstance(registry.get(name), DIRK)]
PAIRS = [name for name in NAMES if registry.get(name).companion is not None]


class Decay(nn.Module):
    """The stiff part of a reaction that Forced drives."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(tensor(rate).squeeze())

    def forward(self, t, y):
        return -self.rate * (y - torch.cos(t)) * (1 + y**2)


def split_smooth():
    """`smooth` in two parts, both of which depend on t and are coupled."""

    def implicit(t, y):
        return torch.stack((y[..., 0] * y[..., 1], -(y[..., 0] ** 2) - y[..., 1]), dim=-1)

    def explicit(t, y):
        return smooth(t, y) - implicit(t, y)

    return SplitField(implicit, explicit)


def test_names():
    assert set(NAMES) >= {
        "ImplicitEuler",
        "Trapezoid",
        "ImplicitMidpoint",
        "SDIRK2",
        "TRBDF2",
        "Kvaerno3",
        "Kvaerno5",
        "KenCarp4",
        "KenCarp47",
    }
    assert PAIRS == ["KenCarp4", "KenCarp47"]


@pytest.mark.parametrize("method", NAMES)
def test_few_factorisations_and_jacobians(method):
    """They are kept while Newton converges: on a mildly stiff problem far fewer than steps."""
    stats = solve(
        prothero(-1e3), tensor(1.0), [0.0, 5.0], method=method, rtol=1e-5, atol=1e-8
    ).stats
    assert stats.njac <= max(8, 0.1 * stats.accepted)
    # ImplicitMidpoint does not damp what is stiff, so that rounding decides how often its steps
    # change.
    share = 1.0 if method == "ImplicitMidpoint" else 0.8
    assert stats.nlu <= max(20, share * (stats.accepted + stats.rejected))
    assert stats.newton_failures == 0


@pytest.mark.parametrize("method", [name for name in NAMES if registry.get(name).stiffly_accurate])
def test_the_last_slope_is_the_next_first(method):
    """f is called in Newton's iterations alone: one linear solve each, beside the filter of the
    error."""
    stats = solve(smooth, smooth_exact(0.0), [0.0, 1.0], method=method, step_size=0.05).stats
    # F0, and the question whether f broadcasts, put at two times.
    assert stats.nfe - stats.nsolve <= 13


@pytest.mark.parametrize("method", PAIRS)
def test_split_order(method):
    f, errors = split_smooth(), []
    for count in (32, 64):
        y = solve(f, smooth_exact(0.0), [0.0, 1.0], method=method, step_size=1 / count).y[-1]
        errors.append(float((y - smooth_exact(1.0)).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(registry.get(method).order, abs=0.25)


@pytest.mark.parametrize("method", PAIRS)
def test_split_dense_order(method):
    f, errors = split_smooth(), []
    for h in (1 / 32, 1 / 64):
        solution = solve(
            f, smooth_exact(0.3), [0.3, 0.3 + h], method=method, step_size=h, dense=True
        )
        times = 0.3 + h * tensor(0.3, 0.6)
        errors.append((solution(times) - smooth_exact(times)).norm(dim=1))
    assert (
        torch.log2(errors[0] / errors[1]) - 1 > registry.get(method).tableau.dense_order - 0.2
    ).all()


@pytest.mark.parametrize("method", [*PAIRS, "TRBDF2", "Tsit5"])
def test_split_is_the_sum(method):
    """Any method takes a split field; only the additive pairs see its parts."""
    slow, fast = Forced(), Decay(50.0)
    y0, t = tensor(1.0, -0.5, 0.3), [0.0, 0.5, 2.0]
    found = solve(SplitField(fast, slow), y0, t, method=method, rtol=1e-8, atol=1e-10).y
    expected = solve(
        lambda t, y: fast(t, y) + slow(t, y), y0, t, method="Rodas5P", rtol=1e-10, atol=1e-12
    ).y
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", PAIRS)
def test_the_implicit_part_carries_the_stiffness(method):
    slow, fast = Forced(), Decay(1e5)
    stats = solve(
        SplitField(fast, slow),
        tensor(1.0, -0.5, 0.3),
        [0.0, 2.0],
        method=method,
        rtol=1e-4,
        atol=1e-6,
    ).stats
    assert stats.accepted < 300


@pytest.mark.parametrize("method", PAIRS)
@pytest.mark.parametrize(("start", "end"), [(0.3, 1.5), (1.5, 0.3)], ids=["forwards", "backwards"])
def test_split_gradient_is_direct(method, start, end):
    f = SplitField(Decay(2.0 if end > start else -2.0), Forced())
    y0 = tensor(1.0, -0.5, 0.3).requires_grad_()
    t = tensor(
        start, *(start + (end - start) * x for x in (0.13, 0.31, 0.57)), end
    ).requires_grad_()
    weights, found = torch.randn(5, 3, dtype=torch.float64), []
    for adjoint in ("discrete", "direct"):
        y = solve(f, y0, t, method=method, adjoint=adjoint, rtol=1e-5, atol=1e-7).y
        found.append(torch.autograd.grad((weights * y).sum(), [y0, t, *f.parameters()]))
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max() and b.abs().max() > 0


def test_split_functions_find_their_tensors():
    rate, force, y0 = (tensor(x).requires_grad_() for x in (5.0, 2.0, 1.0))
    f = SplitField(lambda t, y: -rate * y, lambda t, y: force * torch.sin(t))
    solve(f, y0, [0.0, 1.0], method="KenCarp4").y[-1].sum().backward()
    assert rate.grad != 0 and force.grad != 0


def test_split_structures():
    f = SplitField(
        lambda t, y: {"a": -y["a"], "b": (y["b"][0],)},
        lambda t, y: {"a": y["b"][0], "b": (-y["a"],)},
    )
    y = solve(f, {"a": tensor(1.0), "b": (tensor(0.5),)}, [0.0, 1.0], method="KenCarp4").y
    assert y["a"].shape == y["b"][0].shape == (2, 1)


def test_split_refuses_what_is_no_function():
    with pytest.raises(TypeError, match="the explicit part must be a function"):
        SplitField(lambda t, y: y, 3.0)
