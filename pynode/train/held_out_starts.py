"""The start of a trajectory that training never saw, from its first observations.

Nothing at the start itself says where hidden states are, and an observed start has noise. What
training learns of a start is estimated as the most probable given the first observations. Starts
have the mean and the variance of the learned ones, and errors have the variance of the errors of
training. This is the empirical Bayes estimate of population models (M. J. Lindstrom, D. M. Bates,
Biometrics 46 (1990), sec. 3). The observations after the first ones are not used, and only they can
show what the field predicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .objective import Objective
from .scaling import ScaledField

# The part of the observations after the start from which it is estimated.
PART = 0.25
# Learned starts from which the search begins, besides their mean.
CANDIDATES = 7
STEPS = 10
# The change of a state, in its standard deviations, that gives a derivative, and the one at
# which the search ends.
DIFFERENCE = 1e-3
SMALL = 1e-3
# The errors of training, in scaled states, count as at least this.
LEAST_ERROR = 1e-4


def estimate_starts(objective: Objective, field: ScaledField, held_out: Sequence[bool]) -> None:
    """Set the starts of the trajectories of the objective that are held out; its others are
    learned. ``objective.told`` then says how many observations were used."""
    starts = objective.starts
    if starts is None:
        return
    with torch.no_grad():
        kept = torch.tensor([not out for out in held_out])
        learned = starts[kept].clone()
        error = _training_error(objective, field, held_out)
        for i, out in enumerate(held_out):
            if out:
                count = math.ceil(PART * (len(objective.runs[i].t) - 1))
                objective.rows[i] = torch.arange(count + 1)
                starts[i] = _Search(objective, field, i, learned, error).best()
                objective.rows[i] = None
                objective.told[i] = count


def _training_error(objective, field, held_out) -> float:
    """The root mean square of the weighted errors of the trajectories that are not held out."""
    parts = []
    for i, out in enumerate(held_out):
        if not out:
            errors, _, _ = objective.errors(field, i)
            if errors is not None:
                parts.append(errors[objective.runs[i].weight > 0])
    if not parts:
        return 1.0
    return max(LEAST_ERROR, float(torch.cat(parts).square().mean().sqrt()))


class _Search:
    """The most probable start of trajectory i. learned: (K, d) starts. error: the standard
    deviation of an error."""

    def __init__(
        self, objective: Objective, field: ScaledField, i: int, learned: Tensor, error: float
    ) -> None:
        self.objective = objective
        self.field = field
        self.i = i
        self.learned = learned
        self.error = error
        self.mean = learned.mean(0)
        spread = torch.zeros_like(self.mean)
        if len(learned) > 1:
            spread = learned.std(0)
        self.sd = torch.where(spread > 0, spread, torch.ones_like(spread))

    def best(self) -> Tensor:
        """(d,) by the method of Levenberg and Marquardt, from the best of some learned starts."""
        stride = max(1, len(self.learned) // CANDIDATES)
        tried = [self.mean, *self.learned[::stride]]
        x = min(tried, key=lambda start: self._cost(self._residuals(start)))
        residuals = self._residuals(x)
        damping = 1e-3
        for _ in range(STEPS):
            if residuals is None:
                break
            step = self._step(x, residuals, damping)
            if step is None:
                break
            other = self._residuals(x + step)
            if self._cost(other) < self._cost(residuals):
                x = x + step
                residuals = other
                damping = damping / 10
                if float((step / self.sd).abs().max()) < SMALL:
                    break
            else:
                damping = damping * 10
        return x

    def _step(self, x, residuals, damping) -> Tensor | None:
        """The step of one iteration, None where a solve fails beside x."""
        columns = []
        for k in range(len(x)):
            moved = x.clone()
            moved[k] += DIFFERENCE * self.sd[k]
            beside = self._residuals(moved)
            if beside is None:
                return None
            columns.append((beside - residuals) / DIFFERENCE)
        jacobian = torch.stack(columns, 1)
        normal = jacobian.T @ jacobian
        normal = normal + damping * torch.diag(normal.diagonal())
        return -torch.linalg.solve(normal, jacobian.T @ residuals) * self.sd

    def _residuals(self, x) -> Tensor | None:
        """The errors of the first observations and the distance from the mean, in standard
        deviations; None if the solve fails."""
        starts = self.objective.starts
        assert starts is not None
        starts[self.i] = x
        errors, _, _ = self.objective.errors(self.field, self.i)
        if errors is None:
            return None
        return torch.cat((errors.flatten() / self.error, (x - self.mean) / self.sd))

    def _cost(self, residuals) -> float:
        if residuals is None:
            return math.inf
        return float(residuals.square().sum())
