"""Data sets that do not come from a file: from tensors, or from a tight solve of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..core.protocols import Times
from ..problems import Problem
from ..solve import solve
from .data import DataError, Dataset, Trajectory

# The tolerance of observations. A problem's atol suits its smallest species at rtol 1e-6.
RTOL = 1e-10


def dataset(
    t: Any,
    y: Any,
    columns: Sequence[str] | None = None,
    seen: torch.Tensor | Sequence[Sequence[bool]] | None = None,
) -> Dataset:
    """One trajectory as a data set.

    t: (T,), increasing. y: (T, n).
    columns: names of the states.
    seen: (T, n), False where a value is missing. NaN also means missing.

    Raises DataError if the shapes do not fit, a value is infinite, the start has gaps, or a state
    has no value after it.
    """
    t, y = (torch.as_tensor(x).detach().to("cpu", torch.float64) for x in (t, y))
    if y.dim() != 2 or t.shape != y.shape[:1] or len(t) < 2 or not bool((t.diff() > 0).all()):
        raise DataError(
            f"give increasing times, (T,), and states, (T, n), not {tuple(t.shape)} and"
            f" {tuple(y.shape)}"
        )
    present = torch.ones_like(y, dtype=torch.bool)
    if seen is not None:
        present = torch.as_tensor(seen).cpu()
    names = tuple(columns or (f"y{i + 1}" for i in range(y.shape[1])))
    if present.shape != y.shape or len(names) != y.shape[1]:
        raise DataError(
            f"seen {tuple(present.shape)} and {len(names)} columns do not fit y {tuple(y.shape)}"
        )
    present = present & ~y.isnan()
    if not bool(present[0].all()):
        raise DataError("the first row is the initial state, with no gaps")
    if bool(y.isinf().any()) or not bool(present[1:].any(0).all()):
        raise DataError("every state needs a value after the start, and all of them must be finite")
    return Dataset(names, "t", (Trajectory("", t, y.nan_to_num(0.0) * present, present),))


def observe(problem: Problem, t: Times) -> Dataset:
    """The states of a problem at the times t, (T,), to ten digits. The first time is the start of
    the problem."""
    atol = 1e-4 * torch.tensor(problem.atol, dtype=torch.float64)
    with torch.no_grad():
        y = solve(problem.field, problem.y0, t, method="radauiia9", rtol=RTOL, atol=atol).y
    return dataset(t, y, getattr(problem.field, "species", None))
