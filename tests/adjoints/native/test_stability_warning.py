"""A native gradient through steps at the limit of stability says that it may be noise, as that of
the torch engine (adjoints/discrete/test_stability_warning)."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

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
