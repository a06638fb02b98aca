"""Gradients in y0, the parameters and the times, against closed forms."""

import math

import pytest
import torch
from torch import nn

from tests.support.cases import Forced, directional, leaf, tensor

each_method = pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
TIGHT = {"rtol": 1e-9, "atol": 1e-11}


class Decay(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, t, y):
        return -self.rate * y


@each_method
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_decay(engine, method, backward):
    """In y0 and a parameter of a module, and in all times."""
    f, y0 = Decay(), leaf(tensor(1.5))
    t = leaf(tensor(2.0, 1.1, 0.4) if backward else tensor(0.4, 1.1, 2.0))
    found = engine.solve(f, y0, t, method=method, **TIGHT)
    exact = y0 * torch.exp(-f.rate * (t - t[0])).unsqueeze(1)
    weights = tensor(0.3, -1.0, 2.0).unsqueeze(1)
    left, right = (
        torch.autograd.grad((weights * y).sum(), (y0, f.rate, t)) for y in (found.y, exact)
    )
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-5)


@each_method
def test_a_network_against_differences(engine, method):
    field, y0 = Forced(3), leaf(tensor(1.0, -0.5, 0.3))

    def loss():
        return engine.solve(field, y0, [0.0, 0.4, 1.0], method=method, **TIGHT).y.square().sum()

    exact, difference = directional(loss, [y0, *field.parameters()])
    assert difference == pytest.approx(exact, rel=1e-4)


@each_method
@pytest.mark.uses("python")
def test_a_tensor_that_f_uses_late(engine, method):
    """f does not touch it at the start."""
    late = leaf(tensor(2.0))

    def f(t, y):
        return -y if float(t) < 0.5 else -late * y

    found = engine.solve(f, tensor(1.0), [0.0, 1.0], method=method, jumps=[0.5], **TIGHT)
    found.y[-1].sum().backward()
    assert float(late.grad) == pytest.approx(-0.5 * math.exp(-1.5), rel=1e-4)


@each_method
def test_a_changed_field_is_refused(engine, method):
    """The gradient belongs to the f that was solved."""
    f = Decay()
    found = engine.solve(f, tensor(1.0), [0.0, 1.0], method=method)
    with torch.no_grad():
        f.rate.mul_(2)
    with pytest.raises(RuntimeError):
        found.y.sum().backward()
