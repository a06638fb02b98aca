"""Second derivatives of native solves: those of the torch engine, and differences of native
gradients."""

import pytest
import torch
from torch import nn

from pynode import DiscreteAdjoint, PresetTimes, solve
from tests.support.cases import Forced, leaf, tensor
from tests.support.gradients import as_function
from tests.support.native_solves import FAMILIES, VARIANTS, assert_close, random_like

METHODS = [*FAMILIES, *VARIANTS, "ImplicitEuler"]
TIMES = (0.0, 0.33, 0.35, 1.0)  # outputs inside steps and at the end


def product(inputs, y):
    """(gradient, its derivative along random vectors) of a function of the outputs y."""
    loss = (random_like(y.shape) * y**2).sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    along = [random_like(x.shape, seed=i) for i, x in enumerate(inputs)]
    total = sum((g * v).sum() for g, v in zip(first, along, strict=True))
    return first, torch.autograd.grad(total, inputs)


def products(f, y0, backend, times=TIMES, **options):
    start = leaf(y0)
    solution = solve(f, start, times, backend=backend, **options)
    return product([start, *f.parameters()], solution.y)


def assert_same(found, expected, tolerance):
    for parts, wanted in zip(found, expected, strict=True):
        for one, other in zip(parts, wanted, strict=True):
            assert other.abs().max() > 0
            assert_close(one.detach().numpy(), other, tolerance)


def options_of(method):
    if method == "ImplicitEuler":
        return {"method": method, "step_size": 0.25}
    return {"method": method, "rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("method", METHODS)
def test_beside_the_torch_engine(method):
    """Of the long way and, in the second and third solve, of the short way."""
    f = Forced(2)
    y0 = tensor(1.0, -0.5)
    options = options_of(method)
    expected = products(f, y0, "torch", **options)
    for _ in range(3):
        assert_same(products(f, y0, "native", **options), expected, 1e-8)


@pytest.mark.parametrize("method", FAMILIES)
def test_checkpoints_change_no_bit(method):
    f = Forced(2)
    y0 = tensor(1.0, -0.5)
    found = [
        products(f, y0, "native", adjoint=adjoint, dense=True, **options_of(method))
        for adjoint in (DiscreteAdjoint(), DiscreteAdjoint(checkpoints=2))
    ]
    kept = products(f, y0, "native", adjoint=DiscreteAdjoint(checkpoints=2), **options_of(method))
    for parts in zip(*found, kept, strict=True):
        for one, other, third in zip(*parts, strict=True):
            assert torch.equal(one, other) and torch.equal(one, third)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5"])
def test_gradgradcheck_on_fixed_steps(method):
    f = Forced(1)
    run = as_function(f, method, step_size=0.5, backend="native")
    inputs = [leaf(tensor(0.7)), *map(leaf, f.parameters())]
    assert torch.autograd.gradgradcheck(
        lambda y0, *p: run(y0, [0.0, 0.3, 1.0], *p), inputs, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("method", ["QNDF", "FBDF"])
def test_gradgradcheck_of_an_adaptive_solve(method):
    f = Forced(1)
    run = as_function(f, method, rtol=1e-6, atol=1e-7, backend="native", first_step=1e-3)
    inputs = [leaf(tensor(0.7)), leaf(f.rate)]
    assert torch.autograd.gradgradcheck(
        lambda y0, rate: run(y0, [0.0, 0.5], f.W.detach(), f.b.detach(), rate),
        inputs,
        eps=1e-3,
        rtol=1e-2,
        atol=1e-3,
    )


@pytest.mark.parametrize("way", ["long", "short"])
def test_many_cotangents(way):
    """Of gradients that torch took together."""
    f = Forced(2)
    rows = random_like((3, len(TIMES), 2))
    found = []
    for backend in ("native", "native", "torch"):
        start = leaf(tensor(1.0, -0.5))
        inputs = [start, *f.parameters()]
        more = {"max_seconds": 1e6} if way == "long" else {}
        y = solve(f, start, TIMES, method="rodas5p", backend=backend, **more).y
        moving = leaf(rows)
        if backend == "native":
            first = torch.autograd.grad(y, inputs, moving, create_graph=True, is_grads_batched=True)
        else:
            single = [torch.autograd.grad(y, inputs, row, create_graph=True) for row in moving]
            first = [torch.stack(parts) for parts in zip(*single, strict=True)]
        total = sum((random_like(g.shape, seed=i) * g).sum() for i, g in enumerate(first))
        found.append((first, torch.autograd.grad(total, [moving, *inputs])))
    assert_same(found[0], found[2], 1e-8)
    assert_same(found[1], found[2], 1e-8)


class Model(nn.Module):
    """A model that solves its field."""

    def __init__(self, field, backend):
        super().__init__()
        self.field = field
        self.backend = backend

    def forward(self, y0):
        return solve(self.field, y0, TIMES, method="tsit5", backend=self.backend).y


def test_tensors_that_a_model_holds_for_one_call():
    """torch.func.functional_call takes them out before the gradient."""
    found = []
    for backend in ("native", "native", "torch"):
        model = Model(Forced(2), backend)
        others = {name: leaf(1.1 * p) for name, p in model.named_parameters()}
        y = torch.func.functional_call(model, others, (tensor(1.0, -0.5),))
        found.append(product(list(others.values()), y))
    assert_same(found[0], found[2], 1e-8)
    assert_same(found[1], found[2], 1e-8)


class Driven(nn.Module):
    """A field of a rate that is computed outside of it."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, t, y, drive):
        return -self.rate * y * y + drive * torch.cos(t)


def test_args_and_computed_tensors():
    found = []
    for backend in ("torch", "native"):
        inputs = [leaf(tensor(0.1, -0.3)), leaf(tensor(0.4)), leaf(tensor(1.0, 0.5))]
        f = Driven(inputs[0].exp())
        for _ in range(2):
            y = solve(f, inputs[2], TIMES, args=(inputs[1],), method="tsit5", backend=backend).y
            found.append(product(inputs, y))
    for other in found[2:]:
        assert_same(other, found[0], 1e-8)


def test_segments():
    """Presets cut the solve."""
    presets = PresetTimes([0.4], lambda t, y: 1.2 * y)
    options = {"method": "Rodas5P", "events": presets, "rtol": 1e-6}
    found = [
        products(Forced(2), tensor(1.0, -0.5), backend, **options)
        for backend in ("native", "torch")
    ]
    assert_same(*found, 1e-8)


def test_what_is_refused():
    f = Forced(2)
    start = leaf(tensor(1.0, -0.5))
    y = solve(f, start, TIMES, method="fbdf", backend="native").y
    (first,) = torch.autograd.grad(y.sum(), start, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), start, retain_graph=True)
    assert second.abs().max() > 0
    with pytest.raises(NotImplementedError, match="third derivatives"):
        torch.autograd.grad(first.sum(), start, create_graph=True)
    with torch.no_grad():
        f.W.mul_(2.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        torch.autograd.grad(first.sum(), start)
    y = solve(f, start, TIMES, method="fbdf", backend="native", adjoint="forward").y
    (first,) = torch.autograd.grad(y.sum(), start, create_graph=True)
    with pytest.raises(NotImplementedError, match="ForwardSensitivity has only first"):
        torch.autograd.grad(first.sum(), start)
