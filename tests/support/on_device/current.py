"""Of several devices, the one of the state is current while f runs; threads of autograd."""

import threading

import pytest
import torch

from pynode import odeint_adjoint, solve
from pynode.methods.compiled.torch_compile import has_graphs
from pynode.sde import solve_sde
from tests.support.on_device import NAME, leaf, strict
from tests.support.pretended import module


@pytest.fixture
def another(monkeypatch):
    """The user works on device 1. Yields the device of each call of f; device 1 must be current
    again at the end."""
    monkeypatch.setattr(module, "current", 1)
    found = []
    yield found
    assert found and set(found) == {0}
    assert module.current == 1


def watched(found):
    def f(t, y):
        found.append(module.current_device())
        return -y * y

    return f


@pytest.mark.parametrize("batched", [False, True], ids=["single", "rows"])
@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
@pytest.mark.parametrize("tree", [False, True], ids=["tensor", "tree"])
def test_solves_and_gradients(method, batched, tree, another):
    with strict():
        y0 = leaf([[1.0, 2.0]], NAME)
        f = watched(another)
        if tree:
            plain = f

            def f(t, y):
                return {"y": plain(t, y["y"])}

        start = {"y": y0} if tree else y0
        y = solve(f, start, [0.0, 1.0], method=method, batched=batched).y
        forward = len(another)
        torch.autograd.grad((y["y"] if tree else y).sum(), y0)
        assert len(another) > forward > 0


@pytest.mark.parametrize("adjoint", ["GaussAdjoint", "ForwardSensitivity", "BacksolveAdjoint"])
def test_adjoints(adjoint, another):
    with strict():
        y0 = leaf([1.0, 2.0], NAME)
        y = solve(watched(another), y0, [0.0, 1.0], method="Rodas5P", adjoint=adjoint).y
        torch.autograd.grad(y.sum(), y0)


def test_torchdiffeq(another):
    with strict():
        y0 = leaf([1.0, 2.0], NAME)
        t = torch.tensor([0.0, 1.0])
        y = odeint_adjoint(watched(another), y0, t, adjoint_params=(), method="dopri5")
        torch.autograd.grad(y.sum(), y0)


def test_stochastic_equations(another):
    with strict():
        y0 = leaf([[1.0], [2.0]], NAME)
        y = solve_sde(watched(another), lambda t, y: 0.1 * y, y0, [0.0, 1.0], dt=0.1).y
        torch.autograd.grad(y.sum(), y0)


def test_after_an_error(another):
    def broken(t, y):
        another.append(module.current_device())
        raise KeyError("mine")

    with strict(), pytest.raises(KeyError):
        solve(broken, leaf([1.0], NAME), [0.0, 1.0], method="Tsit5")


class Look(torch.autograd.Function):
    """x, and on the way back a look at the thread."""

    @staticmethod
    def forward(ctx, x, found):
        ctx.found = found
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.found.append((threading.current_thread() is threading.main_thread(), has_graphs()))
        return grad, None


def test_threads_of_autograd_have_cuda_graphs():
    """Backward passes repeat compiled steps there: if the thread that asks has graphs, so have
    they."""
    with strict():
        found = []
        x = leaf([1.0], NAME)
        Look.apply(x, found).sum().backward()
        assert found == [(False, True)]
