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

    def __init__(self, t, y, status: Status, message: str, stats: Stats, method: str, layout, trajectory, between, choice):
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
