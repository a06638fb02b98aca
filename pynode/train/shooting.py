"""Multiple shooting: a trajectory is solved in segments, each with its own start.

A single solve over a long span propagates an early error to the end, and the loss becomes a
landscape of cliffs. Segments that start at the observations, or at states that are learned together
with the weights, do not have this problem (Bock & Plitt, A multiple shooting algorithm for direct
solution of optimal control problems, IFAC Proceedings 17, 1984; Turan & Jäschke, Multiple shooting
for training neural differential equations on time series, IEEE Control Systems Letters 6, 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from ..core.solution import Solution
from ..integrate import solve


def multiple_shooting(
    f: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    t: torch.Tensor,
    y: torch.Tensor,
    intervals: int,
    *,
    starts: torch.Tensor | None = None,
    seen: torch.Tensor | None = None,
    continuity: float = 1.0,
    loss: Literal["mae", "mse"] = "mae",
    **options: Any,
) -> torch.Tensor:
    """The loss of the observations y, (T, n), at the times t, (T,), of dy/dt = f(t, y), solved in
    segments.

    intervals: the number of observations after the start of each segment. With T - 1 or more there
        is one segment, which is ordinary single shooting.
    starts: (S, n), the starts of the segments, which may be parameters. The default is the
        observations there.
    seen: (T, n), False where a value is missing. The default starts must have no missing values.
    continuity: the weight of the mean error between the end of a segment and the start of the next.
        If the starts are the observations, this end is also an observation. Let the weight grow so
        that segments join.
    loss: 'mae' or 'mse', the mean over all values seen after the first.
    options: of ``solve``.

    Raises SolveError if a segment fails.
    """
    if loss not in ("mae", "mse"):
        raise ValueError(f"unknown loss {loss!r}: choose one of mae, mse")
    if seen is None:
        seen = torch.ones_like(y, dtype=torch.bool)
    solved, starts = shoot(f, t, y, intervals, starts, seen, **options)

    def cost(error: torch.Tensor) -> torch.Tensor:
        return (error.abs() if loss == "mae" else error * error).sum()

    total = cost((joined(solved) - y[1:])[seen[1:]]) / seen[1:].sum()
    if len(solved) > 1:
        final = torch.stack([solution.y[-1] for solution in solved[:-1]])
        total = total + continuity * cost(final - starts[1:]) / final.numel()
    return total


def shoot(
    f: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    t: torch.Tensor,
    y: torch.Tensor,
    intervals: int,
    starts: torch.Tensor | None = None,
    seen: torch.Tensor | None = None,
    **options: Any,
) -> tuple[list[Solution], torch.Tensor]:
    """The Solutions of the segments, and their starts, (S, n). With throw=False the list ends with
    the first one that failed."""
    if int(intervals) != intervals or intervals < 1:
        raise ValueError(f"intervals must be a whole number from 1 on, not {intervals!r}")
    first = range(0, len(t) - 1, int(intervals))
    if starts is None:
        if seen is not None and not bool(seen[list(first)].all()):
            raise ValueError(
                "a segment would start where a value is missing: give starts, or other intervals"
            )
        starts = y[list(first)]
    elif starts.shape != (len(first), y.shape[1]):
        raise ValueError(
            f"starts must be {len(first)} states of {y.shape[1]}, one a segment, not"
            f" {tuple(starts.shape)}"
        )
    solved: list[Solution] = []
    for start, k in zip(starts, first, strict=True):
        solved.append(solve(f, start, t[k : k + int(intervals) + 1], **options))
        if not solved[-1].success:
            break
    return solved, starts


def joined(solved: list[Solution]) -> torch.Tensor:
    """The states at all times after the first, (T - 1, n), of segments that succeeded."""
    return torch.cat([solution.y[1:] for solution in solved])
