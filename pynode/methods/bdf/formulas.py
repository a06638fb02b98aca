"""The two histories of the BDF: backward differences on an even grid, or past values at the times
of their steps.

Small matrices read and update the history z, (rows, n). They contain only numbers. The step
multiplies z by them, and the gradient multiplies by their transposes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core import products
from ...core.arithmetic import Arithmetic, Arrays, Numbers
from ...core.transfer import constant

MAX_ORDER = 5
# If a stop cut a step to less than this part of the next one, the difference of its ends is mostly
# rounding and gives no slope. Order 1 has no other values, so it then predicts without a slope.
FLAT = 1e-4
_GAMMA = [sum(1 / j for j in range(1, k + 1)) for k in range(MAX_ORDER + 2)]


@cache
def _differences(k: int) -> np.ndarray:
    """(k + 1, k + 1): the map from values at 0, -1, ..., -k to backward differences of order 0 to
    k."""
    rows = np.zeros((k + 1, k + 1))
    rows[0, 0] = 1
    for m in range(1, k + 1):
        rows[m, 1:] -= rows[m - 1, :-1]
        rows[m] += rows[m - 1]
    return rows


# The functions below write into ``out`` and other arguments, which are lists, or arrays in compiled
# code. They are the rules of both the torch engine and the native one.


def redifference(out: Any, k: int, ratio: float) -> None:
    """Write the map from backward differences on a unit grid to those of the same polynomial on a
    grid with this ratio.

    out: row after row of (k + 1, k + 1), or longer.
    """
    width = k + 1
    for i in range(width):
        start = width * i
        x = -ratio * i
        value = 1.0
        out[start] = value
        for m in range(k):
            value *= (x + m) / (m + 1)  # the Newton basis that goes with backward differences
            out[start + m + 1] = value
    for m in range(k):
        for place in range(width * width - 1, width * (m + 1) - 1, -1):
            out[place] = out[place - width] - out[place]


def lagrange(nodes: Any, count: int, x: float, values: Any, slopes: Any) -> None:
    """Write values and derivatives at x of the Lagrange basis of the first ``count`` nodes (x none
    of them)."""
    total = 0.0
    for j in range(count):
        slopes[j] = 1 / (x - nodes[j])
        total += slopes[j]
    lagrange_values(nodes, count, x, values)
    for j in range(count):
        slopes[j] = values[j] * (total - slopes[j])


def lagrange_values(nodes: Any, count: int, x: float, values: Any) -> None:
    """Write the values at x of the Lagrange basis of the first ``count`` nodes."""
    for j in range(count):
        node = nodes[j]
        value = 1.0
        for m in range(count):
            if m != j:
                value *= (x - nodes[m]) / (node - nodes[m])
        values[j] = value


def read_values(nodes: Any, k: int, alpha: float, values: Any, slopes: Any) -> None:
    """Write the weights of the predicted value and of the formula's other terms, for a history of
    values at the nodes.

    A node is its time minus the present one, divided by h. alpha: the leading coefficient of order
    k. values, slopes: (k + 1,), or longer; the other entries stay.
    """
    if k == 1 and nodes[1] > -FLAT:
        values[0] = 1.0
        values[1] = 0.0
        slopes[0] = 0.0
        slopes[1] = 0.0
        return
    lagrange(nodes, k + 1, 1.0, values, slopes)
    for j in range(k + 1):
        slopes[j] = slopes[j] / alpha


def divided_difference(nodes: Any, count: int, factor: float, out: Any) -> None:
    """Write the weights of the values at the first ``count`` nodes in factor times their divided
    difference.

    out: (count,), or longer. Rounding can make two close nodes equal. The weight is then infinite.
    """
    for j in range(count):
        node = nodes[j]
        product = 1.0
        for i in range(count):
            if i != j:
                product *= node - nodes[i]
        if product:
            out[j] = factor / product
        else:
            out[j] = math.inf


def leading_error(alphas: Any, k: int, gamma: float) -> float:
    """Brenan, Campbell & Petzold (5.2.24): the larger of the two terms of the error of a step of
    the formula with fixed leading coefficient.

    alphas: h / (h + p) for the distances p of the last k + 1 values. gamma: sum of 1 / j, j up to
    k.
    """
    total = 0.0
    for j in range(k):
        total += alphas[j]
    return max(alphas[k], abs(alphas[k] - gamma + total))


def trusted_differences(
    xp: Arithmetic, k: Numbers, ratio: Numbers, finest: float, largest: float
) -> Numbers:
    """The highest order up to k for a history of differences and a step that is ratio times the
    last one.

    A ratio above ``largest`` occurs if a stop cut the last step to almost nothing. The rounding of
    the history then grows like ratio^order. finest: this rounding, as a part of the tolerance.
    """
    allowed = xp.floor(-math.log(finest) / xp.log(xp.maximum(ratio, largest)))
    return xp.where(ratio > largest, xp.minimum(xp.maximum(allowed, 1), k), k)


def trusted_values(
    xp: Arithmetic, k: Numbers, ratio: Numbers, finest: float, largest: float
) -> Numbers:
    """The same for a history of values. After a short step between longer steps the rounding grows
    like the ratio, at any order."""
    return xp.where((ratio > largest) & (ratio * finest > 1), 1, k)


@lru_cache(maxsize=64)
def _monomials(nodes: tuple) -> np.ndarray:
    """(len, len): the map from values at the nodes to coefficients of 1, theta, theta^2, ....
    Cached: the nodes are often the even grid."""
    return np.linalg.inv(np.vander(nodes, increasing=True))


class _History:
    """Small matrices for each order. Their tensors are made once for each dtype and device."""

    largest = 10.0  # growth of a step
    alpha: Sequence[float]

    def leading(self, past: tuple, k: int, h: float) -> float:
        """The leading coefficient: y' = (leading / h) y1 + older values. Here all steps have the
        same one."""
        return self.alpha[k]

    def __init__(self) -> None:
        self._tensors: dict[tuple, Tensor] = {}

    def tensor(self, name: str, k: int, like: Tensor) -> Tensor:
        """The matrix ``self.name(k)`` as a tensor of like's dtype and device."""
        key = (name, k, like.dtype, like.device)
        cached = self._tensors.get(key)
        if cached is None:
            with torch.inference_mode(False):
                cached = torch.tensor(getattr(self, name)(k), dtype=like.dtype, device=like.device)
            self._tensors[key] = cached
        return cached


