"""QNDF on the rows of a batch, each with its own order, step, Newton iteration and Jacobian.

One pass is one Newton iteration of every row: rows that converge are judged and begin their next step in the next pass, so
that no row waits for another and every evaluation of f serves all running rows. The formulas are those of methods/bdf.py.
"""

from __future__ import annotations

from functools import partial
from math import comb

import numpy as np
import torch

from ..algebra.newton import MAX_ITERATIONS
from .bdf import KEEP, MAX_ORDER, SLOW
from .bdf_history import DifferenceHistory
from .rows import Done, tensor
from .rows_onestep import RowInverse

_NAMES = ("z", "k", "equal", "hz", "jac", "has_jac", "fresh", "inverse", "c_inverse", "rate", "y", "start", "gap", "scale",
          "iteration", "last", "c")


class Constants:
    """The matrices of all orders stacked, the first index being the order."""

    def __init__(self, form, like):
        orders = range(1, MAX_ORDER + 1)
        self.pq = self._stack([form.reading(k) for k in orders], like)
        dense = np.zeros((MAX_ORDER, MAX_ORDER + 1, form.rows))
        for k in orders:
            dense[k - 1, : k + 1] = form.dense_weights(k, None)
        self.dense = self._stack(list(dense), like)
        self.alpha = torch.tensor(form.alpha, dtype=torch.float64, device=like.device)
        self.error = torch.tensor(form.error, dtype=torch.float64, device=like.device)
        size = MAX_ORDER + 1
        signs = np.array([[(-1.0) ** i * comb(m, i) for i in range(size)] for m in range(size)])
        self.differences = torch.tensor(signs, dtype=torch.float64, device=like.device)

    @staticmethod
    def _stack(matrices, like):
        return torch.tensor(np.stack([np.zeros_like(matrices[0]), *matrices]), dtype=like.dtype, device=like.device)

    def rescale(self, k, ratio, rows):
        """(w, rows, rows): histories of order k (w,) onto grids ratio (w,) times as wide (bdf_history._redifference)."""
        size = MAX_ORDER + 1
        i = torch.arange(size, dtype=torch.float64, device=ratio.device)
        x = -ratio.view(-1, 1, 1) * i.view(1, -1, 1)
        factors = torch.cat((torch.ones_like(x), (x + i[:-1]) / (i[:-1] + 1)), dim=2)
        used = i <= k.unsqueeze(1)
        values = torch.cumprod(factors, dim=2) * used.unsqueeze(1)
        small = (self.differences @ values) * used.unsqueeze(2)
        return torch.nn.functional.pad(small, (0, rows - size, 0, rows - size))


