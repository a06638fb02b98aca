"""Data sets that a tight solve of a problem makes."""

from __future__ import annotations

import torch

from ..core.protocols import Times
from ..data import Dataset, dataset
from ..integrate import solve
from ..problems import Problem

# The tolerance of observations. A problem's atol suits its smallest species at rtol 1e-6.
RTOL = 1e-10


def observe(problem: Problem, t: Times) -> Dataset:
    """The states of a problem at the times t, (T,), to ten digits. The first time is the start of
    the problem."""
    atol = 1e-4 * torch.tensor(problem.atol, dtype=torch.float64)
    with torch.no_grad():
        y = solve(problem.field, problem.y0, t, method="radauiia9", rtol=RTOL, atol=atol).y
    return dataset(t, y, getattr(problem.field, "species", None))