class DifferenceHistory(_History):
    """Rows: y and its backward differences of order 1 to k + 2, on a grid of the present step."""

    rows = MAX_ORDER + 3
    _kappa = [0.0, -0.1850, -1 / 9, -0.0823, -0.0415, 0.0, 0.0]  # Shampine & Reichelt, table 1
    alpha = [(1 - kappa) * gamma for kappa, gamma in zip(_kappa, _GAMMA)]
    error = [kappa * gamma + 1 / (k + 1) for k, (kappa, gamma) in enumerate(zip(_kappa, _GAMMA))]

    def trusted(self, k: int | np.ndarray, ratio: Any, finest: float) -> np.ndarray:
        """The highest order up to k for a step that is ratio times the last one; arrays or numbers.
        finest: the rounding of the history, as a part of the tolerance."""
        return trusted_differences(Arrays, k, ratio, finest, self.largest).astype(int)

    # The same rule for any arithmetic.
    rule = staticmethod(trusted_differences)

    def start(self, y: Tensor, f0: Tensor, h: float) -> tuple[Tensor, tuple]:
        return torch.cat((torch.stack((y, h * f0)), y.new_zeros((self.rows - 2, len(y))))), ()

    def start_weights(self, h: float) -> np.ndarray:
        """(rows, 2): the weights of y0 and f0 in the first history."""
        weights = np.zeros((self.rows, 2))
        weights[0, 0], weights[1, 1] = 1, h
        return weights

    def rescale(
        self, z: Tensor, past: tuple, k: int, ratio: float
    ) -> tuple[Tensor, tuple, np.ndarray | None]:
        """History on a grid ``ratio`` times as wide: the differences of the same polynomial
        there."""
        matrix = np.zeros((self.rows, self.rows))
        numbers = [0.0] * (k + 1) ** 2
        redifference(numbers, k, ratio)
        matrix[: k + 1, : k + 1] = np.reshape(numbers, (k + 1, k + 1))
        return products.mm(constant(matrix, z), z), past, matrix

    def reading(self, k: int) -> np.ndarray:
        """pq, (2, rows): the weights of the predicted value and of the formula's other terms."""
        pq = np.zeros((2, self.rows))
        pq[0, : k + 1] = 1
        pq[1, 1 : k + 1] = np.array(_GAMMA[1 : k + 1]) / self.alpha[k]
        return pq

    def moving(self, k: int) -> np.ndarray:
        """A, (rows, rows), and b as the last column. Rows: D_i + ... + D_k + d, then d, then
        d - D_(k+1)."""
        a = np.zeros((self.rows, self.rows + 1))
        for i in range(k + 1):
            a[i, i : k + 1] = 1
        a[k + 2, k + 1] = -1
        a[: k + 3, -1] = 1
        return a

    def moving_a(self, k: int) -> np.ndarray:
        return self.moving(k)[:, :-1]

    def moving_b(self, k: int) -> np.ndarray:
        return self.moving(k)[:, -1]

    def nearby(self, k: int) -> np.ndarray:
        """(2, rows): the differences that estimate the errors of orders k - 1 and k + 1."""
        weights = np.zeros((2, self.rows))
        weights[0, k] = self.error[k - 1]
        weights[1, k + 2] = self.error[k + 1]
        return weights

    def predictor(
        self, z: Tensor, past: tuple, k: int, h: float, equal: int
    ) -> tuple[Tensor, tuple | None]:
        """(pq as a tensor, the nodes that the dense output needs, or None)."""
        return self.tensor("reading", k, z), None

    def update(
        self, z: Tensor, past: tuple, k: int, h: float, d: Tensor, y1: Tensor
    ) -> tuple[Tensor, tuple]:
        """(new history, new times) after a step to y1, where d is y1 minus the prediction."""
        return torch.addr(
            products.mm(self.tensor("moving_a", k, z), z), self.tensor("moving_b", k, z), d
        ), past

    def read(self, zbar: Tensor, k: int) -> Tensor:
        """b . zbar: the cotangent of d, (n,)."""
        return torch.mv(zbar.t(), self.tensor("moving_b", k, zbar))

    def pull(self, zbar: Tensor, k: int, pq: Tensor, dbar: Tensor, lam: Tensor) -> Tensor:
        """The cotangent of the history before the step (see adjoints/discrete/bdf.py)."""
        a = self.tensor("moving_a", k, zbar)
        return products.addmm(products.mm(a.t(), zbar), pq.t(), torch.stack((lam - dbar, -lam)))

    def error_constant(self, past: tuple, k: int, h: float, equal: int) -> float:
        return self.error[k]

    def neighbours(
        self, z: Tensor, past: tuple, k: int, h: float, scale: Tensor
    ) -> tuple[float | None, float | None]:
        """Scaled errors that the orders k - 1 and k + 1 would have made; None for an order that
        does not exist."""
        return _norms(self.tensor("nearby", k, z), z, scale, k)

    @cache
    def dense_weights(self, k: int, tape: Any) -> np.ndarray:
        """(k + 1, rows): the map from the history after the step to coefficients of the powers of
        theta."""
        nodes = tuple(1.0 - i for i in range(k + 1))
        weights = np.zeros((k + 1, self.rows))
        weights[:, : k + 1] = _monomials(nodes) @ np.linalg.inv(_differences(k))
        return weights


