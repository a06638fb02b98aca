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
from ...core.arithmetic import Arrays
from ...core.transfer import tensor
from ..bdf.formulas import FLAT, MAX_ORDER, DifferenceHistory, ValueHistory

if TYPE_CHECKING:
    from ...core.arithmetic import Arithmetic, Numbers
    from ...core.norm import RowTolerance


SIZE = MAX_ORDER + 1
_ROWS = np.arange(SIZE)[:, None]
# Of the values of a history, and of pairs of them.
_ORDERS = np.arange(SIZE + 1)[:, None]
_SAME = np.eye(SIZE + 1, dtype=bool)[:, :, None]
# Values to differences.
SIGNS = np.array([[(-1.0) ** i * comb(m, i) for i in range(SIZE)] for m in range(SIZE)])
FACTORIAL = np.array([1.0, 1.0, 2.0, 6.0, 24.0, 120.0, 720.0])
# Rows whose matrices of a change of grid fit into a processor's cache.
BLOCK = 1 << 12
# Which differences a step of each order changes: those up to the order, and the last d.
LEVELS = np.array([*range(SIZE), 0])[:, None]


class DifferenceSums:
    """Matrices that serve differences of every order, as tensors.

    sums: (2, 7), of the predicted value, and alpha_k times the formula's other terms. above: (7,
    7), of what a step adds. orders: 0 to 5, (6, 1); signs: (6, 6), of redifferences.
    """

    def __init__(self, form: DifferenceHistory, like: Tensor) -> None:
        # Everything above the order is zero, so the sums of the largest order serve every row.
        sums = form.reading(MAX_ORDER)[:, : SIZE + 1] * np.array([[1], [form.alpha[MAX_ORDER]]])
        self.sums = tensor(sums, like)
        # The weights of d (see DifferenceHistory.moving); the last row is d - D_(k+1).
        above = np.triu(np.ones((SIZE + 1, SIZE + 1)), 1)
        above[:, -1] = 0
        above[-1, -1] = -1
        self.above = tensor(above, like)
        self.orders = tensor(_ROWS.astype(float), like)
        self.signs = tensor(SIGNS, like)

    def moves(self, z: Tensor, d: Tensor) -> Tensor:
        """What a step adds to z, (7, m, n), and in the last place d - D_(k+1). d: (m, n), its end
        minus the prediction."""
        flat = products.addmm(d.reshape(-1), self.above, z.view(len(z), -1))
        return flat.view(z.shape)

    def redifferences(self, k: Tensor, ratio: Tensor) -> Tensor:
        """``redifferences`` of tensors: (m, 6, 6)."""
        empty = self.signs.new_empty
        return _redifferences(k, ratio, self.orders, self.signs, empty, products.mm)


def first_differences(y: Tensor, slope: Tensor) -> Tensor:
    """(7, m, n): the history of rows at their starts y (m, n). slope: h f there, (m, n)."""
    return torch.cat((torch.stack((y, slope)), y.new_zeros(SIZE - 1, *y.shape)))


def first_values(form: ValueHistory, y: Tensor, slope: Tensor) -> Tensor:
    """(7, m, n): the same of past values."""
    return torch.cat((torch.stack((y, y - slope)), y.new_zeros(form.rows - 2, *y.shape)))


