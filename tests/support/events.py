"""Fields and tolerances of the tests of events."""

import pytest
import torch

each_method = pytest.mark.parametrize("method", ["Tsit5", "QNDF", "Rodas5P"])
TIGHT = {"rtol": 1e-9, "atol": 1e-11}
# The largest error of times and states at these tolerances. A one-step method follows a parabola
# exactly; BDF does not.
ACCURACY = {"Tsit5": 2e-9, "QNDF": 1e-6, "Rodas5P": 2e-9}


def falling(t, y, g):
    return torch.stack((y[1], -g + 0 * y[0]))


def swinging(t, y):
    return torch.stack((y[1], -y[0]))


def height(t, y, *args):
    return y[0]