class ValueHistory(_History):
    """Rows: y at the last times. past: the distances of these times from the present one, in units
    of t, signed by h."""

    rows = MAX_ORDER + 2
    alpha = _GAMMA

    def trusted(self, k: int | np.ndarray, ratio: Any, finest: float) -> np.ndarray:
        """The same order for past values."""
        return trusted_values(Arrays, k, ratio, finest, self.largest).astype(int)

    rule = staticmethod(trusted_values)

    def start(self, y: Tensor, f0: Tensor, h: float) -> tuple[Tensor, tuple]:
        return torch.cat((torch.stack((y, y - h * f0)), y.new_zeros((self.rows - 2, len(y))))), (
            0.0,
            h,
        )

    def start_weights(self, h: float) -> np.ndarray:
        weights = np.zeros((self.rows, 2))
        weights[0, 0] = weights[1, 0] = 1
        weights[1, 1] = -h
        return weights

    def rescale(
        self, z: Tensor, past: tuple, k: int, ratio: float
    ) -> tuple[Tensor, tuple, np.ndarray | None]:
        """Past values do not change."""
        return z, past, None

    def predictor(
        self, z: Tensor, past: tuple, k: int, h: float, equal: int
    ) -> tuple[Tensor, tuple | None]:
        if equal >= k:
            nodes = _EVEN[: k + 1]
            return self.tensor("reading", k, z), nodes[:k]
        nodes = tuple([-p / h for p in past[: k + 1]])
        return constant(self._read(nodes, k), z), nodes[:k]

    def reading(self, k: int) -> np.ndarray:
        return self._read(_EVEN[: k + 1], k)

    def _read(self, nodes: tuple, k: int) -> np.ndarray:
        """pq, (2, rows), for values at the nodes. A node is the time minus the present one, divided
        by h."""
        values = [0.0] * self.rows
        slopes = [0.0] * self.rows
        read_values(nodes, k, self.alpha[k], values, slopes)
        return np.array([values, slopes])

    def read(self, zbar: Tensor, k: int) -> Tensor:
        return zbar[0]

    def pull(self, zbar: Tensor, k: int, pq: Tensor, dbar: Tensor, lam: Tensor) -> Tensor:
        """The new value is p z + d, and the other rows move down. Hence A^T zbar = (zbar moved up)
        + p dbar."""
        moved = torch.cat((zbar[1:], zbar.new_zeros(1, zbar.shape[1])))
        return products.addmm(moved, pq.t(), torch.stack((lam, -lam)))

    def update(
        self, z: Tensor, past: tuple, k: int, h: float, d: Tensor, y1: Tensor
    ) -> tuple[Tensor, tuple]:
        return torch.cat((y1.unsqueeze(0), z[:-1])), (0.0,) + tuple(
            p + h for p in past[: self.rows - 1]
        )

    def error_constant(self, past: tuple, k: int, h: float, equal: int) -> float:
        """Local error over the distance between prediction and solution."""
        if equal >= k:
            return 1 / (k + 1)
        return leading_error([h / (h + p) for p in past[: k + 1]], k, _GAMMA[k])

    def neighbours(
        self, z: Tensor, past: tuple, k: int, h: float, scale: Tensor
    ) -> tuple[float | None, float | None]:
        """Scaled errors of order k - 1 and k + 1, m! h^(m+1) times the divided difference of order
        m + 1."""
        weights = np.zeros((2, self.rows))
        for row, m in ((0, k - 1), (1, k + 1)):
            if 1 <= m <= MAX_ORDER:
                nodes = [-p / h for p in past[: m + 2]]
                divided_difference(nodes, len(nodes), FACTORIAL[m], weights[row])
        lower, upper = _norms(constant(weights, z), z, scale, k)
        if len(past) < k + 3:
            upper = None
        return lower, upper

    def dense_weights(self, k: int, tape: Any) -> np.ndarray:
        weights = np.zeros((k + 1, self.rows))
        weights[:, : k + 1] = _monomials((1.0,) + tape)
        return weights


_EVEN = tuple(-float(i) for i in range(MAX_ORDER + 2))
FACTORIAL = (1.0, 1.0, 2.0, 6.0, 24.0, 120.0, 720.0)


def _norms(weights: Tensor, z: Tensor, scale: Tensor, k: int) -> tuple[float | None, float | None]:
    scaled = products.mm(weights, z) / scale
    lower, upper = (scaled * scaled).mean(dim=1).sqrt().tolist()
    if k == 1:
        lower = None
    if k == MAX_ORDER:
        upper = None
    return lower, upper
