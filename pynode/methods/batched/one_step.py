"""Explicit and Rosenbrock methods on the rows of a batch, each with a step of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...algebra.combine import as_stage_tensor
from ...algebra.row_matrices import applied, inverses
from ...core import products
from ...core.arithmetic import Arrays
from ...core.transfer import constant, tensor, to_device
from ..explicit import ExplicitRungeKutta
from ..rosenbrock import RosenbrockMethod
from .base import STEPPERS, PassResult, outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.batched_field import RowField
    from ...core.norm import RowTolerance
    from ...core.stats import Stats


class OneStepRows:
    """State of the rows: y (m, n), the ratios of the last two steps (2, m)."""

    carries_ended = True

    def __init__(
        self, method: Any, field: RowField, y: Tensor, f0: Tensor, h: np.ndarray, tol: RowTolerance
    ) -> None:
        self.method = method
        self.field = field
        self.tol = tol
        self.y = y
        self.past = np.ones((2, len(y)))
        self.refused: Any = None

    def select(self, keep: Any) -> None:
        """Keep only these rows."""
        self.field = self.field.select(keep)
        self.tol = self.tol.select(keep)
        self.y, self.past = self.y[keep], self.past[:, keep]

    def states(self, which: np.ndarray) -> Tensor:
        """(w, n): the current states of the rows in ``which``."""
        return self.y.index_select(0, tensor(which, self.y))

    def times(self, t: np.ndarray, h: np.ndarray) -> tuple[Tensor, Tensor]:
        """Times and steps of the rows as float64 tensors (m,) on the device of the states."""
        if self.y.is_cpu:
            return torch.from_numpy(t), torch.from_numpy(h)
        # One copy for both.
        both = to_device(np.stack((t, h)), self.y.device)
        return both[0], both[1]

    @property
    def compiled(self) -> Any:
        """The CompiledRows that take the steps, or None if the steps are not compiled."""
        if torch.is_grad_enabled():
            return None
        return self.field.compiled

    def _ratio(self, error: Tensor, y1: Tensor) -> Any:
        if self.method.adaptive:
            return self.tol.ratio(error, self.y, y1)
        return None

    def _judge(self, y1: Tensor, ratio: Any, polynomial: Callable) -> tuple[PassResult, Tensor]:
        """Accept or reject every row by the ratio of its error, (m,), and move the accepted rows.
        ratio: None for steps of one size. Returns (PassResult, accepted (m,) as a tensor)."""
        method = self.method
        start = self.y
        past = self.past
        if ratio is not None:
            factor, past = method.controller.control(Arrays, ratio, past, method.error_order)
            accepted = ratio <= 1
            broken = ~np.isfinite(ratio)
        else:
            accepted = torch.isfinite(y1).all(dim=1).cpu().numpy()
            factor = np.where(accepted, 1.0, 0.5)
            broken = ~accepted
        left = outside(self.refused, np.arange(len(y1)), accepted, y1, start)
        if np.count_nonzero(left):
            accepted = accepted & ~left
            factor = np.where(left, 0.5, factor)
            past = np.where(left, self.past, past)
        self.past = np.asarray(past)
        moved = tensor(accepted, y1)
        self.y = torch.where(moved.unsqueeze(1), y1, start)

        def tape(which: np.ndarray) -> tuple[Tensor]:
            return (start[tensor(which, start)],)

        result = PassResult(
            accepted=accepted,
            rejected=~accepted,
            broken=broken,
            unsolved=np.zeros(len(accepted), dtype=bool),
            outside=left,
            factor=factor,
            polynomial=polynomial,
            tape=tape,
        )
        return result, moved


def polynomial(
    start: Tensor, stages: Tensor, weights: np.ndarray | Tensor, h: Tensor | None = None
) -> Tensor:
    """(degree + 1, m, n): start (m, n), then the stages (s, m, n) with weights (s, degree), times h
    (m,) if there is one."""
    if not isinstance(weights, torch.Tensor):
        weights = constant(weights, stages)
    flat = products.mm(weights.T, stages.reshape(len(stages), -1))
    powers = flat.view(-1, *start.shape)
    if h is not None:
        powers = powers * h.to(stages.dtype).view(1, -1, 1)
    return torch.cat((start.unsqueeze(0), powers))


def picked(stages: Tensor | list[Tensor], which: Tensor) -> Tensor | list[Tensor]:
    """The stages of the rows in ``which``: a list of (w, n), or (s, w, n) after a compiled step."""
    if isinstance(stages, torch.Tensor):
        return stages.index_select(1, which)
    return [k[which] for k in stages]


@STEPPERS.register(ExplicitRungeKutta)
class ExplicitRows(OneStepRows):
    """An explicit Runge-Kutta method on rows."""

    def __init__(
        self, method: Any, field: RowField, y: Tensor, f0: Tensor, h: np.ndarray, tol: RowTolerance
    ) -> None:
        super().__init__(method, field, y, f0, h, tol)
        self.first = f0

    def select(self, keep: Any) -> None:
        super().select(keep)
        self.first = self.first[keep]

    def advance(self, t: np.ndarray, h: np.ndarray) -> PassResult:
        """One attempted step of every row from t (m,) by h (m,)."""
        method = self.method
        field = self.field
        start = self.y
        times, sizes = self.times(t, h)
        if self.compiled is not None:
            y1, ratio, ks = self.compiled.step(field, times, sizes, start, self.first, self.tol)
        else:
            y1, error, ks = method.attempt(field, times, start, sizes, self.first)
            ratio = self._ratio(error, y1)
        result, accepted = self._judge(
            y1, ratio, partial(self._polynomial, field, times, sizes, start, ks)
        )
        if method.tableau.fsal:
            self.first = torch.where(accepted.unsqueeze(1), ks[-1], ks[0])
        elif self.compiled is None:
            self.first = field(times + torch.where(accepted, sizes, 0.0 * sizes), self.y)
        return result

    def _polynomial(
        self, field: RowField, t: Tensor, h: Tensor, start: Tensor, ks: Any, which: Any
    ) -> Tensor:
        """Evaluates the stages that only the dense output needs, for these rows only."""
        which = tensor(which, start)
        start = start[which]
        h = h[which]
        ks = picked(ks, which)
        if self.method.tableau.c_dense:
            ks = self.method.all_stages(field.select(which), t[which], start, h, ks)
        return polynomial(start, as_stage_tensor(ks), self.method.tableau.dense_weights, h)


@STEPPERS.register(RosenbrockMethod)
class RosenbrockRows(OneStepRows):
    """A Rosenbrock method on rows: one Jacobian and one factorisation for each row, batched."""

    def __init__(
        self, method: Any, field: RowField, y: Tensor, f0: Tensor, h: np.ndarray, tol: RowTolerance
    ) -> None:
        super().__init__(method, field, y, f0, h, tol)
        self.jac: Any = None
        self.slope: Any = None
        self.eye = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)

    def select(self, keep: Any) -> None:
        super().select(keep)
        if self.jac is not None:
            self.jac = self.jac[keep]
            if self.slope is None:
                self.slope = None
            else:
                self.slope = self.slope[keep]

    def advance(self, t: np.ndarray, h: np.ndarray) -> PassResult:
        """One attempted step of every row from t (m,) by h (m,). Rejected rows keep their
        Jacobian."""
        method = self.method
        field = self.field
        start = self.y
        times, sizes = self.times(t, h)
        if self.compiled is not None:
            y1, ratio, us = self.compiled.step(field, times, sizes, start, None, self.tol)
            return self._judge(y1, ratio, partial(self._polynomial, start, us))[0]
        if self.jac is None:
            self.jac, self.slope = field.linearised(times, start)
        solver = RowInverse(self.eye, self.jac, sizes * float(method.tableau.gamma), field.stats)
        y1, error, us = method.attempt(field, times, start, sizes, self.slope, solver)
        field.stats.nsolve += (len(sizes) - 1) * len(us)
        result, accepted = self._judge(
            y1, self._ratio(error, y1), partial(self._polynomial, start, us)
        )
        self._renew(torch.where(accepted, times + sizes, times), np.flatnonzero(result.accepted))
        return result

    def _polynomial(self, start: Tensor, us: Any, which: Any) -> Tensor:
        which = tensor(which, start)
        return polynomial(
            start[which], as_stage_tensor(picked(us, which)), self.method.tableau.dense_weights
        )

    def _renew(self, t: Tensor, which: Any) -> None:
        """A Jacobian for the rows that moved."""
        if len(which) == len(t):
            self.jac = self.slope = None
        elif len(which):
            which = tensor(which, self.y)
            jac, slope = self.field.select(which).linearised(t[which], self.y[which])
            self.jac = self.jac.index_copy(0, which, jac)
            if slope is not None:
                if self.slope is None:
                    old = torch.zeros_like(self.y)
                else:
                    old = self.slope
                self.slope = old.index_copy(0, which, slope)


class RowInverse:
    """The inverse of eye - c_i J_i for every row: (m, n, n) for c (m,)."""

    def __init__(self, eye: Tensor, jac: Tensor, c: Tensor, stats: Stats) -> None:
        stats.nlu += len(c)
        self.inverse = inverses(torch.addcmul(eye, c.to(jac.dtype).view(-1, 1, 1), jac, value=-1))

    def solve(self, b: Tensor, factor: Tensor) -> Tensor:
        """factor_i M_i^-1 b_i, (m, n)."""
        return self.apply(self.inverse, b) * factor.to(b.dtype).unsqueeze(1)

    @staticmethod
    def apply(inverse: Tensor, b: Tensor) -> Tensor:
        """The product of every row, (m, n, n) with (m, n)."""
        return applied(inverse, b)
