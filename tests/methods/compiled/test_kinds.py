"""Modules of one kind share what is compiled, and never more than that; views of their tensors
compile."""

import types
from fractions import Fraction as F

import pytest
import torch
from torch import nn

from pynode import solve
from pynode.methods import BS3, Rosenbrock23
from pynode.methods.explicit import ExplicitRungeKutta
from pynode.methods.registry import get
from pynode.methods.tableau import RungeKutta
from pynode.nn import NeuralODE
from tests.support.cases import tensor
from tests.support.compiledcase import TIMES, TRACED


class Linear(nn.Module):
    """y' = M y by one way to write it."""

    def __init__(self, kind, scale=1.0):
        super().__init__()
        matrix = -scale * tensor([1.0, 0.5], [0.0, 2.0])
        self.register_buffer("matrix", matrix)
        self.weight = nn.Parameter(matrix.clone())
        self.kind = kind

    def forward(self, t, y):
        if self.kind == "buffer.T":
            return y @ self.matrix.T
        if self.kind == "parameter.mT":
            return y @ self.weight.mT
        if self.kind == "buffer[:2]":
            return y @ self.matrix[:2].t()
        return nn.functional.linear(y, self.matrix)


@pytest.mark.parametrize("kind", ["buffer.T", "parameter.mT", "buffer[:2]", "linear"])
@pytest.mark.parametrize("method", ["rodas5p", "tsit5"])
@pytest.mark.parametrize("batched", [False, True])
def test_views_of_parameters_and_buffers(kind, method, batched):
    """A transposed buffer is served as any other, with many steps a call."""
    y0 = tensor([1.0, 2.0], [0.5, -1.0]) if batched else tensor(1.0, 2.0)
    options = {"batched": batched, "rtol": 1e-5}
    field = Linear(kind)
    found, expected = (
        solve(field, y0, TIMES, method=get(method, compile=c), **options).y for c in (TRACED, False)
    )
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["buffer.T", "linear"])
def test_a_second_module_of_the_kind_compiles_nothing(kind):
    """It runs on its own tensors all the same, and so does one that is made when the first is
    gone."""
    calls = []

    def count(graph, inputs):
        calls.append(graph)
        return graph.forward

    def end(field, chosen):
        method = Rosenbrock23(compile=chosen)
        return solve(field, tensor(1.0, 2.0), TIMES, method=method, rtol=1e-3).y[-1]

    first = end(Linear(kind), count)
    made = len(calls)
    field = Linear(kind, scale=2.0)
    second = end(field, count)
    assert made == len(calls) > 0
    assert torch.allclose(second, end(field, False), rtol=0, atol=1e-12)
    assert not torch.allclose(second, first)
    wide = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    assert NeuralODE(wide, method=BS3(compile=count))(tensor(1.0, 2.0)).shape == (2,)
    assert len(calls) > made


def test_a_number_that_differs_between_modules():
    """Where torch.compile has had enough of a function, a module gets one that is its own."""

    class Decay(nn.Module):
        def __init__(self, k):
            super().__init__()
            self.k = k

        def forward(self, t, y):
            return -self.k * y

    for k in range(1, 12):
        field = Decay(float(k))
        found, expected = (
            solve(field, tensor(1.0), [0.0, 0.1], method=BS3(compile=c), rtol=1e-2).y
            for c in (TRACED, False)
        )
        assert torch.allclose(found, expected, rtol=0, atol=1e-13)


class Late(nn.Module):
    """y' = -y, and from t = 0.5 on -k y, so that a comparison at the start does not see k. how:
    what holds k."""

    def __init__(self, how, k):
        super().__init__()
        self.net, self.scaled = nn.Identity(), lambda y: y
        if how == "number":
            self.k = k
            self.scaled = lambda y: self.k * y
        elif how == "closure":
            self.scaled = lambda y: k * y
        elif how == "hook":
            self.net.register_forward_hook(lambda module, given, out: k * out)
        elif how == "hook of some" and k != 1.0:
            self.net.register_forward_hook(lambda module, given, out: k * out)
        elif how == "forward":
            self.net.forward = lambda y: k * y
        elif how == "method":
            self.scaled = types.MethodType(lambda self, y: k * y, self)

    def forward(self, t, y):
        return torch.where(t > 0.5, -self.scaled(self.net(y)), -y)


@pytest.mark.parametrize("how", ["number", "closure", "hook", "hook of some", "forward", "method"])
def test_what_another_module_holds_is_seen(how):
    class Kind(Late):
        """A class of its own, as torch.compile counts what it makes for one."""

    for k in (1.0, 3.0):
        field = Kind(how, k)
        found, expected = (
            solve(field, tensor(1.0), [0.0, 1.0], method=BS3(compile=c), rtol=1e-3).y
            for c in (TRACED, False)
        )
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_a_formula_of_the_same_name():
    """Steps are known by the numbers of their method, not its name."""

    def own(c):
        b = 1 / (2 * c)
        return ExplicitRungeKutta.of(
            RungeKutta(
                name="Own2",
                order=2,
                reference="",
                c=(0, c),
                a=((), (c,)),
                b=(1 - b, b),
                b_err=(-b, b),
                embedded_order=1,
                dense=((1, -b), (0, b)),
                dense_order=2,
            )
        )

    class Square(nn.Module):
        def forward(self, t, y):
            return -y * y

    field, ends = Square(), []
    for method in (own(F(1, 2)), own(F(1))):
        found, expected = (
            solve(field, tensor(1.0), [0.0, 1.0], method=get(method, compile=c), step_size=0.25).y[
                -1
            ]
            for c in (TRACED, False)
        )
        assert torch.allclose(found, expected, rtol=0, atol=1e-13)
        ends.append(float(found))
    assert ends[0] != ends[1]
