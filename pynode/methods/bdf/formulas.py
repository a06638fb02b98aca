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


def _redifference(k: int, ratio: float) -> list[list[float]]:
    """(k + 1, k + 1): the map from backward differences on a unit grid to those of the same
    polynomial on a grid with this ratio."""
    rows = []
    for i in range(k + 1):
        x = -ratio * i
        row = [1.0]
        value = 1.0
        for m in range(k):
            value *= (x + m) / (m + 1)  # the Newton basis that goes with backward differences
            row.append(value)
        rows.append(row)
    for m in range(k):
        for i in range(k, m, -1):
            rows[i] = [a - b for a, b in zip(rows[i - 1], rows[i])]
    return rows


def _lagrange(nodes: tuple, x: float) -> tuple[list[float], list[float]]:
    """Values and derivatives at x of the Lagrange basis of the nodes (x none of them): two lists of
    floats."""
    distances = [x - node for node in nodes]
    total = sum(1 / distance for distance in distances)
    values = []
    slopes = []
    for j, node in enumerate(nodes):
        value = 1.0
        for m, other in enumerate(nodes):
            if m != j:
                value *= distances[m] / (node - other)
        values.append(value)
        slopes.append(value * (total - 1 / distances[j]))
    return values, slopes


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
        A ratio above ``largest`` occurs if a stop cut the last step to almost nothing. The rounding
        of the history then grows like ratio^order. finest: this rounding, as a part of the
        tolerance."""
        allowed = np.floor(-np.log(finest) / np.log(np.maximum(ratio, self.largest)))
        return np.where(ratio > self.largest, np.clip(allowed, 1, k), k).astype(int)

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
        matrix[: k + 1, : k + 1] = _redifference(k, ratio)
        return torch.from_numpy(matrix).to(z) @ z, past, matrix

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
            torch.mm(self.tensor("moving_a", k, z), z), self.tensor("moving_b", k, z), d
        ), past

    def read(self, zbar: Tensor, k: int) -> Tensor:
        """b . zbar: the cotangent of d, (n,)."""
        return torch.mv(zbar.t(), self.tensor("moving_b", k, zbar))

    def pull(self, zbar: Tensor, k: int, pq: Tensor, dbar: Tensor, lam: Tensor) -> Tensor:
        """The cotangent of the history before the step (see adjoints/discrete/bdf.py)."""
        a = self.tensor("moving_a", k, zbar)
        return torch.addmm(torch.mm(a.t(), zbar), pq.t(), torch.stack((lam - dbar, -lam)))

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
        """After a short step between longer steps the rounding grows like the ratio, at any
        order."""
        return np.where((ratio > self.largest) & (ratio * finest > 1), 1, k).astype(int)

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
        return torch.from_numpy(self._read(nodes, k)).to(z), nodes[:k]

    def reading(self, k: int) -> np.ndarray:
        return self._read(_EVEN[: k + 1], k)

    def _read(self, nodes: tuple, k: int) -> np.ndarray:
        """pq, (2, rows), for values at the nodes. A node is the time minus the present one, divided
        by h."""
        if k == 1 and nodes[1] > -FLAT:
            values = [1.0, 0.0]
            slopes = [0.0, 0.0]
        else:
            values, slopes = _lagrange(nodes, 1.0)
        rest = [0.0] * (self.rows - k - 1)
        return np.array([values + rest, [s / self.alpha[k] for s in slopes] + rest])

    def read(self, zbar: Tensor, k: int) -> Tensor:
        return zbar[0]

    def pull(self, zbar: Tensor, k: int, pq: Tensor, dbar: Tensor, lam: Tensor) -> Tensor:
        """The new value is p z + d, and the other rows move down. Hence A^T zbar = (zbar moved up)
        + p dbar."""
        moved = torch.cat((zbar[1:], zbar.new_zeros(1, zbar.shape[1])))
        return torch.addmm(moved, pq.t(), torch.stack((lam, -lam)))

    def update(
        self, z: Tensor, past: tuple, k: int, h: float, d: Tensor, y1: Tensor
    ) -> tuple[Tensor, tuple]:
        return torch.cat((y1.unsqueeze(0), z[:-1])), (0.0,) + tuple(
            p + h for p in past[: self.rows - 1]
        )

    def error_constant(self, past: tuple, k: int, h: float, equal: int) -> float:
        """Brenan, Campbell & Petzold (5.2.24): the larger of the two terms of the error of the
        step."""
        if equal >= k:
            return 1 / (k + 1)
        alphas = [h / (h + p) for p in past[: k + 1]]
        return max(alphas[k], abs(alphas[k] - _GAMMA[k] + sum(alphas[:k])))

    def neighbours(
        self, z: Tensor, past: tuple, k: int, h: float, scale: Tensor
    ) -> tuple[float | None, float | None]:
        """Scaled errors of order k - 1 and k + 1, m! h^(m+1) times the divided difference of order
        m + 1."""
        weights = np.zeros((2, self.rows))
        for row, m in ((0, k - 1), (1, k + 1)):
            if 1 <= m <= MAX_ORDER:
                x = [-p / h for p in past[: m + 2]]
                for j, xj in enumerate(x):
                    product = 1.0
                    for i, xi in enumerate(x):
                        if i != j:
                            product *= xj - xi
                    # Rounding can make two close times equal. The error is then unknown.
                    if product:
                        weights[row, j] = _FACTORIAL[m] / product
                    else:
                        weights[row, j] = math.inf
        lower, upper = _norms(torch.from_numpy(weights).to(z), z, scale, k)
        if len(past) < k + 3:
            upper = None
        return lower, upper

    def dense_weights(self, k: int, tape: Any) -> np.ndarray:
        weights = np.zeros((k + 1, self.rows))
        weights[:, : k + 1] = _monomials((1.0,) + tape)
        return weights


_EVEN = tuple(-float(i) for i in range(MAX_ORDER + 2))
_FACTORIAL = [1.0, 1.0, 2.0, 6.0, 24.0, 120.0, 720.0]


def _norms(weights: Tensor, z: Tensor, scale: Tensor, k: int) -> tuple[float | None, float | None]:
    scaled = torch.mm(weights, z) / scale
    lower, upper = (scaled * scaled).mean(dim=1).sqrt().tolist()
    if k == 1:
        lower = None
    if k == MAX_ORDER:
        upper = None
    return lower, upper
