"""Gradients reach parameters of every make, once, and nothing else: computed ones, shared ones,
replicas, compiled fields."""

import shutil

import pytest
import torch
from torch import nn

from pynode import solve
from tests.support.cases import Forced, leaf, tensor
from tests.support.modules import replica

METHODS = [
    "Tsit5",
    "Rodas5P",
    "KenCarp4",
    "RadauIIA5",
    "FBDF",
    "RKC",
    "AdamsPECE",
    "AutoTsit5(Rodas5P())",
]
every_method = pytest.mark.parametrize("method", METHODS)
T = [0.0, 0.4, 1.0]


def compute(t, y, rate, push):
    return -rate * y + push * torch.sin(y.roll(1) + t)


class Holder(nn.Module):
    """Without parameters of its own: tensors in their place, as in a replica of DataParallel or
    behind a hypernetwork."""

    def __init__(self, rate, push):
        super().__init__()
        self.rate, self.push = rate, push

    def forward(self, t, y):
        return compute(t, y, self.rate, self.push)


def forms(logs):
    """The same field with its parameters computed from logs, by every way in."""
    both = torch.exp(logs)
    rate, push = both[0], both[1]
    return {
        "closure": (lambda t, y: compute(t, y, rate, push), {}),
        "params": (lambda t, y: compute(t, y, rate, push), {"params": [both]}),
        "module": (Holder(rate, push), {}),
        "args": (compute, {"args": (rate, push)}),
        "args that depend on one another": (
            lambda t, y, logs, both: compute(t, y, torch.exp(logs[0]), both[1]),
            {"args": (logs, both)},
        ),
    }


@every_method
@pytest.mark.parametrize("n", [2, 40])
def test_computed_parameters(method, n):
    """However they come in; twice, because a user's graph must survive the first pass. 40 states go
    back by products."""
    logs, y0 = leaf(tensor(0.3, 0.5)), leaf(torch.linspace(1, -0.5, n, dtype=torch.float64))
    found = {}
    for name, (f, options) in forms(logs).items():
        for adjoint in ("discrete", "direct") if name == "closure" else ("discrete",):
            y = solve(f, y0, T, method=method, rtol=1e-4, atol=1e-6, adjoint=adjoint, **options).y
            first = torch.autograd.grad(y.square().sum(), (logs, y0), retain_graph=True)
            again = torch.autograd.grad(y.square().sum(), (logs, y0), retain_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
            found[name, adjoint] = first
    wanted = found.pop(("closure", "direct"))
    for name, grads in found.items():
        for a, b in zip(grads, wanted, strict=True):
            assert (a - b).abs().max() <= 1e-11 * b.abs().max(), name


@pytest.mark.parametrize("method", ["Tsit5", "FBDF", "Rodas5P"])
def test_second_derivatives_of_computed_parameters(method):
    logs, y0 = leaf(tensor(0.3, 0.5)), leaf(tensor(1.0, -0.5))
    found = {}
    for name, (f, options) in forms(logs).items():
        for adjoint in ("discrete", "direct") if name == "closure" else ("discrete",):
            y = solve(f, y0, T, method=method, rtol=1e-4, atol=1e-6, adjoint=adjoint, **options).y
            first = torch.autograd.grad((y**3).sum(), (logs, y0), create_graph=True)
            found[name, adjoint] = torch.autograd.grad(
                first[0].sum() + first[1].sum(), (logs, y0), retain_graph=True
            )
    wanted = found.pop(("closure", "direct"))
    for name, grads in found.items():
        for a, b in zip(grads, wanted, strict=True):
            assert (a - b).abs().max() <= 1e-9 * b.abs().max(), name


class Autonomous(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y):
        return self.net(y) - y


@every_method
def test_replicas(method):
    """Two of them, on halves of a batch, add up in the gradient of the module."""
    module, starts = (
        nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).double(),
        torch.randn(2, 2).double(),
    )
    field = Autonomous(module)

    def gradients(make):
        total = sum(
            solve(make(field), y0, T, method=method, rtol=1e-4).y.square().sum() for y0 in starts
        )
        return torch.autograd.grad(total, list(field.parameters()))

    for alone, shared in zip(gradients(lambda f: f), gradients(replica), strict=True):
        assert alone.abs().max() > 0
        torch.testing.assert_close(shared, alone, rtol=1e-10, atol=1e-12)


@every_method
def test_what_is_frozen_costs_nothing(method):
    """No gradient, and no pass to the parameters at all where none is wanted."""
    f, y0 = Forced(), tensor(1.0, -0.5, 0.3)
    f.W.requires_grad_(False)
    solution = solve(f, y0, T, method=method, rtol=1e-4)
    solution.y[-1].sum().backward()
    assert f.W.grad is None and y0.grad is None and f.b.grad.abs().max() > 0
    some = solution.stats
    f.requires_grad_(False)
    none = solve(f, leaf(y0), T, method=method, rtol=1e-4)
    none.y[-1].sum().backward()
    assert none.stats.backward_nvjp < some.backward_nvjp or method in ("RKC", "AdamsPECE")
    assert not solve(f, y0, T, method=method, rtol=1e-4).y.requires_grad
    assert solve(f, y0, T, method=method, rtol=1e-4)._trajectory.recording is None


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_compiled_fields(method, backend):
    """torch.compile of the field, in both passes; inductor needs a compiler for its kernels on the
    CPU."""
    if backend == "inductor" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("no C++ compiler for torch.compile's kernels")
    f, y0 = Forced(2), leaf(tensor(1.0, -0.5))
    compiled = torch.compile(f, backend=backend)
    options = {"method": method, "rtol": 1e-4, "atol": 1e-6}
    wanted = solve(f, y0, T, **options).y
    found = solve(compiled, y0, T, **options).y
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    grads = [torch.autograd.grad(y.square().sum(), [y0, *f.parameters()]) for y in (found, wanted)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-8, atol=1e-11)
