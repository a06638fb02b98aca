"""The weighted norm in which errors are measured, and its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Larger costs accuracy, smaller costs evaluations: on the five reference problems 0.001 takes 15 %
# longer, 0.1 doubles errors.
NEWTON = 0.02
STAGES = 0.25  # of it, in each of several stages that a step solves one after another or together
# Units in the last place of y: a correction below this is rounding. Rounding does not converge, and
# a ratio of two such corrections says nothing about Newton's iteration.
ROUNDING = 10


class Tolerance:
    """Root mean square of error / (atol + rtol |y|). Hairer, Norsett & Wanner I, II.4.11.

    rtol: float; atol: 0-d or (n,) tensor in units of y. newton: what Newton's iteration may leave,
    as a fraction of the error allowed in a step (the kappa of Hairer & Wanner II, IV.8.10); stages:
    the same where a step has stages. finest: what rounding leaves where rtol |y| is the tolerance,
    and so a correction that needs no other. Where atol is the larger part, ``rounding`` measures
    what rounding leaves. bare: whether a component has no atol (options.py).
    """

    def __init__(self, rtol: float, atol: torch.Tensor, size: int) -> None:
        self.rtol = rtol
        self.atol = atol
        self.size = size
        self.noise = ROUNDING * torch.finfo(atol.dtype).eps
        # An rtol of hardly more than rounding is no scale of y: then it is atol that asks for
        # something.
        if rtol > 4 * self.noise:
            self.rounding_floor = self.noise / rtol
        else:
            self.rounding_floor = NEWTON
        self.newton_tol = max(self.rounding_floor, NEWTON)
        self.stage_newton_tol = max(self.rounding_floor, STAGES * NEWTON)
        self.has_zero_atol = bool(
            (atol.detach().double().cpu().numpy() <= torch.finfo(atol.dtype).tiny).any()
        )

    def scale(self, y: Tensor) -> Tensor:
        """atol + rtol |y|, (n,), in units of y."""
        return torch.add(self.atol, y.abs(), alpha=self.rtol)

    def grow_scale(self, scale: Tensor, y: Tensor) -> Tensor:
        """The scale, (n,), or that of y where it is larger: at zero a component without atol has
        none."""
        if self.has_zero_atol:
            return torch.maximum(scale, self.rtol * y.abs())
        return scale

    def scale_or_inf(self, scale: Tensor) -> Tensor:
        """The scale, (n,), infinite where there is none."""
        tiny = torch.finfo(scale.dtype).tiny
        if self.has_zero_atol:
            return torch.where(scale <= tiny, torch.inf, scale)
        return scale

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> float:
        """Norm of error, (n,), scaled by the larger of |y| and |y1|: at most 1 where the step is
        good enough.

        The one synchronisation of a step.
        """
        scaled = error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        return math.sqrt(torch.dot(scaled, scaled).item() / self.size)

    def rms(self, v: Tensor, scale: Tensor) -> float:
        """Norm of v, (n,), in units of a scale made beforehand."""
        scaled = v / scale
        return math.sqrt(torch.dot(scaled, scaled).item() / self.size)

    def rounding(self, y: Tensor, increment: Tensor, scale: Tensor) -> float:
        """Norm of what rounding leaves of a correction to y, (n,), which is gap away from where its
        step began."""
        return self.noise * self.rms(y.abs() + increment.abs(), scale)


class GroupTolerance(Tolerance):
    """The largest of the root mean squares of groups of components: a group of 1e6 parameters does
    not hide one of 3 states.

    groups: numbers of components, in their order; those after the last group are in no norm.
    """

    def __init__(self, rtol: float, atol: Tensor, groups: Sequence[int]) -> None:
        super().__init__(rtol, atol, sum(groups))
        self.groups = groups

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> float:
        return self._norm(
            error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        )

    def rms(self, v: Tensor, scale: Tensor) -> float:
        return self._norm(v / scale)

    def _norm(self, scaled):
        parts = scaled[: self.size].split(self.groups)
        return math.sqrt(
            torch.stack([torch.dot(part, part) / len(part) for part in parts]).max().item()
        )


class RowTolerance(Tolerance):
    """The same norm of every row of (m, n): (m,) float64. atol: 0-d, (n,), or (m, n) for rows of
    their own."""

    def __init__(self, rtol: float, atol: Tensor, size: int) -> None:
        super().__init__(rtol, atol, size)
        self.mean = atol.new_full((size,), 1 / size)

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> np.ndarray:
        return self.norms(
            error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        )

    def rms(self, v: Tensor, scale: Tensor) -> Tensor:
        return torch.linalg.vector_norm(v / scale, dim=1).to(torch.float64) / math.sqrt(self.size)

    def rounding(self, y: Tensor, increment: Tensor, scale: Tensor) -> np.ndarray:
        return self.noise * self.norms((y.abs() + increment.abs()) / scale)

    def norms(self, scaled: Tensor) -> np.ndarray:
        """Root mean squares of what is scaled, (..., m, n), as (..., m) on the host: the one copy
        of a pass."""
        squares = torch.mv(scaled.square().view(-1, self.size), self.mean)
        return np.sqrt(squares.cpu().numpy().reshape(scaled.shape[:-1]), dtype=np.float64)

    def select(self, keep: Tensor) -> RowTolerance:
        """The norm of the rows in keep."""
        if self.atol.dim() < 2:
            return self
        found = copy.copy(self)
        found.atol = self.atol[keep]
        return found
