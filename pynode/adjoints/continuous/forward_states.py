"""The states of a recorded solve at any time, from the polynomials of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.trajectory import evaluate_each

if TYPE_CHECKING:
    from ...core.trajectory import Trajectory


class States:
    """y(t) inside a trajectory with polynomials.

    t is origin + shift. For a large t the sum has a rounding error, but the position in the step is
    exact.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.path = trajectory
        self.grid = trajectory.grid()

    def eval(self, origin: float, shift: float) -> Tensor:
        """y, (n,), at origin + shift."""
        _, coefficients, theta = self._located(origin, shift)
        powers = [1.0]
        for _ in range(len(coefficients) - 1):
            powers.append(powers[-1] * theta)
        return torch.mv(
            coefficients.t(),
            torch.tensor(powers, dtype=coefficients.dtype, device=coefficients.device),
        )

    def dydt(self, origin: float, shift: float) -> Tensor:
        """dy/dt of the polynomial, (n,)."""
        k, coefficients, theta = self._located(origin, shift)
        powers = [0.0]
        last = 1.0
        for i in range(1, len(coefficients)):
            powers.append(i * last / self.path.steps[k].h)
            last *= theta
        return torch.mv(
            coefficients.t(),
            torch.tensor(powers, dtype=coefficients.dtype, device=coefficients.device),
        )

    def _located(self, origin, shift):
        k = self.grid.locate(origin + shift)
        step = self.path.steps[k]
        return k, self.path.polynomials[k], (origin - step.t + shift) / step.h

    def batch_eval(self, origins: Tensor, shifts: Tensor, steps: Sequence[int]) -> Tensor:
        """y, (m, q, n), at origins (m, 1) + shifts (m, q), both float64. Row i lies inside the step
        steps[i]."""
        taken = [self.path.steps[k] for k in steps]
        start = torch.tensor(
            [step.t for step in taken], dtype=torch.float64, device=shifts.device
        ).unsqueeze(1)
        h = torch.tensor(
            [step.h for step in taken], dtype=torch.float64, device=shifts.device
        ).unsqueeze(1)
        return evaluate_each(
            [self.path.polynomials[k] for k in steps], (origins - start + shifts) / h
        )
