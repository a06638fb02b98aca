"""Diagonally implicit Runge-Kutta methods on the rows of a batch, each with its own step, stage and
Newton iteration.

One pass is one Newton iteration of every row, each at its own stage. After a row has solved a
stage, it begins the next stage in the next pass. No row waits for another. The formulas
are those of methods/esdirk.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...algebra.newton import POOR, UNKNOWN, convergence_test
from ...core import products
from ...core.arithmetic import Arrays
from ...core.transfer import tensor, to_device
from ..esdirk import DIRK
from ..jacobian_reuse import ITERATIONS, SLOW, growth_after_newton, remembered_rate
from .base import STEPPERS, PassResult, outside
from .one_step import OneStepRows, RowInverse, polynomial

if TYPE_CHECKING:
    from ...algebra.combine import CoefficientRow
    from ...core.batched_field import RowField
    from ...core.norm import RowTolerance


_NAMES = (
    "slopes",
    "has_first",
    "stage",
    "iteration",
    "iterate",
    "base",
    "scale",
    "jac",
    "has_jac",
    "fresh",
    "inverse",
    "c_inverse",
    "rate",
    "last",
    "slowest",
    "most",
    "full",
)
# Iterations with a new Jacobian each, for fixed steps after the simplified iteration failed.
FULL = 30


@STEPPERS.register(DIRK)
class DIRKRows(OneStepRows):
    """State of all running rows, (m, ...).

    slopes: (m, s, n) of the stages; if the first stage is implicit, the slope at the start of the
    step comes before them. has_first: whether the first slope already belongs to this step; stage:
    the current one; iterate, base, iteration, last: of its Newton iteration; slowest, most: rate
    (-1 without a measurement) and iterations of the slowest stage so far; full: whether every
    iterate gets a new Jacobian.
    """

    # A row that has ended would go on to iterate, and ask for Jacobians.
    carries_ended = False

    def __init__(
        self, method: DIRK, field: RowField, y: Tensor, f0: Tensor, h: np.ndarray, tol: RowTolerance
    ) -> None:
        super().__init__(method, field, y, f0, h, tol)
        count = method.tableau.stages
        (m, n) = y.shape
        if method.begins_explicitly:
            self.shift = 0
        else:
            self.shift = 1
        self.beginning = 1 - self.shift
        a, b, b_err = method.rows
        self.weights = torch.stack(
            (self._spread(a, self.shift), self._spread(method.predictors, 0)), 1
        )
        self.ends = self._spread([b, b_err], self.shift)
        self.nodes = np.array(method.nodes)
        self.eye = torch.eye(n, dtype=y.dtype, device=y.device)
        self.slopes = y.new_zeros(m, count + self.shift, n)
        self.slopes[:, 0] = f0
        self.stage = np.full(m, self.beginning)
        self.iteration = np.zeros(m, dtype=np.int64)
        self.most = np.zeros(m, dtype=np.int64)
        self.iterate = self.base = self.scale = y
        self.jac = y.new_zeros(m, n, n)
        self.inverse = y.new_zeros(m, n, n)
        self.has_first = np.ones(m, dtype=bool)
        self.has_jac, self.fresh, self.full = (np.zeros(m, dtype=bool) for _ in range(3))
        self.c_inverse = np.full(m, np.nan)
        self.rate = np.ones(m)
        self.last = np.zeros(m)
        self.slowest = np.zeros(m)
        # Fixed steps must show only the error of the formula, so the iteration continues down to
        # rounding.
        if method.adaptive:
            self.newton_tol = tol.stage_newton_tol
            self.limit = ITERATIONS
        else:
            self.newton_tol = tol.rounding_floor
            self.limit = 4 * ITERATIONS

    def select(self, keep: Any) -> None:
        """Keep only these rows."""
        super().select(keep)
        for name in _NAMES:
            setattr(self, name, getattr(self, name)[keep])

    def _spread(self, rows: list[CoefficientRow], shift: int) -> Tensor:
        """Rows of coefficients as a tensor (len, stages + shift) like the slopes."""
        full = self.y.new_zeros(len(rows), self.method.tableau.stages + self.shift)
        for i, row in enumerate(rows):
            for j, value in zip(row.indices, row.values, strict=True):
                full[i, j + shift] = value
        return full

    def advance(self, t: np.ndarray, h: np.ndarray) -> PassResult:
        """One Newton iteration of every row, in a step from t (m,) by h (m,). Rows without a
        current step begin it first."""
        new = self.iteration == 0
        begins = np.flatnonzero(new & (self.stage == self.beginning))
        if len(begins):
            self._begin(begins, t, h)
        size = tensor(h, self.y).unsqueeze(1)
        if new.any():
            self._begin_stages(new, size)
        self.iteration = self.iteration + 1
        at = t + self.nodes[self.stage] * h
        c = self.method.gamma * size
        if self.full.any():
            which = np.flatnonzero(self.full)
            self._linearise(which, at, self.iterate)
            self._invert(which, self.method.gamma * h)
        slope = self.field(to_device(at, self.y.device), self.iterate)
        change = RowInverse.apply(self.inverse, torch.addcmul(self.base - self.iterate, c, slope))
        self.field.stats.nsolve += len(h)
        self.iterate = self.iterate + change
        self.scale = self.tol.grow_scale(self.scale, self.iterate)
        norm = self.tol.norms(change / self.scale)
        converged, diverged = self._test_convergence(norm)
        which = np.flatnonzero(converged)
        if len(which):
            index = tensor(which, c)
            # The slope follows from the stage's equation. An evaluation of f would multiply the
            # remaining error of the iteration by the stiffness.
            increment = torch.sub(*(x.index_select(0, index) for x in (self.iterate, self.base)))
            self._set_slopes(
                which, self.stage[which] + self.shift, increment / c.index_select(0, index)
            )
        ended = converged & (self.stage == len(self.nodes) - 1)
        self.stage = np.where(ended | diverged, self.beginning, self.stage + converged)
        self.iteration[converged | diverged] = 0
        return self._judge_all(h, ended, diverged, ~np.isfinite(norm))

    def _begin(self, which: np.ndarray, t: np.ndarray, h: np.ndarray) -> None:
        """Slope at the start, Jacobian and inverse of the rows that begin a step."""
        unknown = which[~self.has_first[which]]
        if len(unknown):
            index = tensor(unknown, self.y)
            if self.method.stiffly_accurate:
                self._set_slopes(unknown, 0, self.slopes[:, -1].index_select(0, index))
                # See esdirk.below_rounding.
                coarse = np.abs(h[unknown]) * self.tol.rounding_floor > np.abs(
                    self.c_inverse[unknown]
                )
                self._evaluate_first(unknown[coarse], t)
            else:
                self._evaluate_first(unknown, t)
            self.has_first[unknown] = True
        self.scale = self.tol.scale(self.y)
        self.slowest[which], self.most[which] = -1.0, 0
        c = self.method.gamma * h
        without = which[~self.has_jac[which]]
        if len(without):
            self._linearise(without, t, self.y)
        self._invert(which[c[which] != self.c_inverse[which]], c)

    def _evaluate_first(self, which: np.ndarray, t: np.ndarray) -> None:
        if len(which):
            index = tensor(which, self.y)
            times = to_device(t[which], self.y.device)
            self._set_slopes(
                which, 0, self.field.select(index)(times, self.y.index_select(0, index))
            )

    def _set_slopes(self, which: np.ndarray, place: int | np.ndarray, slopes: Tensor) -> None:
        """Write slopes into the rows in ``which``, at one place or at a place for each row."""
        flat = self.slopes.view(-1, self.slopes.shape[2])
        flat.index_copy_(0, tensor(which * self.slopes.shape[1] + place, flat), slopes)

    def _begin_stages(self, new: np.ndarray, size: Tensor) -> None:
        """Set the bases of the stages that begin, and the starts of their iterations."""
        sums = products.bmm(self.weights.index_select(0, tensor(self.stage, size)), self.slopes)
        base, guess = (torch.addcmul(self.y, size, part) for part in sums.unbind(1))
        if new.all():
            self.base = base
            self.iterate = guess
        else:
            column = tensor(new, size).unsqueeze(1)
            self.base, self.iterate = (
                torch.where(column, base, self.base),
                torch.where(column, guess, self.iterate),
            )

    def _linearise(self, which: np.ndarray, t: np.ndarray, y: Tensor) -> None:
        index = tensor(which, y)
        self.jac.index_copy_(0, index, self.field.jacobian(to_device(t, self.y.device), y, index))
        self.has_jac[which], self.fresh[which], self.c_inverse[which] = True, True, np.nan

    def _invert(self, which: np.ndarray, c: np.ndarray) -> None:
        if len(which):
            index = tensor(which, self.y)
            jac = self.jac.index_select(0, index)
            self.inverse.index_copy_(
                0,
                index,
                RowInverse(self.eye, jac, tensor(c[which], self.y), self.field.stats).inverse,
            )
            self.c_inverse[which], self.rate[which] = c[which], UNKNOWN

    def _test_convergence(self, norm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(converged, diverged) of every row's iteration, as in algebra/newton.simplified_newton.
        Also stores rates and counts."""
        iteration = self.iteration
        repeated = iteration > 1
        finite = np.isfinite(norm)
        with np.errstate(all="ignore"):
            converged, hopeless, rate = convergence_test(
                Arrays,
                norm,
                self.last,
                self.rate,
                repeated,
                self.limit - iteration,
                self.newton_tol,
                self.tol.rounding_floor,
            )
        diverged = ~finite | hopeless | (~converged & (iteration == self.limit))
        converged &= ~diverged
        which = np.flatnonzero(diverged & finite)
        if len(which):
            index = tensor(which, self.y)
            y, base, scale = (
                x.index_select(0, index) for x in (self.iterate, self.base, self.scale)
            )
            which = which[norm[which] <= self.tol.select(index).rounding(y, y - base, scale)]
            converged[which], diverged[which], rate[which] = True, False, self.rate[which]
        if self.full.any():
            # Newton's full iteration converges quadratically: the remaining error is the square of
            # the last correction.
            near = finite & (norm <= max(self.newton_tol, 1e-5))
            converged = np.where(self.full, near, converged)
            diverged = np.where(self.full, ~near & (~finite | (iteration >= FULL)), diverged)
            rate = np.where(self.full, POOR, rate)
        self.rate = np.where(converged, rate, self.rate)
        self.last = norm
        told = converged & (rate < UNKNOWN)
        self.slowest = np.where(told, np.maximum(self.slowest, rate), self.slowest)
        self.most = np.maximum(self.most, iteration)
        return converged, diverged

    def _judge_all(
        self, h: np.ndarray, ended: np.ndarray, diverged: np.ndarray, broken: np.ndarray
    ) -> PassResult:
        """Accept or reject the rows that ended a step. For rows that diverged, renew the Jacobian
        or cut the step."""
        fails = diverged & (self.fresh if self.method.adaptive else self.full)
        again = diverged & ~fails
        self.field.stats.newton_failures += int(fails.sum())
        if not self.method.adaptive:
            self.full = ~ended & ~fails & (self.full | again)
        self.has_jac &= ~(again | (fails & broken))
        if (diverged & broken).any():
            index = tensor(np.flatnonzero(diverged & broken), self.y)
            self.slopes[index, 1:] = 0.0
        accepted = np.zeros(len(h), dtype=bool)
        factor = np.where(fails, 0.5, 1.0)
        start = self.y
        left = np.zeros(len(h), dtype=bool)
        which = np.flatnonzero(ended)
        if len(which):
            accepted[which], factor[which], left[which] = self._judge_ended(which, h[which])
            self._after(accepted)
        polynomial = partial(self._polynomial, start, h)
        return PassResult(
            accepted=accepted,
            rejected=(ended & ~accepted) | fails,
            broken=broken & fails,
            unsolved=fails,
            outside=left,
            factor=factor,
            polynomial=polynomial,
            tape=partial(self._tape, start),
        )

    def _judge_ended(
        self, which: np.ndarray, h: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(accepted, factor of the next step, refused by the limits) of the rows with all stages
        solved. Also moves the accepted rows."""
        method = self.method
        index = tensor(which, self.y)
        start, y1, slopes = (x.index_select(0, index) for x in (self.y, self.iterate, self.slopes))
        sums = products.matmul(self.ends, slopes) * tensor(h, y1).view(-1, 1, 1)
        if not method.stiffly_accurate:
            y1 = start + sums[:, 0]
        if method.adaptive:
            error = sums[:, 1]
            if method.filtered:
                error = RowInverse.apply(self.inverse.index_select(0, index), error)
                self.field.stats.nsolve += len(which)
            ratio = self.tol.select(index).ratio(error, start, y1)
            factor, past = method.controller.control(
                Arrays, ratio, self.past[:, which], method.error_order
            )
            good = ratio <= 1
        else:
            past = self.past[:, which]
            good = torch.isfinite(y1).all(dim=1).cpu().numpy()
            factor = np.where(good, 1.0, 0.5)
        left = outside(self.refused, which, good, y1, start)
        if np.count_nonzero(left):
            good = good & ~left
            factor = np.where(left, 0.5, factor)
            past = np.where(left, self.past[:, which], past)
        self.past[:, which] = past
        self.y = self.y.index_copy(0, index, torch.where(tensor(good, y1).unsqueeze(1), y1, start))
        if not method.adaptive:
            return good, factor, left
        grown = growth_after_newton(Arrays, factor, self.most[which], ITERATIONS)
        return good, np.where(good, grown, factor), left

    def _after(self, accepted: np.ndarray) -> None:
        """Keep the Jacobian of a row if Newton's iteration converged fast with it."""
        rate = remembered_rate(Arrays, self.slowest, self.most > 1)
        rate = np.where(self.slowest < 0, UNKNOWN, rate)
        self.rate = np.where(accepted, rate, self.rate)
        self.has_jac &= ~(accepted & (rate > SLOW) & (rate < UNKNOWN))
        self.fresh &= ~accepted
        self.has_first &= ~accepted

    def _tape(self, start: Tensor, which: np.ndarray) -> tuple[Tensor, Tensor]:
        index = tensor(which, start)
        return start.index_select(0, index), self.slopes.index_select(0, index)[:, self.shift :]

    def _polynomial(self, start: Tensor, h: np.ndarray, which: np.ndarray) -> Tensor:
        index = tensor(which, start)
        slopes = self.slopes.index_select(0, index)[:, self.shift :].transpose(0, 1)
        return polynomial(
            start.index_select(0, index),
            slopes,
            self.method.tableau.dense_weights,
            tensor(h[which], start),
        )
