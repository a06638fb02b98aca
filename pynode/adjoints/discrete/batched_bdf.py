"""The discrete adjoint of BDF on the rows of a batch: bdf.py for one level of rows at a time.

Small matrices describe how a step reads and updates its history. They follow from the recorded
steps and orders. The code makes them for all steps of a chunk at once, and the matrices I - c J as
well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...algebra.linear import INVERSE_BELOW
from ...algebra.row_matrices import inverses
from ...core import products
from ...core.cotangents import add_grads, plus, zero_grads
from ...core.transfer import constant, to_device
from ...methods.batched.bdf_formulas import lagrange, monomials, redifferences
from ...methods.bdf.formulas import MAX_ORDER, DifferenceHistory, ValueHistory
from ..field_products import chunk_size, jacobians, pull_back, pull_parameters
from ..output_cotangents import powers
from .batched_points import RowPoints

if TYPE_CHECKING:
    from ...backends.torch.batched_tape import RowSteps
    from ...methods.bdf.step import BDF
    from .batched import RowOutputs
    from .batched_points import RowPart


def pullback(
    field: RowPart, method: BDF, steps: RowSteps, outputs: RowOutputs, level_parts: Callable
) -> tuple[Tensor, list[Tensor]]:
    """Return (cotangents of the rows, (B, n), in the order of the steps; cotangents of the
    parameters)."""
    form: Any = method.history
    n = field.size
    like = outputs.at_start
    kind = _MATRICES[type(form)]
    alpha = np.array(form.alpha)
    zbar = like.new_zeros(len(like), form.rows, n)
    params = zero_grads(field.parameters)
    before = steps.sizes_before(kind.count)
    size = chunk_size(n, like.device)
    for first in range(0, len(steps.row), size):
        last = min(first + size, len(steps.row))
        k, y = (x[first:last] for x in steps.tape)
        h = steps.h[first:last]
        orders = k.cpu().numpy()
        matrices = kind(form, orders, h, before[first:last])
        back, b = (constant(x, y) for x in (matrices.back, matrices.b))
        c = constant(h / alpha[orders], y)
        points = RowPoints(field, to_device(steps.row[first:last], y.device))
        t = constant(steps.end[first:last], y)
        transposed = _Transposed(points, t, y, c)
        forced = _forced(matrices, outputs, first, last)
        lambdas = torch.empty_like(y)
        for a, e, rows in level_parts(steps.levels, first, last):
            z = zbar[rows] + forced[a:e]
            dbar = products.bmm(b[a:e].unsqueeze(1), z)
            lam = transposed.solve(a, e, dbar)
            zbar[rows] = products.bmm(back[a:e], torch.cat((z, lam - dbar, -lam), 1))
            lambdas[a:e] = lam.squeeze(1)
        param_grads = pull_parameters(points, t, y, c.unsqueeze(1) * lambdas)
        params = add_grads(params, param_grads)
    return _through_start(field, form, steps, zbar, params)


class _Differences:
    """The matrices of the steps of rows whose histories are backward differences
    (bdf.formulas.DifferenceHistory).

    The steps have orders k (m,) and sizes h (m,); before: the sizes before them, (m, count). back,
    (m, rows, rows + 2): (A^T, p, q) after the change of grid. b, (m, rows): of the update.
    dense(which), (q, 6, rows): for some steps, maps the history after the step to coefficients of
    the powers of theta.
    """

    count = 1

    def __init__(self, form, k, h, before):
        self.form = form
        self.k = k
        orders = range(1, MAX_ORDER + 1)
        moving = np.stack([form.moving(1), *(form.moving(i) for i in orders)])
        reading = np.stack([form.reading(1), *(form.reading(i) for i in orders)])
        self.back = np.concatenate((moving[:, :, :-1], reading), axis=1).transpose(0, 2, 1)[k]
        self.b = moving[:, :, -1][k]
        ratio = h / before[:, 0]
        which = np.flatnonzero(ratio != 1)
        change = redifferences(k[which], ratio[which])
        size = MAX_ORDER + 1
        moved = np.zeros_like(self.back[which])
        moved[:, :size] = np.matmul(change.transpose(0, 2, 1), self.back[which][:, :size])
        self.back[which] = moved

    def dense(self, which):
        weights = np.zeros((MAX_ORDER + 1, MAX_ORDER + 1, self.form.rows))
        for k in set(self.k[which].tolist()):
            weights[k, : k + 1] = self.form.dense_weights(k, None)
        return weights[self.k[which]]


class _Values:
    """The same for histories of past values (bdf.formulas.ValueHistory)."""

    count = MAX_ORDER

    def __init__(self, form, k, h, before):
        self.form = form
        self.k = k
        past = np.concatenate((np.zeros((len(h), 1)), np.cumsum(before, axis=1)), axis=1).T
        self.nodes = -past / h  # of the past values, in steps from the current one
        with np.errstate(all="ignore"):  # for nodes that a row does not have
            read = lagrange(self.nodes, k)
        read[1] /= np.array(form.alpha)[k][:, None].T
        size = MAX_ORDER + 1
        self.back = np.zeros((len(h), form.rows, form.rows + 2))
        self.back[:, np.arange(size), np.arange(size) + 1] = 1  # values move down by one
        self.back[:, :size, 0] = read[0].T
        self.back[:, :size, -2:] = read.transpose(2, 1, 0)
        self.b = np.zeros((len(h), form.rows))
        self.b[:, 0] = 1

    def dense(self, which):
        nodes = np.concatenate((np.ones((1, len(which))), self.nodes[:-1, which]))
        weights = np.zeros((len(which), MAX_ORDER + 1, self.form.rows))
        weights[:, :, :-1] = monomials(nodes, self.k[which])
        return weights


_MATRICES: dict[type, Any] = {DifferenceHistory: _Differences, ValueHistory: _Values}


def _forced(matrices, outputs, first, last):
    """What the outputs of the steps first to last add to the cotangents of their histories, (m,
    rows, n)."""
    end_cotangents = outputs.end_cotangents[first:last]
    forced = end_cotangents.new_zeros(
        len(end_cotangents), matrices.form.rows, end_cotangents.shape[1]
    )
    forced[:, 0] = end_cotangents
    step, theta, grads = outputs.inside_steps(first, last)
    if len(step):
        dense = constant(matrices.dense(step.cpu().numpy()), end_cotangents)
        weights = products.bmm(powers(theta, MAX_ORDER, 0, end_cotangents).unsqueeze(1), dense)
        forced.index_add_(0, step, weights.transpose(1, 2) * grads.unsqueeze(1))
    return forced


class _Transposed:
    """Solves with the transposes of I - c J at m points, factorised together."""

    def __init__(self, points, t, y, c):
        n = y.shape[1]
        matrices = torch.eye(n, dtype=y.dtype, device=y.device) - c.view(-1, 1, 1) * jacobians(
            points, t, y
        )
        points.stats.backward_nlu += len(c)
        points.stats.backward_nsolve += len(c)
        if n < INVERSE_BELOW:
            self.inverse = inverses(matrices, check=True)
        else:
            self.inverse = None
        if self.inverse is None:
            self.factors = products.lu_factor(matrices)
        else:
            self.factors = None

    def solve(self, first, last, b):
        """Solve for the points first to last: (m, 1, n) for b (m, 1, n)."""
        if self.inverse is not None:
            return products.bmm(b, self.inverse[first:last])
        lu, pivots = self.factors
        return products.lu_solve(
            lu[first:last], pivots[first:last], b.transpose(1, 2), adjoint=True
        ).transpose(1, 2)


def _through_start(field, form, steps, zbar, params):
    """Take the cotangents through the first histories, which consist of y0 and the slopes there."""
    t0, y0, h0 = steps.start
    order = to_device(steps.order, zbar.device)
    weights = constant(form.start_weights(1.0), zbar)
    ybar, fbar = products.einsum("rj,brn->jbn", weights, zbar).unbind(0)
    fbar = fbar * constant(h0, fbar)[order].unsqueeze(1)
    with torch.enable_grad():
        start = y0[order].detach().clone().requires_grad_()
        slope = field.select(order).eval(t0[order], start)
        (by_y,), param_grads = pull_back(field, slope, (start,), fbar)
    ybar = plus(ybar, by_y)
    params = add_grads(params, param_grads)
    field.stats.backward_nvjp += len(ybar)
    return ybar, params
