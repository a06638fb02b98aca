"""The states of a recorded solve at any time of it, from the polynomials of its steps."""

from __future__ import annotations

import torch

from ..dense import evaluate_each


class States:
    """y(t) inside a trajectory that has polynomials."""

    def __init__(self, trajectory):
        self.path, self.grid = trajectory, trajectory.grid()

    def at(self, t: float):
        """y(t), (n,)."""
        coefficients, theta = self._located(t)
        powers = [1.0]
        for _ in range(len(coefficients) - 1):
            powers.append(powers[-1] * theta)
        return torch.mv(coefficients.t(), torch.tensor(powers, dtype=coefficients.dtype, device=coefficients.device))

    def slope(self, t: float):
        """dy/dt of the polynomial, (n,)."""
        k = self.grid.locate(t)
        coefficients, theta = self._located(t)
        powers, last = [0.0], 1.0
        for i in range(1, len(coefficients)):
            powers.append(i * last / self.path.steps[k].h)
            last *= theta
        return torch.mv(coefficients.t(), torch.tensor(powers, dtype=coefficients.dtype, device=coefficients.device))

    def _located(self, t):
        k = self.grid.locate(t)
        step = self.path.steps[k]
        return self.path.polynomials[k], (t - step.t) / step.h

    def many(self, times, steps):
        """y, (m, q, n), at times (m, q) float64, those of row i inside the step steps[i]."""
        found = [self.path.steps[k] for k in steps]
        start = torch.tensor([step.t for step in found], dtype=torch.float64, device=times.device).unsqueeze(1)
        h = torch.tensor([step.h for step in found], dtype=torch.float64, device=times.device).unsqueeze(1)
        return evaluate_each([self.path.polynomials[k] for k in steps], (times - start) / h)