class BDFRows:
    """State of all running rows, (m, ...); see methods/bdf.State for the meaning of each."""

    def __init__(self, method, field, y, f0, h, tol):
        if not isinstance(method.history, DifferenceHistory):
            raise ValueError(f"{method.name} does not run with batched=True; use 'qndf', the other form of BDF")
        self.field, self.tol, form = field, tol, method.history
        m, n = y.shape
        h = torch.from_numpy(h).to(y.device)
        self.eye = torch.eye(n, dtype=y.dtype, device=y.device)
        self.constants, self.rows = Constants(form, y), form.rows
        self.z = torch.cat((torch.stack((y, h.to(y.dtype).unsqueeze(1) * f0), 1), y.new_zeros(m, form.rows - 2, n)), 1)
        self.k, self.equal = (torch.full((m,), value, device=y.device) for value in (1, 0))
        self.hz, self.jac = h, y.new_zeros(m, n, n)
        self.has_jac = torch.zeros(m, dtype=torch.bool, device=y.device)
        self.fresh, self.inverse = self.has_jac.clone(), self.jac.clone()
        self.c_inverse = torch.full_like(h, torch.nan)
        self.rate, self.last, self.c = torch.ones_like(h), torch.zeros_like(h), torch.zeros_like(h)
        self.y = self.start = self.gap = self.scale = y
        self.iteration = torch.zeros(m, dtype=torch.long, device=y.device)

    def select(self, keep):
        """Leave rows out."""
        self.field, self.tol = self.field.select(keep), self.tol.select(keep)
        for name in _NAMES:
            setattr(self, name, getattr(self, name)[keep])

    def advance(self, t, h):
        """One Newton iteration of every row; rows at the beginning of a step from t (m,) by h (m,) begin it first."""
        t, h = torch.from_numpy(t).to(self.y.device), torch.from_numpy(h).to(self.y.device)
        self._begin(t, h, self.iteration == 0)
        change = self.gap - self.c.to(self.y.dtype).unsqueeze(1) * self.field(t + h, self.y)
        change = -RowInverse.apply(self.inverse, change)
        self.field.stats.nsolve += len(h)
        norm = self.tol.rms(change, self.scale)
        repeated = self.iteration > 1
        rate = torch.where(repeated, norm / self.last, self.rate)
        left = rate ** (MAX_ITERATIONS - self.iteration) / (1 - rate) * norm
        diverged = ~(norm < 1e30) | (repeated & ((rate >= 1) | (left > self.tol.newton)))
        converged = ~diverged & ((norm == 0) | ((rate < 1) & (rate / (1 - rate) * norm <= self.tol.newton)))
        diverged = diverged | (~converged & (self.iteration == MAX_ITERATIONS))
        moved = self.y + change
        done = self._judge(h, moved, converged, diverged, torch.where(repeated, rate, rate.clamp(min=1e-16) ** 0.8), norm)
        self.y, self.gap, self.last = moved, self.gap + change, norm
        self.iteration = torch.where(converged | diverged, 0, self.iteration + 1)
        return done

    def _begin(self, t, h, mask):
        """History on the grid of the step, prediction, Jacobian and inverse, where a row begins a step."""
        which = (mask & (h != self.hz)).nonzero().flatten()
        if len(which):
            matrix = self.constants.rescale(self.k[which], h[which] / self.hz[which], self.rows).to(self.z.dtype)
            self.z = self.z.index_copy(0, which, torch.bmm(matrix, self.z[which]))
            self.hz, self.equal = self.hz.index_copy(0, which, h[which]), self.equal.index_fill(0, which, 0)
        # Sums over the rows of the history: for the few states of a row cheaper than many small matrix products.
        predicted, psi = ((self.z * w).sum(1) for w in self.constants.pq[self.k].unsqueeze(3).unbind(1))
        column = mask.unsqueeze(1)
        self.start = torch.where(column, predicted, self.start)
        self.y, self.gap = torch.where(column, predicted, self.y), torch.where(column, psi, self.gap)
        self.scale = self.tol.scale(self.start)
        self.c = torch.where(mask, h / self.constants.alpha[self.k], self.c)
        self.iteration = torch.where(mask, 1, self.iteration)
        stale = mask & (self.c != self.c_inverse)
        self.has_jac = self.has_jac & ~(stale & (self.rate > SLOW) & (self.rate < 1) & ~self.fresh)
        which = (mask & ~self.has_jac).nonzero().flatten()
        if len(which):
            jac, _ = self.field.select(which).linearised((t + h)[which], self.start[which])
            self.jac = self.jac.index_copy(0, which, jac)
            self.has_jac, self.fresh = (v.index_fill(0, which, True) for v in (self.has_jac, self.fresh))
            stale = stale.index_fill(0, which, True)
        which = stale.nonzero().flatten()
        if len(which):
            inverse = RowInverse(self.eye, self.jac[which], self.c[which], self.field.stats).inverse
            self.inverse = self.inverse.index_copy(0, which, inverse)
            self.c_inverse = self.c_inverse.index_copy(0, which, self.c[which])
            self.rate = self.rate.index_fill(0, which, 1.0)

    def _judge(self, h, moved, converged, diverged, rate, norm):
        """Accept or reject the rows that converged; renew the Jacobian or halve the step of those that diverged."""
        con, k = self.constants, self.k
        d = moved - self.start
        ratio = con.error[k] * self.tol.rms(d, self.scale)
        accepted = converged & (ratio <= 1)
        hopeless = diverged & self.fresh
        rejected = (converged & ~accepted) | hopeless
        broken = ~(norm < 1e30)
        self.field.stats.newton_failures += int(hopeless.sum())
        safety = 0.9 * (2 * MAX_ITERATIONS + 1) / (2 * MAX_ITERATIONS + self.iteration)
        shrink = (safety * ratio.clamp(min=1e-10) ** (-1.0 / (k + 1))).clamp(0.2, 0.9)
        factor = torch.where(hopeless, 0.5, torch.where(rejected, shrink, 1.0))
        self.rate = torch.where(converged, rate, self.rate)
        self.has_jac = self.has_jac & ~(diverged & (~self.fresh | broken))
        self.c_inverse = torch.where(diverged, torch.nan, self.c_inverse)
        self.z = torch.where(accepted.view(-1, 1, 1), self._updated(k, d), self.z)
        self.equal = torch.where(accepted, self.equal + 1, torch.where(rejected, 0, self.equal))
        self.fresh = self.fresh & ~accepted
        polynomial = partial(_polynomial, con.dense[k], self.z)
        grown = self._select(accepted & (self.equal > k), ratio, safety)
        factor = torch.where(accepted, grown, factor)
        return Done.of_tensors(accepted, rejected, broken & rejected, factor, polynomial, partial(_tape, k, moved))

    def _updated(self, k, d):
        """The histories after a step (DifferenceHistory.moving): D_i + ... + D_k + d, then d, then d - D_(k+1)."""
        row, k = torch.arange(self.rows, device=d.device).view(1, -1, 1), k.view(-1, 1, 1)
        sums = torch.where(row <= k, self.z, 0.0).flip(1).cumsum(1).flip(1)
        last = torch.where(row == k + 2, -self.z.roll(1, 1), sums)
        return torch.where(row <= k + 2, last + d.unsqueeze(1), 0.0)

    def _select(self, mask, ratio, safety):
        """Factors (m,) of the rows in mask, whose orders are chosen anew; 1 elsewhere (methods/bdf.BDF._select)."""
        con, k = self.constants, self.k
        if not bool(mask.any()):
            return torch.ones_like(ratio)
        near = torch.stack((k, (k + 2).clamp(max=self.rows - 1)), 1).unsqueeze(2).expand(-1, -1, self.z.shape[2])
        terms = self.z.gather(1, near)
        lower = con.error[k - 1] * self.tol.rms(terms[:, 0], self.scale)
        upper = con.error[k + 1] * self.tol.rms(terms[:, 1], self.scale)
        growth = torch.stack(
            [
                torch.where(k > 1, lower.clamp(min=1e-10) ** (-1.0 / k), 0.0),
                ratio.clamp(min=1e-10) ** (-1.0 / (k + 1)),
                torch.where(k < MAX_ORDER, upper.clamp(min=1e-10) ** (-1.0 / (k + 2)), 0.0),
            ]
        )
        growth[1] *= 1 + 1e-12  # of equal ones the present order
        best, choice = growth.max(dim=0)
        factor = (safety * best).clamp(max=10.0)
        change = mask & ((choice != 1) | (factor >= KEEP) | (factor <= 1 / KEEP))
        self.k = torch.where(change, k + choice - 1, k)
        self.equal = torch.where(change, 0, self.equal)
        return torch.where(change, factor, 1.0)


def _polynomial(weights, z, which):
    """(degree + 1, m, n) coefficients of the powers of theta."""
    return torch.bmm(weights[which], z[which]).transpose(0, 1)


def _tape(k, y, which):
    """Orders and ends of the steps of the rows in which."""
    which = tensor(which, y)
    return k[which], y[which]
