"""Explicit and Rosenbrock methods on the rows of a batch, each with a step of its own."""

from __future__ import annotations

from functools import partial

import torch

from .rows import Done


class OneStepRows:
    """State of the rows: y (m, n), the ratios of the last two steps (2, m)."""

    def __init__(self, method, field, y, f0, h, tol):
        self.method, self.field, self.tol = method, field, tol
        self.y, self.past = y, y.new_ones((2, len(y)), dtype=torch.float64)

    def select(self, keep):
        """Leave rows out."""
        self.field = self.field.select(keep)
        self.tol = self.tol.select(keep)
        self.y, self.past = self.y[keep], self.past[:, keep]

    def _judge(self, h, y1, error, stages, weights, scaled):
        """Accept or reject every row, and move the accepted ones."""
        method, start = self.method, self.y
        if method.adaptive:
            ratio = self.tol.ratio(error, start, y1)
            factor, self.past = method.controller.rows(ratio, self.past, method.error_order)
            accepted = ratio <= 1
        else:
            accepted = torch.isfinite(y1).all(dim=1)
            factor = torch.where(accepted, torch.ones_like(h), 0.5)
            ratio = torch.where(accepted, 0.0, torch.inf)
        self.y = torch.where(accepted.unsqueeze(1), y1, start)
        dense = partial(polynomial, start, stages, weights, h if scaled else None)
        return Done(accepted, ~accepted, ~torch.isfinite(ratio), factor, dense)


def polynomial(start, stages, weights, h):
    """(degree + 1, m, n): start, then sum over the stages of weights (stages, degree)."""
    ks = torch.stack(stages() if callable(stages) else stages)
    powers = torch.einsum("sd,smn->dmn", torch.as_tensor(weights, dtype=ks.dtype, device=ks.device), ks)
    if h is not None:
        powers = powers * h.to(ks.dtype).view(1, -1, 1)
    return torch.cat((start.unsqueeze(0), powers))


class ExplicitRows(OneStepRows):
    """An explicit Runge-Kutta method on rows."""

    def __init__(self, method, field, y, f0, h, tol):
        super().__init__(method, field, y, f0, h, tol)
        self.first = f0

    def select(self, keep):
        super().select(keep)
        self.first = self.first[keep]

    def advance(self, t, h):
        """One attempted step of every row from t (m,) by h (m,)."""
        method, field, start = self.method, self.field, self.y
        y1, error, ks = method.attempt(field, t, start, h, self.first)
        done = self._judge(h, y1, error, partial(method.all_stages, field, t, start, h, ks), method.tableau.dense_weights, True)
        accepted = done.accepted.unsqueeze(1)
        if method.tableau.fsal:
            self.first = torch.where(accepted, ks[-1], ks[0])
        else:
            self.first = field(t + torch.where(done.accepted, h, 0.0 * h), self.y)
        return done


class RosenbrockRows(OneStepRows):
    """A Rosenbrock method on rows: a Jacobian and a factorisation a row, batched."""

    def __init__(self, method, field, y, f0, h, tol):
        super().__init__(method, field, y, f0, h, tol)
        self.jac = self.slope = None
        self.eye = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)

    def select(self, keep):
        super().select(keep)
        if self.jac is not None:
            self.jac = self.jac[keep]
            self.slope = None if self.slope is None else self.slope[keep]

    def advance(self, t, h):
        """One attempted step of every row from t (m,) by h (m,); rejected rows keep their Jacobian."""
        method, field = self.method, self.field
        if self.jac is None:
            self.jac, self.slope = field.linearised(t, self.y)
        solver = RowInverse(self.eye, self.jac, h * float(method.tableau.gamma), field.stats)
        y1, error, us = method.attempt(field, t, self.y, h, self.slope, solver)
        field.stats.nsolve += (len(h) - 1) * len(us)
        done = self._judge(h, y1, error, us, method.tableau.dense_weights, False)
        self._renew(torch.where(done.accepted, t + h, t), done.accepted)
        return done

    def _renew(self, t, moved):
        which = moved.nonzero().flatten()
        if len(which) == len(t):
            self.jac = self.slope = None
        elif len(which):
            jac, slope = self.field.select(which).linearised(t[which], self.y[which])
            self.jac = self.jac.index_copy(0, which, jac)
            if slope is not None:
                old = torch.zeros_like(self.y) if self.slope is None else self.slope
                self.slope = old.index_copy(0, which, slope)


class RowInverse:
    """I - c_i J_i of every row, inverted: (m, n, n) for c (m,)."""

    def __init__(self, eye, jac, c, stats):
        stats.nlu += len(c)
        self.inverse = torch.linalg.inv_ex(eye - c.to(jac.dtype).view(-1, 1, 1) * jac)[0]

    def solve(self, b, factor):
        """factor_i M_i^-1 b_i, (m, n)."""
        return self.apply(self.inverse, b) * factor.to(b.dtype).unsqueeze(1)

    @staticmethod
    def apply(inverse, b):
        """The product of every row, (m, n, n) with (m, n); element by element where the matrices are tiny."""
        if b.shape[1] <= 8:
            return (inverse * b.unsqueeze(1)).sum(2)
        return torch.bmm(inverse, b.unsqueeze(2)).squeeze(2)
