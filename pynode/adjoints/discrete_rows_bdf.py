"""The discrete adjoint of BDF on the rows of a batch: discrete_bdf.py for a level of rows at a time.

The small matrices by which a step reads and updates its history follow from the recorded steps and orders, and are made for
all steps of a chunk at once, as are the matrices I - c J.
"""

from __future__ import annotations

import numpy as np
import torch

from ..algebra.linear import INVERSE_BELOW
from ..methods.bdf_history import MAX_ORDER, redifferences
from .outputs import powers
from .points import chunk_size, jacobians, pull_parameters
from .row_points import RowPoints


def pullback(field, method, steps, outputs, spans):
    """(cotangents (B, n) of the rows in the order of the steps, those of the parameters)."""
    form, n, like = method.history, field.size, outputs.at_start
    tables, zbar = _Tables(form), like.new_zeros(len(like), form.rows, n)
    params = [torch.zeros_like(p) for p in field.parameters]
    before, size = steps.sizes_before(1)[:, 0], chunk_size(n)
    for first in range(0, len(steps.row), size):
        last = min(first + size, len(steps.row))
        k, y = (x[first:last] for x in steps.tape)
        h, orders = steps.h[first:last], k.cpu().numpy()
        back, b = (torch.from_numpy(x).to(y) for x in tables.matrices(orders, h / before[first:last]))
        c = torch.from_numpy(h / tables.alpha[orders]).to(y)
        points = RowPoints(field, torch.from_numpy(steps.row[first:last]).to(y.device))
        t = torch.from_numpy(steps.end[first:last]).to(y)
        transposed = _Transposed(points, t, y, c)
        forced = _forced(tables, outputs, first, last, k)
        lambdas = torch.empty_like(y)
        for a, e, rows in spans(steps.levels, first, last):
            z = zbar[rows] + forced[a:e]
            dbar = torch.bmm(b[a:e].unsqueeze(1), z)
            lam = transposed.solve(a, e, dbar)
            zbar[rows] = torch.bmm(back[a:e], torch.cat((z, lam - dbar, -lam), 1))
            lambdas[a:e] = lam.squeeze(1)
        found = pull_parameters(points, t, y, c.unsqueeze(1) * lambdas)
        params = [p + g for p, g in zip(params, found, strict=True)]
    return _through_start(field, form, steps, zbar, params)


class _Tables:
    """Matrices of a form for every order, stacked: NumPy, the first index being the order."""

    def __init__(self, form):
        orders = range(1, MAX_ORDER + 1)
        nothing = np.zeros((form.rows, form.rows + 1))
        moving = np.stack([nothing, *(form.moving(k) for k in orders)])
        reading = np.stack([np.zeros((2, form.rows)), *(form.reading(k) for k in orders)])
        self.back = np.concatenate((moving[:, :, :-1], reading), axis=1).transpose(0, 2, 1)
        self.b, self.alpha = moving[:, :, -1], np.array(form.alpha)
        self.dense = np.zeros((MAX_ORDER + 1, MAX_ORDER + 1, form.rows))
        for k in orders:
            self.dense[k, : k + 1] = form.dense_weights(k, None)

    def matrices(self, k, ratio):
        """(A^T, p, q) after the change of grid, (m, rows, rows + 2), and b, (m, rows), of steps of order k (m,)."""
        back = self.back[k]
        which = np.flatnonzero(ratio != 1)
        change, size = redifferences(k[which], ratio[which]), MAX_ORDER + 1
        moved = np.zeros_like(back[which])
        moved[:, :size] = np.matmul(change.transpose(0, 2, 1), back[which][:, :size])
        back[which] = moved
        return back, self.b[k]


def _forced(tables, outputs, first, last, k):
    """What the outputs of the steps first to last add to the cotangents of their histories, (m, rows, n)."""
    ends = outputs.ends[first:last]
    forced = ends.new_zeros(len(ends), tables.b.shape[1], ends.shape[1])
    forced[:, 0] = ends
    step, theta, grads = outputs.between(first, last)
    if len(step):
        dense = torch.from_numpy(tables.dense).to(ends)[k[step]]
        weights = torch.bmm(powers(theta, MAX_ORDER, 0, ends).unsqueeze(1), dense)
        forced.index_add_(0, step, weights.transpose(1, 2) * grads.unsqueeze(1))
    return forced


class _Transposed:
    """Solves with the transposes of I - c J at m points, factorised together."""

    def __init__(self, points, t, y, c):
        n = y.shape[1]
        matrices = torch.eye(n, dtype=y.dtype, device=y.device) - c.view(-1, 1, 1) * jacobians(points, t, y)
        points.stats.backward_nlu += len(c)
        points.stats.backward_nsolve += len(c)
        self.inverse = torch.linalg.inv(matrices) if n < INVERSE_BELOW else None
        self.factors = torch.linalg.lu_factor(matrices) if self.inverse is None else None

    def solve(self, first, last, b):
        """Of the points first to last: (m, 1, n) for b (m, 1, n)."""
        if self.inverse is not None:
            return torch.bmm(b, self.inverse[first:last])
        lu, pivots = self.factors
        return torch.linalg.lu_solve(lu[first:last], pivots[first:last], b.transpose(1, 2), adjoint=True).transpose(1, 2)


def _through_start(field, form, steps, zbar, params):
    """The first histories are made of y0 and the slopes there."""
    t0, y0, h0 = steps.start
    order = torch.from_numpy(steps.order).to(zbar.device)
    weights = torch.from_numpy(form.start_weights(1.0)).to(zbar)
    ybar, fbar = torch.einsum("rj,brn->jbn", weights, zbar).unbind(0)
    fbar = fbar * torch.from_numpy(h0).to(fbar)[order].unsqueeze(1)
    with torch.enable_grad():
        start = y0[order].detach().clone().requires_grad_()
        slope = field.select(order).at(t0[order], start)
        if slope.requires_grad:
            found = torch.autograd.grad(slope, [start, *field.parameters], fbar, allow_unused=True)
            ybar = ybar if found[0] is None else ybar + found[0]
            params = [p if g is None else p + g for p, g in zip(params, found[1:], strict=True)]
    field.stats.backward_nvjp += len(ybar)
    return ybar, params
