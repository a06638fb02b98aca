"""Misspelt options are answered with the right one."""

import pytest
import torch

import pynode
from pynode import solve


def decay(t, y):
    return -y


@pytest.mark.parametrize(
    ("call", "right"),
    [
        (lambda: solve(decay, [1.0], [0.0, 1.0], rtoll=1e-3), "rtol"),
        (lambda: solve(decay, [1.0], [0.0, 1.0], metod="qndf"), "method"),
        (lambda: pynode.QNDF(jacobain="sparse"), "jacobian"),
        (lambda: pynode.Tsit5(controler="I"), "controller"),
        (lambda: pynode.DiscreteAdjoint(checkpoint=3), "checkpoints"),
        (lambda: pynode.NativeBackend(devise="cpu"), "device"),
        (lambda: pynode.Krylov(precon=None), "precond"),
        (lambda: pynode.Event(decay, terminl=True), "terminal"),
        (lambda: pynode.ODEProblem(decay, torch.ones(1), (0, 1), arg=()), "args"),
        (lambda: pynode.steady_state(decay, torch.ones(1), rtoll=1e-3), "rtol"),
        (lambda: pynode.diagnose(decay, torch.ones(1), [0.0, 1.0], rtoll=1e-3), "rtol"),
    ],
)
def test_the_nearest_option_is_named(call, right):
    with pytest.raises(TypeError, match=f"did you mean '{right}'"):
        call()


def test_errors_of_the_field_stay_what_they_are():
    def broken(t, y):
        return torch.nope(y, rtoll=1)

    with pytest.raises(AttributeError, match="nope"):
        solve(broken, [1.0], [0.0, 1.0])