class DifferenceRows:
    """z: y, its backward differences of order 1 to 5 on the grid of the row's step, zero above its
    order, and the last d."""

    def __init__(self, form: DifferenceHistory, y: Tensor, f0: Tensor, h: np.ndarray) -> None:
        self.z = first_differences(y, tensor(h, y).unsqueeze(1) * f0)
        self.alpha = np.array(form.alpha)
        self.error = np.array(form.error)
        self.matrices = DifferenceSums(form, y)
        self.upper: Any = None
        dense = np.zeros((MAX_ORDER + 1, SIZE, SIZE))
        for k in range(1, MAX_ORDER + 1):
            dense[k, : k + 1] = form.dense_weights(k, None)[:, :SIZE]
        self.dense = dense

    def select(self, keep: Tensor) -> None:
        self.z = self.z.index_select(1, keep)

    def rescale(self, which: np.ndarray, k: np.ndarray, ratio: np.ndarray) -> None:
        """Move histories of order k (w,) to grids ratio (w,) times as wide
        (formulas.redifference)."""
        if not self.z.is_cpu:
            # For a million rows the matrices are 300 MB: better made where they are needed.
            numbers = tensor(np.stack((k, ratio)), self.z)
            matrices = self.matrices.redifferences(numbers[0], numbers[1])
            self._multiply(which, matrices)
            return
        for first in range(0, len(which), BLOCK):
            block = slice(first, first + BLOCK)
            matrices = tensor(redifferences(k[block], ratio[block]), self.z)
            self._multiply(which[block], matrices)

    def _multiply(self, which: np.ndarray, matrices: Tensor) -> None:
        """Multiply the differences of some rows by matrices, (w, 6, 6)."""
        rows = tensor(which, self.z)
        old = self.z[:SIZE].index_select(1, rows).transpose(0, 1)
        self.z[:SIZE].index_copy_(1, rows, products.bmm(matrices, old).transpose(0, 1))

    def predict(self, k: np.ndarray, h: np.ndarray, out: Tensor) -> None:
        """Predicted values and sums of the other terms of the formula, into out (2, m, n)."""
        products.mm_into(self.matrices.sums, self.z.view(len(self.z), -1), out=out.view(2, -1))
        out[1].mul_(tensor(1 / self.alpha[k], out).unsqueeze(1))

    def error_constants(self, k: np.ndarray, h: np.ndarray, equal: np.ndarray) -> np.ndarray:
        return self.error[k]

    def update(
        self, accepted: np.ndarray, k: np.ndarray, h: np.ndarray, d: Tensor, y1: Tensor
    ) -> None:
        """Update the history of the accepted rows with a step to y1 (m, n), where d is y1 minus the
        prediction."""
        moves = self.matrices.moves(self.z, d)
        changed = (LEVELS <= k) & accepted
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
        z = self.z[:SIZE].index_select(1, tensor(which, self.z)).transpose(0, 1)
        return products.bmm(tensor(self.dense[k[which]], z), z).transpose(0, 1)


class ValueRows:
    """z: y at the last times; past, (7, m): the distances of these times from the present one,
    signed by h."""

    def __init__(self, form: ValueHistory, y: Tensor, f0: Tensor, h: np.ndarray) -> None:
        self.z = first_values(form, y, tensor(h, y).unsqueeze(1) * f0)
        self.past = np.full((form.rows, len(h)), np.nan)
        self.past[0], self.past[1] = 0, h
        self.alpha = np.array(form.alpha)

    def select(self, keep: Tensor) -> None:
        self.z, self.past = self.z.index_select(1, keep), self.past[:, keep.cpu().numpy()]

    def rescale(self, which: np.ndarray, k: np.ndarray, ratio: np.ndarray) -> None:
        """Past values do not change."""

    def predict(self, k: np.ndarray, h: np.ndarray, out: Tensor) -> None:
        weights = lagrange(-self.past[:SIZE] / h, k)
        weights[1] /= self.alpha[k]
        torch.sum(tensor(weights, self.z).unsqueeze(3) * self.z[:SIZE], 1, out=out)

    def error_constants(self, k: np.ndarray, h: np.ndarray, equal: np.ndarray) -> np.ndarray:
        """Brenan, Campbell & Petzold (5.2.24): the larger of the two terms of the error of the
        step."""
        own, rest = leading_terms(Arrays, self.past[:SIZE], k, h, _ROWS)
        return np.maximum(own, np.abs(own - self.alpha[k] + rest))

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
        weights = np.stack(
            [FACTORIAL[m] * divided(Arrays, x, m + 2, _ORDERS, _SAME) for m in (k - 1, k + 1)]
        )
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
        nodes = 1 - self.past[:SIZE, which] / h[which]
        z = self.z[:SIZE].index_select(1, tensor(which, self.z)).transpose(0, 1)
        return products.bmm(tensor(monomials(nodes, k), z), z).transpose(0, 1)


