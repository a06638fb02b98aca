"""The reverse solve of a gradient, with backend='julia' on a real Julia: what it refuses, and that
it ends early where it cannot come to its end."""

import math

import pytest
import torch

from pynode import GaussAdjoint, InterpolatingAdjoint, JuliaBackend, QuadratureAdjoint, solve
from pynode.adjoints.julia import NATIVE, JuliaAdjoint
from tests.support.cases import leaf, tensor
from tests.support.juliacase import julia, needs

ADAPTIVE = ["GaussKronrodAdjoint", "QuadratureAdjoint"]
ALL = ["GaussAdjoint", *ADAPTIVE, "InterpolatingAdjoint", NATIVE]
# More products with a derivative than any reverse solve here needs that ends early.
MANY = 5000
each_form = pytest.mark.parametrize("hooks", ["python", "native"])


def test_backsolve_of_a_decay():
    """By default the states start anew at each step; alone they would go astray, which is
    refused."""
    needs("sensitivity")
    k, y0 = leaf(tensor(60.0)), leaf(tensor(1.0))
    options = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-12}
    y = (
        julia(lambda t, y: -k * (y - torch.cos(t)), y0, [0.0, 1.0], adjoint="backsolve", **options)
        .y[-1]
        .sum()
    )
    expected = (
        julia(lambda t, y: -k * (y - torch.cos(t)), y0, [0.0, 1.0], adjoint=NATIVE, **options)
        .y[-1]
        .sum()
    )
    for a, b in zip(torch.autograd.grad(y, k), torch.autograd.grad(expected, k), strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-5)
    with pytest.raises(ValueError, match="BacksolveAdjoint is refused"):
        julia(
            lambda t, y: -k * (y - torch.cos(t)),
            y0,
            [0.0, 1.0],
            adjoint=JuliaAdjoint("BacksolveAdjoint", checkpoints=False),
            **options,
        )


def test_options_that_julia_has_not_are_refused():
    for given in (
        GaussAdjoint(nodes=5),
        InterpolatingAdjoint(seminorm=True),
        QuadratureAdjoint(quadrature_rtol=1e-9),
    ):
        with pytest.raises(ValueError, match="only the torch engine has the option"):
            julia(lambda t, y: -y, leaf(tensor(1.0)), [0.0, 1.0], method="tsit5", adjoint=given)


@pytest.mark.parametrize("name", ["interpolating", "gauss", NATIVE])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_cotangents_that_are_not_finite(name, bad):
    """NaN everywhere, as a sum over steps would have it, and no error of Julia's."""
    if name == "interpolating":
        needs("sensitivity")
    k, y0 = leaf(tensor(0.7)), leaf(tensor(1.0, 2.0))
    y = julia(lambda t, y: -k * y, y0, [0.0, 1.0], method="tsit5", adjoint=name).y
    found = torch.autograd.grad(y[-1], (k, y0), tensor(1.0, bad))
    assert all(bool(g.isnan().all()) for g in found)


def broken(t):
    """Zero between t = 0.4 and 0.6, positive outside: the derivative of a square root of it times x
    is there 0 times infinity."""
    return torch.clamp((t - 0.4) * (t - 0.6), min=0.0)


def solved(f, y0, name, hooks):
    """A solve whose gradient is to be made by the adjoint of this name."""
    if name != NATIVE:
        needs("sensitivity")
    options = {"method": "tsit5", "adjoint": JuliaAdjoint(name)}
    return solve(f, y0, [0.0, 1.0], backend=JuliaBackend(hooks=hooks), **options)


@each_form
@pytest.mark.parametrize("name", ALL)
def test_one_that_fails_is_told(name, hooks):
    """At once: SciMLSensitivity takes what it left, wherever it ended, and one of its adjoints
    would integrate over the rest, with up to ten million evaluations."""
    k, y0 = leaf(tensor(0.7)), leaf(tensor(1.0))
    solution = solved(lambda t, y: -k * y + torch.sqrt(y * broken(t)), y0, name, hooks)
    with pytest.raises(RuntimeError, match=r"no further than t = 0\.6.*loosen the rtol and atol"):
        solution.y[-1].sum().backward()
    assert solution.stats.backward_nvjp < MANY


@each_form
@pytest.mark.parametrize("name", ADAPTIVE)
def test_an_adaptive_quadrature_of_nan_is_told(name, hooks):
    """Its error would never be small enough."""
    k, y0 = leaf(tensor(0.7)), leaf(tensor(1.0))
    solution = solved(lambda t, y: -k * y + torch.sqrt(k * broken(t)), y0, name, hooks)
    with pytest.raises(RuntimeError, match=f"the reverse solve of {name} with Tsit5 came no"):
        solution.y[-1].sum().backward()
    assert solution.stats.backward_nvjp < MANY


@each_form
def test_a_quadrature_that_cannot_converge_is_told(hooks):
    """GaussKronrodAdjoint has an absolute tolerance, which this derivative's rounding exceeds."""
    k, y0 = leaf(tensor(0.7)), leaf(tensor(1.0))
    large = 1e14

    def f(t, y):
        return -y + large * (k - 0.7) * torch.cos(t)

    solution = solved(f, y0, "GaussKronrodAdjoint", hooks)
    with pytest.raises(RuntimeError, match="the reverse solve of GaussKronrodAdjoint"):
        solution.y[-1].sum().backward()
    assert solution.stats.backward_nvjp < MANY


@pytest.mark.parametrize("size", [1e-12, 1e12])
@pytest.mark.parametrize("name", ALL)
def test_the_size_of_the_loss_is_no_matter(name, size):
    """The gradient is as accurate, and as cheap, in all units of the loss."""
    k, y0 = leaf(tensor(0.7)), leaf(tensor(1.0))
    solution = solved(lambda t, y: -k * y + k * torch.sin(9 * t), y0, name, "auto")
    (found,) = torch.autograd.grad(size * solution.y[-1].sum(), k)
    assert solution.stats.backward_nvjp < MANY
    # y = e^(-kt) + k (9 e^(-kt) + k sin 9t - 9 cos 9t) / (k^2 + 81)
    rate = leaf(tensor(0.7))
    decay, denominator = torch.exp(-rate), rate**2 + 81
    wave = (9 * decay + rate * math.sin(9.0) - 9 * math.cos(9.0)) / denominator
    (expected,) = torch.autograd.grad((decay + rate * wave).sum(), rate)
    assert float(found) == pytest.approx(size * float(expected), rel=2e-2)
