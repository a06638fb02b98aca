"""The weighted norm in which errors are measured, and its weights."""

from __future__ import annotations

import math

import torch


class Tolerance:
    """Root mean square of error / (atol + rtol |y|). Hairer, Norsett & Wanner I, II.4.11.

    rtol: float; atol: 0-d or (n,) tensor in units of y.
    """

    def __init__(self, rtol: float, atol: torch.Tensor, size: int):
        self.rtol, self.atol, self.size = rtol, atol, size

    def scale(self, y):
        """atol + rtol |y|, (n,), in units of y."""
        return torch.add(self.atol, y.abs(), alpha=self.rtol)

    def ratio(self, error, y, y1) -> float:
        """Norm of error, (n,), scaled by the larger of |y| and |y1|: at most 1 where the step is good enough.

        The one synchronisation of a step.
        """
        scaled = error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        return math.sqrt(torch.dot(scaled, scaled).item() / self.size)

    def rms(self, v, inverse_scale) -> float:
        """Norm of v, (n,), with the reciprocal scale made beforehand."""
        scaled = v * inverse_scale
        return math.sqrt(torch.dot(scaled, scaled).item() / self.size)
