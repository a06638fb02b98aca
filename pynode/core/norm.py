"""The weighted norm of errors, and its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# A larger value costs accuracy, a smaller one costs evaluations: on the five reference problems
# 0.001 takes 15 % longer, and 0.1 doubles the errors.
NEWTON = 0.02
STAGES = 0.25  # the fraction of NEWTON for each stage, if a step solves several implicit stages
# In units in the last place of y. A smaller correction is rounding. Rounding does not converge, so
# the ratio of two such corrections is not a convergence rate.
ROUNDING = 10


def floor_of_rounding(rtol: float, noise: float) -> float:
    """The norm of a correction at the level of rounding, if rtol |y| is the tolerance. noise: the
    rounding of y, relative to y."""
    # An rtol near rounding gives no useful scale of y: then atol determines the accuracy.
    if rtol > 4 * noise:
        return noise / rtol
    return NEWTON


class Tolerance:
    """Root mean square of error / (atol + rtol |y|). Hairer, Norsett & Wanner I, II.4.11.

    rtol: float. atol: 0-d or (n,) tensor, in units of y. newton_tol: the error that Newton's
    iteration may leave, as a fraction of the allowed error of a step (kappa in Hairer & Wanner II,
    IV.8.10). stage_newton_tol: the same for a step with several stages. rounding_floor: the norm of
    a correction at the level of rounding if rtol |y| is the tolerance; Newton's iteration stops
    there. If atol is the larger part, ``rounding`` measures this level. has_zero_atol: whether a
    component has no atol (options.py).
    """

    def __init__(self, rtol: float, atol: torch.Tensor, size: int) -> None:
        self.rtol = rtol
        self.atol = atol
        self.size = size
        self.noise = ROUNDING * torch.finfo(atol.dtype).eps
        self.rounding_floor = floor_of_rounding(rtol, self.noise)
        self.newton_tol = max(self.rounding_floor, NEWTON)
        self.stage_newton_tol = max(self.rounding_floor, STAGES * NEWTON)
        self.has_zero_atol = atol.detach().min().item() <= torch.finfo(atol.dtype).tiny

    def scale(self, y: Tensor) -> Tensor:
        """atol + rtol |y|, (n,), in units of y."""
        return torch.add(self.atol, y.abs(), alpha=self.rtol)

    def grow_scale(self, scale: Tensor, y: Tensor) -> Tensor:
        """The larger of the scale, (n,), and rtol |y|. A component without atol has no scale where
        it is zero."""
        if self.has_zero_atol:
            return torch.maximum(scale, self.rtol * y.abs())
        return scale

    def scale_or_inf(self, scale: Tensor) -> Tensor:
        """The scale, (n,), with infinity for components that have none."""
        tiny = torch.finfo(scale.dtype).tiny
        if self.has_zero_atol:
            return torch.where(scale <= tiny, torch.inf, scale)
        return scale

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> float:
        """Norm of error, (n,), scaled by the larger of |y| and |y1|. A step with a norm of at most
        1 is accurate enough.

        It is the one synchronisation of a step.
        """
        scaled = error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        return math.sqrt(torch.dot(scaled, scaled).item() / self.size)

    def rms(self, v: Tensor, scale: Tensor | float) -> float:
        """Norm of v, (n,), in units of a given scale."""
        scaled = v / scale
        return math.sqrt(torch.dot(scaled, scaled).item() / self.size)

    def rounding(self, y: Tensor, increment: Tensor, scale: Tensor | float) -> float:
        """Norm of the rounding error of a correction to y, (n,). increment: y minus the start of
        its step."""
        return self.noise * self.rms(y.abs() + increment.abs(), scale)


class GroupTolerance(Tolerance):
    """The largest of the root mean squares of groups of components. A group of 1e6 parameters then
    does not hide a group of 3 states.

    groups: the sizes of the groups, in the order of the components. Components after the last group
    belong to no norm.
    """

    def __init__(self, rtol: float, atol: Tensor, groups: Sequence[int]) -> None:
        super().__init__(rtol, atol, sum(groups))
        self.groups = groups

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> float:
        return self._norm(
            error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        )

    def rms(self, v: Tensor, scale: Tensor | float) -> float:
        return self._norm(v / scale)

    def _norm(self, scaled):
        parts = scaled[: self.size].split(self.groups)
        return math.sqrt(
            torch.stack([torch.dot(part, part) / len(part) for part in parts]).max().item()
        )


class RowTolerance(Tolerance):
    """The norm of every row of (m, n): (m,) float64. atol: 0-d, (n,), or (m, n) for each row."""

    def __init__(self, rtol: float, atol: Tensor, size: int) -> None:
        super().__init__(rtol, atol, size)
        self.mean = atol.new_full((size,), 1 / size)

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> Any:
        return self.norms(
            error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        )

    def rms(self, v: Tensor, scale: Tensor | float) -> Any:
        return torch.linalg.vector_norm(v / scale, dim=1).to(torch.float64) / math.sqrt(self.size)

    def rounding(self, y: Tensor, increment: Tensor, scale: Tensor | float) -> Any:
        return self.noise * self.norms((y.abs() + increment.abs()) / scale)

    def norms(self, scaled: Tensor) -> np.ndarray:
        """Root mean squares of scaled values, (..., m, n), as (..., m) on the host. It is the one
        copy of a pass."""
        squares = torch.mv(scaled.square().view(-1, self.size), self.mean)
        return np.sqrt(squares.cpu().numpy().reshape(scaled.shape[:-1]), dtype=np.float64)

    def ratio_there(self, error: Tensor, y: Tensor, y1: Tensor) -> Tensor:
        """``ratio`` as a tensor on the device of the states, without a synchronisation."""
        return self.norms_there(
            error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        )

    def norms_there(self, scaled: Tensor) -> Tensor:
        """``norms`` as a tensor, likewise."""
        squares = torch.mv(scaled.square().view(-1, self.size), self.mean)
        return squares.view(scaled.shape[:-1]).to(torch.float64).sqrt()

    def rounding_there(self, y: Tensor, increment: Tensor, reciprocal: Tensor) -> Tensor:
        """``rounding`` as a tensor, likewise. reciprocal: 1 / scale, (m, n)."""
        return self.noise * self.norms_there((y.abs() + increment.abs()) * reciprocal)

    def select(self, keep: Tensor) -> RowTolerance:
        """The tolerance of the rows in keep."""
        if self.atol.dim() < 2:
            return self
        tolerance = copy.copy(self)
        tolerance.atol = self.atol[keep]
        return tolerance
