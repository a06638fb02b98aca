"""Diagonally implicit Runge-Kutta methods on the rows of a batch, each with its own step, stage and Newton iteration.

One pass is one Newton iteration of every row, at the stage that the row has reached: a row whose stage is solved begins the
next one in the next pass, so that no row waits for another. The formulas are those of methods/dirk.py.
"""

from __future__ import annotations

from functools import partial

import torch

from .dirk import EXACT, ITERATIONS, KEEP, SLOW
from .rows import Done
from .rows_onestep import OneStepRows, RowInverse, polynomial

_NAMES = ("first", "has_first", "slopes", "stage", "iteration", "iterate", "base", "scale", "jac", "has_jac", "fresh",
          "inverse", "c_inverse", "rate", "last", "slowest", "most", "full")
FULL = 30  # iterations with a new Jacobian each, of fixed steps whose simplified iteration fails


class DIRKRows(OneStepRows):
    """State of all running rows, (m, ...).

    slopes: (m, s, n) of the stages, the slope at the start of the step before them where the first stage is implicit;
    first: that slope where has_first; stage: in work; iterate, base, iteration, last: of its Newton iteration; slowest,
    most: rate and iterations of the slowest stage so far; full: whether every iterate takes a new Jacobian.
    """

    def __init__(self, method, field, y, f0, h, tol):
        super().__init__(method, field, y, f0, h, tol)
        (m, n), count = y.shape, method.tableau.stages
        self.shift = 0 if method.begins_explicitly else 1
        self.begin_at = 1 - self.shift
        a, b, b_err = method.rows
        self.weights = torch.stack((self._spread(a, self.shift), self._spread(method.predictors, 0)), 1)
        self.ends = torch.stack((self._spread([b], self.shift)[0], self._spread([b_err], self.shift)[0]))
        self.nodes = torch.tensor(method.nodes, dtype=torch.float64, device=y.device)
        self.eye = torch.eye(n, dtype=y.dtype, device=y.device)
        self.first, self.has_first = f0, torch.ones(m, dtype=torch.bool, device=y.device)
        self.slopes = y.new_zeros(m, count + self.shift, n)
        self.stage, self.iteration, self.most = (torch.zeros(m, dtype=torch.long, device=y.device) for _ in range(3))
        self.stage += self.begin_at
        self.iterate = self.base = self.scale = y
        self.jac, self.inverse = y.new_zeros(m, n, n), y.new_zeros(m, n, n)
        self.has_jac, self.fresh, self.full = (torch.zeros_like(self.has_first) for _ in range(3))
        self.c_inverse = torch.full_like(h, torch.nan)
        self.rate, self.last, self.slowest = torch.ones_like(h), torch.zeros_like(h), torch.zeros_like(h)
        # Fixed steps are for the formula's own error: there the iteration goes on to what the dtype can tell.
        self.kappa, self.limit = (EXACT * tol.newton, ITERATIONS) if method.adaptive else (tol.finest, 4 * ITERATIONS)

    def select(self, keep):
        """Leave rows out."""
        super().select(keep)
        for name in _NAMES:
            setattr(self, name, getattr(self, name)[keep])

    def _spread(self, rows, shift):
        """Rows of coefficients as (len, stages + shift) beside the slopes."""
        full = self.y.new_zeros(len(rows), self.method.tableau.stages + self.shift)
        for i, row in enumerate(rows):
            for j, value in zip(row.indices, row.values, strict=True):
                full[i, j + shift] = value
        return full

    def advance(self, t, h):
        """One Newton iteration of every row; rows at the beginning of a step from t (m,) by h (m,) begin it first."""
        beginning = (self.stage == self.begin_at) & (self.iteration == 0)
        self._begin(t, h, beginning)
        size = h.to(self.y.dtype).unsqueeze(1)
        new = (self.iteration == 0).unsqueeze(1)
        sums = torch.bmm(self.weights[self.stage], self.slopes)
        self.base = torch.where(new, torch.addcmul(self.y, size, sums[:, 0]), self.base)
        self.iterate = torch.where(new, torch.addcmul(self.y, size, sums[:, 1]), self.iterate)
        self.iteration = self.iteration + 1
        at, c = t + self.nodes[self.stage] * h, self.method.gamma * size
        if not self.method.adaptive:
            self._renew_full(at, self.method.gamma * h)
        gap = torch.addcmul(self.iterate - self.base, c, self.field(at, self.iterate), value=-1)
        change = -RowInverse.apply(self.inverse, gap)
        self.field.stats.nsolve += len(h)
        converged, diverged, rate, norm = self._look(change)
        self.iterate = self.iterate + change
        self.rate, self.last = torch.where(converged, rate, self.rate), norm
        self.slowest = torch.where(converged, torch.maximum(self.slowest, rate), self.slowest)
        self.most = torch.maximum(self.most, self.iteration)
        # The slope that the stage's equation implies: f would multiply the iteration's rest by the stiffness.
        place = self.stage + self.shift
        found = torch.where(converged.unsqueeze(1), (self.iterate - self.base) / c, self._slope(place))
        self.slopes = self.slopes.scatter(1, place.view(-1, 1, 1).expand(-1, 1, found.shape[1]), found.unsqueeze(1))
        ended = converged & (self.stage == len(self.nodes) - 1)
        self.stage = torch.where(converged & ~ended, self.stage + 1, self.stage)
        self.iteration = torch.where(converged | diverged, 0, self.iteration)
        return self._judge_all(h, ended, diverged, norm)

    def _slope(self, place):
        return self.slopes.gather(1, place.view(-1, 1, 1).expand(-1, 1, self.slopes.shape[2])).squeeze(1)

    def _look(self, change):
        """(converged, diverged, rate, norm) of every row's iteration, as algebra/newton.simplified_newton."""
        norm, iteration = self.tol.rms(change, self.scale), self.iteration
        repeated = iteration > 1
        rate = torch.where(repeated, norm / self.last, self.rate)
        left = rate ** (self.limit - iteration) / (1 - rate) * norm
        finite = norm < 1e30
        diverged = ~finite | (repeated & ((rate >= 1) | (left > self.kappa)))
        converged = ~diverged & ((norm == 0) | ((rate < 1) & (rate / (1 - rate) * norm <= self.kappa)))
        diverged = diverged | (~converged & (iteration == self.limit))
        if not self.method.adaptive:
            # Newton's full iteration converges quadratically: what is left is the square of the last correction.
            near = finite & (norm <= max(self.kappa, 1e-5))
            converged = torch.where(self.full, near, converged)
            diverged = torch.where(self.full, ~near & (~finite | (iteration >= FULL)), diverged)
            rate = torch.where(self.full, 1.0, rate)
        return converged, diverged, rate, norm

    def _begin(self, t, h, mask):
        """Slope at the start, Jacobian and inverse, where a row begins a step."""
        which = (mask & ~self.has_first).nonzero().flatten()
        if len(which):
            slope = self.field.select(which)(t[which], self.y[which])
            self.first = self.first.index_copy(0, which, slope)
            self.has_first = self.has_first.index_fill(0, which, True)
        column = mask.unsqueeze(1)
        self.slopes = torch.where(column.unsqueeze(2), 0.0, self.slopes)
        self.slopes[:, 0] = torch.where(column, self.first, self.slopes[:, 0])
        self.scale = torch.where(column, self.tol.scale(self.y), self.scale)
        self.slowest, self.most = torch.where(mask, 0.0, self.slowest), torch.where(mask, 0, self.most)
        stale = mask & (self.method.gamma * h != self.c_inverse)
        which = (mask & ~self.has_jac).nonzero().flatten()
        if len(which):
            self._linearise(which, t, self.y)
            stale = stale.index_fill(0, which, True)
        self._invert(stale.nonzero().flatten(), self.method.gamma * h)

    def _linearise(self, which, t, y):
        jac, _ = self.field.select(which).linearised(t[which], y[which])
        self.jac = self.jac.index_copy(0, which, jac)
        self.has_jac, self.fresh = (v.index_fill(0, which, True) for v in (self.has_jac, self.fresh))

    def _invert(self, which, c):
        if len(which):
            inverse = RowInverse(self.eye, self.jac[which], c[which], self.field.stats).inverse
            self.inverse = self.inverse.index_copy(0, which, inverse)
            self.c_inverse = self.c_inverse.index_copy(0, which, c[which])
            self.rate = self.rate.index_fill(0, which, 1.0)

    def _renew_full(self, at, c):
        """A Jacobian at the iterate itself for the rows of fixed steps that need one."""
        which = self.full.nonzero().flatten()
        if len(which):
            self._linearise(which, at, self.iterate)
            self._invert(which, c)

    def _judge_all(self, h, ended, diverged, norm):
        """Accept or reject the rows that ended a step; renew the Jacobian or cut the step of those that diverged."""
        method, broken = self.method, ~(norm < 1e30)
        fails = diverged & (self.fresh if method.adaptive else self.full)
        again = diverged & ~fails
        self.field.stats.newton_failures += int(fails.sum())
        if not method.adaptive:
            self.full = torch.where(ended | fails, False, self.full | again)
        self.has_jac = self.has_jac & ~(again | (fails & broken))
        self.stage = torch.where(diverged, self.begin_at, self.stage)
        accepted, factor = torch.zeros_like(ended), torch.where(fails, 0.5, torch.ones_like(h))
        start, slopes = self.y, self.slopes[:, self.shift :]
        which = ended.nonzero().flatten()
        if len(which):
            good, factors, y1 = self._judge_ended(which, h[which])
            accepted = accepted.index_copy(0, which, good)
            factor = factor.index_copy(0, which, factors)
            self.y = self.y.index_copy(0, which, y1)
            self.stage = self.stage.index_fill(0, which, self.begin_at)
            self._after(accepted)
        done = partial(polynomial, start, slopes.unbind(1), method.tableau.dense_weights, h)
        return Done(accepted, (ended & ~accepted) | fails, broken & fails, factor, done)

    def _judge_ended(self, which, h):
        """(accepted, factor of the next step, state (m, n)) of the rows whose stages are all solved."""
        method, start = self.method, self.y[which]
        y1 = self.iterate[which]
        sums = torch.matmul(self.ends, self.slopes[which]) * h.to(y1.dtype).view(-1, 1, 1)
        if not method.stiffly_accurate:
            y1 = start + sums[:, 0]
        if not method.adaptive:
            good = torch.isfinite(y1).all(dim=1)
            return good, torch.where(good, torch.ones_like(h), 0.5), torch.where(good.unsqueeze(1), y1, start)
        error = sums[:, 1]
        if method.filtered:
            error = RowInverse.apply(self.inverse[which], error)
            self.field.stats.nsolve += len(which)
        ratio = self.tol.select(which).ratio(error, start, y1)
        factor, past = method.controller.rows(ratio, self.past[:, which], method.error_order)
        self.past = self.past.index_copy(1, which, past)
        good = ratio <= 1
        slower = (factor * ((2 * ITERATIONS + 1) / (2 * ITERATIONS + self.most[which]))).clamp(min=1.0)
        slower = torch.where(slower < KEEP, 1.0, slower)
        factor = torch.where(good & (factor >= 1), slower, factor)
        return good, factor, torch.where(good.unsqueeze(1), y1, start)

    def _after(self, accepted):
        """The Jacobian is kept where it served well, and the last slope is the first of the next step."""
        # A rate that this step did not measure is trusted less and less (Hairer & Wanner II, sec. IV.8).
        rate = torch.where(self.most > 1, self.slowest, self.slowest.clamp(min=1e-16) ** 0.8)
        self.rate = torch.where(accepted, rate, self.rate)
        self.has_jac, self.fresh = self.has_jac & ~(accepted & (rate > SLOW)), self.fresh & ~accepted
        if self.method.stiffly_accurate:
            self.first = torch.where(accepted.unsqueeze(1), self.slopes[:, -1], self.first)
        else:
            self.has_first = self.has_first & ~accepted
