"""Fields, times and methods of the tests of torchdiffeq's interface."""

import torch
from torch import nn

from pynode.compat.methods import ADAMS, ADAPTIVE, EITHER, FIXED
from tests.support.cases import tensor

SOLVERS = [*ADAPTIVE, *FIXED, *ADAMS, *EITHER]
GRIDS = [*FIXED, *ADAMS]


def decay(t, y):
    return -y


class Driven(nn.Module):
    """dy/dt = A y + sin(t)."""

    def __init__(self):
        super().__init__()
        self.A = nn.Parameter(tensor([-0.5, 1.0], [-1.0, -0.5]))
        self.unused = nn.Parameter(tensor(1.0))
        self.calls = 0

    def forward(self, t, y):
        self.calls += 1
        return y @ self.A.T + torch.sin(t)


def times(**keywords):
    return tensor(0.0, 0.3, 1.1, **keywords)
