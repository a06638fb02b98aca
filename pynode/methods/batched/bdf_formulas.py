"""The two histories of the BDF for rows of a batch, each row with its own order and step (see
formulas.py).

A history z is (r, m, n), so that sums over it are one matrix product for all rows; k, h are NumPy
arrays (m,), and which names rows by their indices.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core import products
from ...core.transfer import tensor
from ..bdf.formulas import FLAT, MAX_ORDER, DifferenceHistory, ValueHistory

if TYPE_CHECKING:
    from ...core.norm import RowTolerance


_SIZE = MAX_ORDER + 1
_ROWS = np.arange(_SIZE)[:, None]
# Values to differences.
_SIGNS = np.array([[(-1.0) ** i * comb(m, i) for i in range(_SIZE)] for m in range(_SIZE)])
_FACTORIAL = np.array([1.0, 1.0, 2.0, 6.0, 24.0, 120.0, 720.0])


class DifferenceRows:
    """z: y, its backward differences of order 1 to 5 on the grid of the row's step, zero above its
    order, and the last d."""

    def __init__(self, form: DifferenceHistory, y: Tensor, f0: Tensor, h: np.ndarray) -> None:
        self.z = torch.cat(
            (torch.stack((y, tensor(h, y).unsqueeze(1) * f0)), y.new_zeros(_SIZE - 1, *y.shape))
        )
        self.alpha = np.array(form.alpha)
        self.error = np.array(form.error)
        # Everything above the order is zero, so the sums of the largest order serve every row.
        sums = form.reading(MAX_ORDER)[:, : _SIZE + 1] * np.array([[1], [form.alpha[MAX_ORDER]]])
        self.sums = tensor(sums, y)
        # The weights of d (see DifferenceHistory.moving); the last row is d - D_(k+1).
        above = np.triu(np.ones((_SIZE + 1, _SIZE + 1)), 1)
        above[:, -1] = 0
        above[-1, -1] = -1
        self.above = tensor(above, y)
        self.levels = np.array([*range(_SIZE), 0])[:, None]
        self.orders = tensor(_ROWS.astype(float), y)
        self.signs = tensor(_SIGNS, y)
        self.upper: Any = None
        dense = np.zeros((MAX_ORDER + 1, _SIZE, _SIZE))
        for k in range(1, MAX_ORDER + 1):
            dense[k, : k + 1] = form.dense_weights(k, None)[:, :_SIZE]
        self.dense = dense

    def select(self, keep: Tensor) -> None:
        self.z = self.z.index_select(1, keep)

    def rescale(self, which: np.ndarray, k: np.ndarray, ratio: np.ndarray) -> None:
        """Move histories of order k (w,) to grids ratio (w,) times as wide
        (formulas.redifference)."""
        rows = tensor(which, self.z)
        old = self.z[:_SIZE].index_select(1, rows).transpose(0, 1)
        if old.is_cpu:
            matrices = tensor(redifferences(k, ratio), old)
        else:
            # For a million rows the matrices are 300 MB: better made where they are needed.
            numbers = tensor(np.stack((k, ratio)), old)
            matrices = _redifferences(
                numbers[0], numbers[1], self.orders, self.signs, old.new_empty, products.mm
            )
        self.z[:_SIZE].index_copy_(1, rows, products.bmm(matrices, old).transpose(0, 1))

    def predict(self, k: np.ndarray, h: np.ndarray, out: Tensor) -> None:
        """Predicted values and sums of the other terms of the formula, into out (2, m, n)."""
        products.mm_into(self.sums, self.z.view(len(self.z), -1), out=out.view(2, -1))
        out[1].mul_(tensor(1 / self.alpha[k], out).unsqueeze(1))

    def error_constants(self, k: np.ndarray, h: np.ndarray, equal: np.ndarray) -> np.ndarray:
        return self.error[k]

    def update(
        self, accepted: np.ndarray, k: np.ndarray, h: np.ndarray, d: Tensor, y1: Tensor
    ) -> None:
        """Update the history of the accepted rows with a step to y1 (m, n), where d is y1 minus the
        prediction."""
        moves = products.addmm(d.reshape(-1), self.above, self.z.view(len(self.z), -1)).view(
            self.z.shape
        )
        changed = (self.levels <= k) & accepted
        self.z.addcmul_(tensor(changed.astype(float), d).unsqueeze(2), moves)
        self.upper = moves[-1]

    def neighbours(
        self, which: np.ndarray, k: np.ndarray, h: np.ndarray, tol: RowTolerance, reciprocal: Tensor
    ) -> np.ndarray:
        """(2, w): scaled errors that the orders k - 1 and k + 1 would have made. reciprocal: 1 /
        scale, (m, n)."""
        m = self.z.shape[1]
        rows = tensor(which, self.z)
        lower = self.z.view(-1, self.z.shape[2]).index_select(0, tensor(k * m + which, self.z))
        terms = torch.stack((lower, self.upper.index_select(0, rows)))
        return tol.norms(terms * reciprocal.index_select(0, rows)) * (
            self.error[k - 1],
            self.error[k + 1],
        )

    def raise_order(self, which: np.ndarray, k: np.ndarray) -> None:
        """Store d as the difference of order k + 1."""
        if len(which):
            at = tensor((k + 1) * self.z.shape[1] + which, self.z)
            self.z.view(-1, self.z.shape[2]).index_copy_(
                0, at, self.z[-1].index_select(0, tensor(which, self.z))
            )

    def polynomial(self, k: np.ndarray, h: np.ndarray, which: np.ndarray) -> Tensor:
        """(6, w, n) coefficients of the powers of theta on the last step of the rows."""
        z = self.z[:_SIZE].index_select(1, tensor(which, self.z)).transpose(0, 1)
        return products.bmm(tensor(self.dense[k[which]], z), z).transpose(0, 1)


class ValueRows:
    """z: y at the last times; past, (7, m): the distances of these times from the present one,
    signed by h."""

    def __init__(self, form: ValueHistory, y: Tensor, f0: Tensor, h: np.ndarray) -> None:
        size = tensor(h, y).unsqueeze(1)
        self.z = torch.cat((torch.stack((y, y - size * f0)), y.new_zeros(form.rows - 2, *y.shape)))
        self.past = np.full((form.rows, len(h)), np.nan)
        self.past[0], self.past[1] = 0, h
        self.alpha = np.array(form.alpha)

    def select(self, keep: Tensor) -> None:
        self.z, self.past = self.z.index_select(1, keep), self.past[:, keep.cpu().numpy()]

    def rescale(self, which: np.ndarray, k: np.ndarray, ratio: np.ndarray) -> None:
        """Past values do not change."""

    def predict(self, k: np.ndarray, h: np.ndarray, out: Tensor) -> None:
        weights = lagrange(-self.past[:_SIZE] / h, k)
        weights[1] /= self.alpha[k]
        torch.sum(tensor(weights, self.z).unsqueeze(3) * self.z[:_SIZE], 1, out=out)

    def error_constants(self, k: np.ndarray, h: np.ndarray, equal: np.ndarray) -> np.ndarray:
        """Brenan, Campbell & Petzold (5.2.24): the larger of the two terms of the error of the
        step."""
        alphas = h / (h + self.past[:_SIZE])
        own = np.take_along_axis(alphas, k[None], 0)[0]
        return np.maximum(own, np.abs(own - self.alpha[k] + np.where(_ROWS < k, alphas, 0).sum(0)))

    def update(
        self, accepted: np.ndarray, k: np.ndarray, h: np.ndarray, d: Tensor, y1: Tensor
    ) -> None:
        self.z = torch.where(
            tensor(accepted, y1).unsqueeze(1), torch.cat((y1.unsqueeze(0), self.z[:-1])), self.z
        )
        self.past = np.where(accepted, np.vstack((np.zeros_like(h), self.past[:-1] + h)), self.past)

    def neighbours(
        self, which: np.ndarray, k: np.ndarray, h: np.ndarray, tol: RowTolerance, reciprocal: Tensor
    ) -> np.ndarray:
        """(2, w): m! h^(m+1) times the divided differences of order m + 1, m = k - 1 and k + 1."""
        x = -self.past[:, which] / h[which]
        weights = np.stack([_FACTORIAL[m] * _divided(x, m + 2) for m in (k - 1, k + 1)])
        rows = tensor(which, self.z)
        terms = (tensor(weights, self.z).unsqueeze(3) * self.z.index_select(1, rows)).sum(1)
        norms = tol.norms(terms * reciprocal.index_select(0, rows))
        # Rounding can make two close times equal. The error is then unknown.
        return np.where(np.isnan(norms), np.inf, norms)

    def raise_order(self, which: np.ndarray, k: np.ndarray) -> None:
        """Nothing to do: the history has the values for all orders."""

    def polynomial(self, k: np.ndarray, h: np.ndarray, which: np.ndarray) -> Tensor:
        """(6, w, n): the interpolant of the formula's own values."""
        k = k[which]
        nodes = 1 - self.past[:_SIZE, which] / h[which]
        z = self.z[:_SIZE].index_select(1, tensor(which, self.z)).transpose(0, 1)
        return products.bmm(tensor(monomials(nodes, k), z), z).transpose(0, 1)


