"""What training makes small: how far the solutions of a field lie from the observations, in scaled states."""

from __future__ import annotations

import math

import torch

from ..solve import solve
from .data import Dataset
from .options import Options
from .scaling import Scaling


class Objective:
    """The mean error over all observed values after the starts, of a data set with its scaling.

    Kim et al. 2021: the loss is taken of the states divided by their ranges, so that a species of 1e-5 counts like one
    of 1. 'mae' is the mean of |u - u_observed|, 'mse' of its square.
    """

    def __init__(self, data: Dataset, scaling: Scaling, options: Options):
        self.observations, self.options = data.observations, options
        self.runs = [(run.t, scaling.scaled(run.y), run.seen) for run in data.trajectories]

    def __len__(self) -> int:
        """The number of trajectories."""
        return len(self.runs)

    def baseline(self) -> float:
        """The loss of states that never move from where they start: what a field that learned nothing achieves."""
        return float(sum(self._cost(u[:1].expand_as(u), u, seen) for _, u, seen in self.runs))

    def part(self, field, i: int):
        """Solve trajectory i: its part of the loss, differentiable, None where the solve failed; and the Solution."""
        t, u, seen = self.runs[i]
        solution = solve(field, u[0], t, throw=False, **self.options.tolerances)
        return (self._cost(solution.y, u, seen) if solution.success else None), solution

    def value(self, field) -> float:
        """The loss of a field, infinite where a trajectory cannot be solved."""
        total = 0.0
        with torch.no_grad():
            for i in range(len(self.runs)):
                part, _ = self.part(field, i)
                if part is None:
                    return math.inf
                total += float(part)
        return total if math.isfinite(total) else math.inf

    def _cost(self, u, observed, seen):
        """The part of one trajectory in the mean; u, observed and seen are (T, n)."""
        error = (u[1:] - observed[1:])[seen[1:]]
        error = error.abs() if self.options.loss == "mae" else error * error
        return error.sum() / self.observations