def redifferences(k: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """(w, 6, 6): the map from differences of order k (w,) to those on a grid ratio (w,) times as
    wide (formulas.redifference)."""
    return np.ascontiguousarray(_redifferences(k, ratio, _ROWS, SIGNS, np.empty, np.matmul))


def _redifferences(
    k: Any,
    ratio: Any,
    orders: Any,
    signs: Any,
    empty: Callable[[tuple], Any],
    product: Callable[[Any, Any], Any],
) -> Any:
    """The same, of arrays or tensors. orders: 0 to 5, (6, 1); signs: SIGNS; empty: makes an array
    of a shape; product: of two matrices."""
    used = orders <= k
    x = orders * -ratio
    values = empty((SIZE, SIZE, len(k)))
    values[0] = 1
    for m in range(MAX_ORDER):
        values[m + 1] = values[m] * ((x + m) * (1 / (m + 1)))
    values *= used[:, None]
    columns = values.swapaxes(0, 1).reshape(SIZE, -1)
    matrices = product(signs, columns).reshape(values.shape) * used[:, None]
    return matrices.swapaxes(1, 2).swapaxes(0, 1)


def monomials(nodes: np.ndarray, k: np.ndarray) -> np.ndarray:
    """(w, 6, 6): the map from values at the first k + 1 (w,) nodes (r, w) to coefficients of 1,
    theta, theta^2, ..."""
    weights = np.zeros((len(k), SIZE, SIZE))
    for order in set(k.tolist()):
        rows = np.flatnonzero(k == order)
        powers = nodes[: order + 1, rows].T[:, :, None] ** np.arange(order + 1)
        weights[rows, : order + 1, : order + 1] = np.linalg.inv(powers)
    return weights


def leading_terms(
    xp: Arithmetic, past: Any, k: Any, h: Any, orders: Any
) -> tuple[Numbers, Numbers]:
    """(alpha_(k+1), sum of alpha_1 to alpha_k), (m,), alpha_j = h / (h + past_j), as in
    formulas.leading_error. past: (6, m); orders: 0 to 5, (6, 1)."""
    alphas = h / (h + past)
    own = xp.where(orders == k, alphas, 0.0).sum(0)
    return own, xp.where(orders < k, alphas, 0.0).sum(0)


def lagrange(nodes: np.ndarray, k: np.ndarray) -> np.ndarray:
    """(2, r, w): values and slopes at 1 of the Lagrange bases of the first k + 1 (w,) nodes (r, w)
    (formulas.lagrange). If the last step gives no slope (formulas.FLAT), the basis is a
    constant."""
    bases, flat = lagrange_bases(Arrays, nodes, k, _ROWS, _SAME[:SIZE, :SIZE])
    if flat.any():
        bases[:, :, flat] = 0.0
        bases[0, 0, flat] = 1.0
    return bases


def lagrange_bases(
    xp: Arithmetic, nodes: Any, k: Any, orders: Any, same: Any
) -> tuple[Any, Numbers]:
    """The same for arrays or tensors, and the mask of the rows whose basis must be a constant.
    orders: 0, 1, ..., (r, 1); same: (r, r, 1), where the two are equal."""
    distances = xp.where(orders <= k, 1 - nodes, 1.0)
    values = divided(xp, nodes, k + 1, orders, same) * (distances.prod(0) / distances)
    slopes = values * ((1 / distances).sum(0) - (MAX_ORDER - k) - 1 / distances)
    return xp.stack((values, slopes)), (k == 1) & (nodes[1] > -FLAT)


def divided(xp: Arithmetic, x: Any, count: Any, orders: Any, same: Any) -> Any:
    """(r, w): 1 / prod (x_j - x_i) over the other i among the first count (w,) nodes x (r, w); 0
    for later nodes. orders, same: of lagrange_bases."""
    used = orders < count
    differences = x[:, None] - x
    xp.fill(differences, ~used | same, 1.0)
    return xp.where(used, 1 / differences.prod(1), 0.0)


HISTORIES: dict[type, Any] = {DifferenceHistory: DifferenceRows, ValueHistory: ValueRows}