def redifferences(k: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """(w, 6, 6): the map from differences of order k (w,) to those on a grid ratio (w,) times as
    wide (formulas.redifference)."""
    return np.ascontiguousarray(_redifferences(k, ratio, _ROWS, _SIGNS, np.empty, np.matmul))


def _redifferences(
    k: Any,
    ratio: Any,
    orders: Any,
    signs: Any,
    empty: Callable[[tuple], Any],
    product: Callable[[Any, Any], Any],
) -> Any:
    """The same, of arrays or tensors. orders: 0 to 5, (6, 1); signs: _SIGNS; empty: makes an array
    of a shape; product: of two matrices."""
    used = orders <= k
    x = orders * -ratio
    values = empty((_SIZE, _SIZE, len(k)))
    values[0] = 1
    for m in range(MAX_ORDER):
        values[m + 1] = values[m] * ((x + m) * (1 / (m + 1)))
    values *= used[:, None]
    columns = values.swapaxes(0, 1).reshape(_SIZE, -1)
    matrices = product(signs, columns).reshape(values.shape) * used[:, None]
    return matrices.swapaxes(1, 2).swapaxes(0, 1)


def monomials(nodes: np.ndarray, k: np.ndarray) -> np.ndarray:
    """(w, 6, 6): the map from values at the first k + 1 (w,) nodes (r, w) to coefficients of 1,
    theta, theta^2, ..."""
    weights = np.zeros((len(k), _SIZE, _SIZE))
    for order in set(k.tolist()):
        rows = np.flatnonzero(k == order)
        powers = nodes[: order + 1, rows].T[:, :, None] ** np.arange(order + 1)
        weights[rows, : order + 1, : order + 1] = np.linalg.inv(powers)
    return weights


def lagrange(nodes: np.ndarray, k: np.ndarray) -> np.ndarray:
    """(2, r, w): values and slopes at 1 of the Lagrange bases of the first k + 1 (w,) nodes (r, w)
    (formulas.lagrange). If the last step gives no slope (formulas.FLAT), the basis is a
    constant."""
    distances = np.where(_ROWS <= k, 1 - nodes, 1)
    values = _divided(nodes, k + 1) * (distances.prod(0) / distances)
    bases = np.stack((values, values * ((1 / distances).sum(0) - (MAX_ORDER - k) - 1 / distances)))
    flat = (k == 1) & (nodes[1] > -FLAT)
    if flat.any():
        bases[:, :, flat] = 0.0
        bases[0, 0, flat] = 1.0
    return bases


def _divided(x: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(r, w): 1 / prod (x_j - x_i) over the other i among the first count (w,) nodes x (r, w); 0
    for later nodes."""
    used = np.arange(len(x))[:, None] < count
    differences = x[:, None] - x
    np.copyto(differences, 1, where=~used)
    differences[range(len(x)), range(len(x))] = 1
    return np.where(used, 1 / differences.prod(1), 0)


HISTORIES: dict[type, Any] = {DifferenceHistory: DifferenceRows, ValueHistory: ValueRows}
