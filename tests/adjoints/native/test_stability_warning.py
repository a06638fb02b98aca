"""A native gradient through steps at the limit of stability says that it may be noise, as that of
the torch engine (adjoints/discrete/test_stability_warning)."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from pynode import solve
from pynode.adjoints.native.pullback import pullback
from pynode.translate.field import translate
from tests.support.cases import tensor
from tests.support.native_solves import native


class Fast(nn.Module):
    """y' = -a (y - sin t)."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(tensor(1190.23))

    def forward(self, t, y):
        return -self.a * (y - torch.sin(t))


class Slow(nn.Module):
    """y' = -s a y with a buffer s. Only one test uses it: its functions are not made before."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(tensor(1.2))
        self.register_buffer("s", tensor(0.9))

    def forward(self, t, y):
        return -self.s * self.a * y


def gradient(method, end, **options):
    f = Fast()
    y0 = tensor(1.0)
    times = tensor(0.0, end)
    trajectory = native(f, y0, times, method, extra={"record": True}, **options)
    field = translate(f, y0, 0.0)
    return pullback(field, trajectory, times.tolist(), np.array([[0.0], [1.0]]))


@pytest.mark.parametrize("method", ["Tsit5", "BS3"])
def test_noise_is_told(method):
    with pytest.warns(RuntimeWarning, match=r"stability.*may be noise.*'rodas5p'"):
        gradient(method, 1.3918, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "end", "options"),
    [
        ("Rodas5P", 1.3918, {}),
        ("Tsit5", 0.01, {}),  # too few steps to hide a gradient
        ("Tsit5", 1.3918, {"max_step": 2e-4}),  # shorter than stability allows
    ],
)
def test_others_are_silent(method, end, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient(method, end, **options)


def test_the_first_gradient_of_a_long_solve():
    """The Jacobian for this check is made before the backward pass, in which f has copies of its
    buffers."""
    f = Slow()
    y0 = tensor(1.0)
    solution = solve(f, y0, (0.0, 0.5), method="tsit5", max_step=2e-3, backend="native")
    solution.y[-1].backward()
    assert solution.stats.accepted >= 100
    exact = -0.45 * torch.exp(-0.45 * f.a.detach())
    torch.testing.assert_close(f.a.grad, exact, rtol=1e-6, atol=0.0)
