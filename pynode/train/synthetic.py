"""Data sets that do not come from a file: tensors at hand, and observations of a named problem by a
tight solve."""

from __future__ import annotations

import torch

from ..problems import Problem
from ..solve import solve
from .data import DataError, Dataset, Trajectory

# Observations are solutions to this tolerance; those of atol suit the smallest species of a problem
# at 1e-6.
RTOL = 1e-10


def dataset(t, y, columns=None, seen=None) -> Dataset:
    """One trajectory as a data set: times t, (T,), increasing, states y, (T, n), and seen, (T, n),
    False where a value is missing (NaN is, too). DataError where the shapes do not fit, a value is
    infinite, the start has gaps, or a state has no value after it."""
    t, y = (torch.as_tensor(x).detach().to("cpu", torch.float64) for x in (t, y))
    if y.dim() != 2 or t.shape != y.shape[:1] or len(t) < 2 or not bool((t.diff() > 0).all()):
        raise DataError(
            f"give increasing times, (T,), and states, (T, n), not {tuple(t.shape)} and"
            f" {tuple(y.shape)}"
        )
    if seen is None:
        seen = torch.ones_like(y, dtype=torch.bool)
    else:
        seen = torch.as_tensor(seen).cpu()
    columns = tuple(columns or (f"y{i + 1}" for i in range(y.shape[1])))
    if seen.shape != y.shape or len(columns) != y.shape[1]:
        raise DataError(
            f"seen {tuple(seen.shape)} and {len(columns)} columns do not fit y {tuple(y.shape)}"
        )
    seen = seen & ~y.isnan()
    if not bool(seen[0].all()):
        raise DataError("the first row is the initial state, with no gaps")
    if bool(y.isinf().any()) or not bool(seen[1:].any(0).all()):
        raise DataError("every state needs a value after the start, and all of them must be finite")
    return Dataset(columns, "t", (Trajectory("", t, y.nan_to_num(0.0) * seen, seen),))


def observe(problem: Problem, t) -> Dataset:
    """The states of a problem at the times t, (T,), of which the first is the problem's start, to
    ten digits."""
    atol = 1e-4 * torch.tensor(problem.atol, dtype=torch.float64)
    with torch.no_grad():
        y = solve(problem.field, problem.y0, t, method="radauiia9", rtol=RTOL, atol=atol).y
    return dataset(t, y, getattr(problem.field, "species", None))
