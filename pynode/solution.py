"""What a solve returns."""

from __future__ import annotations

import torch

from .stats import Stats
from .status import SolveError, Status


class Solution:
    """States at the output times, how the solve ended, and what it cost.

    t: (T,) times reached, float64; y: states in the structure of y0 with a leading dimension T, differentiable;
    status, message: how it ended; stats: forward counts, and backward ones once a gradient was taken.
    method: its name; choice: why 'auto' took it, empty where it was asked for by name.
    Where dense output was asked for, ``solution(t)`` gives the state at any time of the span, differentiable likewise.
    """

    def __init__(
        self, t, y, status: Status, message: str, stats: Stats, method: str, layout, trajectory, between, choice
    ):
        self.t, self.y, self.status, self.message = t, y, status, message
        self.stats, self.method, self.choice = stats, method, choice
        self._layout, self._trajectory, self._between = layout, trajectory, between

    @property
    def success(self) -> bool:
        return self.status is Status.SUCCESS

    def check(self) -> "Solution":
        """self, or SolveError where the solve ended before its time."""
        if not self.success:
            raise SolveError(self)
        return self

    def __call__(self, t):
        """The state at time t, a number or (m,) times; ValueError outside the span or without dense=True."""
        path = self._trajectory
        if not path.polynomials:
            raise ValueError("this solution has no dense output: call solve(..., dense=True)")
        times = torch.as_tensor(t, dtype=torch.float64)
        queries, grid = times.reshape(-1).tolist(), path.grid()
        for s in queries:
            if not grid.covers(s):
                raise ValueError(f"t = {s:.6g} lies outside the solved span, {path.t0:.6g} to {path.t:.6g}")
        return self._layout.unravel(self._between(queries).reshape(*times.shape, -1))

    def __repr__(self):
        return f"Solution({self.method}, {len(self.t)} times to t = {float(self.t[-1]):.6g}, {self.status.name}, {self.stats})"


class BatchSolution:
    """What a solve with batched=True returns.

    t: (T, B) times, a column for each row; y: states with leading dimensions (T, B), NaN where a row did not arrive;
    statuses: how each row ended; reached: the time that each row reached; stats: counts over all rows.
    """

    def __init__(self, t, y, statuses, reached, stats: Stats, method: str):
        self.t, self.y, self.statuses, self.reached = t, y, statuses, reached
        self.stats, self.method = stats, method

    @property
    def success(self) -> bool:
        return all(status is Status.SUCCESS for status in self.statuses)

    @property
    def status(self) -> Status:
        """SUCCESS, or the status of the first row that failed."""
        return next((status for status in self.statuses if status is not Status.SUCCESS), Status.SUCCESS)

    @property
    def message(self) -> str:
        failed = [i for i, status in enumerate(self.statuses) if status is not Status.SUCCESS]
        if not failed:
            return f"{len(self.statuses)} rows: {Status.SUCCESS.sentence}."
        first = failed[0]
        return (
            f"{self.method}: {len(failed)} of {len(self.statuses)} rows failed, the first of them row {first}: "
            f"{self.status.sentence}, at t = {self.reached[first]:.6g}. What to do: {self.status.remedy}."
        )

    def check(self) -> "BatchSolution":
        """self, or SolveError where a row ended before its time."""
        if not self.success:
            raise SolveError(self)
        return self
