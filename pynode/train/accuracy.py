"""How far a learned field is from the observations, for each state, in two measures of relative
error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from ..data import Dataset
from ..integrate import solve
from .inputs import for_run, start_of

# The pointwise error ignores values below this fraction of the largest. Its solves have this rtol.
FLOOR = 1e-3
RTOL = 1e-8


@dataclass(frozen=True)
class Accuracy:
    """The errors of a solution at all observed times after the starts, one number for each state.

    of_largest: the largest |y - observed|, divided by the largest |observed|.
    pointwise: the largest |y - observed| / |observed| where |observed| is above FLOOR of its
        largest. It is the stricter measure.
    """

    columns: tuple[str, ...]
    of_largest: tuple[float, ...]
    pointwise: tuple[float, ...]


class Solvable(Protocol):
    """A field with its own absolute tolerances, such as a PhysicalField."""

    def atol(self, rtol: float) -> torch.Tensor: ...

    def __call__(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor: ...


def accuracy(
    field: Solvable,
    data: Dataset,
    method: str = "fbdf",
    rtol: float = RTOL,
    backend: str = "auto",
) -> Accuracy:
    """The errors of a learned field. backend: as for ``solve``. Raises SolveError if it cannot be
    solved."""
    errors = []
    values = []
    observed = []
    for run in data.trajectories:
        own, stops = for_run(field, run)
        with torch.no_grad():
            y = solve(
                own,
                start_of(field, run),
                run.t,
                method=method,
                rtol=rtol,
                atol=field.atol(rtol),
                max_steps=20_000,
                backend=backend,
                **stops,
            ).y
        errors.append((y[:, : run.y.shape[1]] - run.y).abs()[1:])
        values.append(run.y.abs()[1:])
        observed.append(run.seen[1:])
    seen = torch.cat(observed)
    error = torch.cat(errors) * seen
    value = torch.cat(values) * seen
    largest = value.amax(0).clamp(min=torch.finfo(value.dtype).tiny)
    counted = seen & (value > FLOOR * largest)
    pointwise = torch.where(counted, error / value, torch.zeros_like(error)).amax(0)
    return Accuracy(
        data.columns, tuple((error.amax(0) / largest).tolist()), tuple(pointwise.tolist())
    )
