"""Tableaus: the published numbers of a one-step method, frozen and checked when built.

A tableau holds only literal numbers and their source; it runs nothing. The symbols come from
Hairer, Norsett & Wanner, "Solving Ordinary Differential Equations" (I: sec. II.1 and II.6;
II: sec. IV.3 and IV.7).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from .order_conditions import rooted_trees

_TOLERANCE = 1e-11


def _check(name: str, what: str, residual: float) -> None:
    if abs(residual) > _TOLERANCE:
        raise ValueError(
            f"tableau {name}: {what} is violated by {residual:.2e}; one of its numbers is wrong"
        )


class _Continuous:
    """A tableau with a continuous extension: y(theta) = y + sum_i v_i sum_m dense[i][m]
    theta^(m+1)."""

    name: str
    b: tuple
    dense: tuple

    @cached_property
    def dense_weights(self) -> np.ndarray:
        """(stages, degree) float array of ``dense``: row i holds the powers theta, theta^2, ... of
        stage i."""
        degree = max(len(row) for row in self.dense)
        return np.array(
            [list(row) + [0.0] * (degree - len(row)) for row in self.dense], dtype=float
        )

    def _check_dense_ends(self) -> None:
        """At theta = 1 the continuous extension is the step itself."""
        ends = self.dense_weights.sum(axis=1)
        b = np.zeros(len(ends))
        b[: len(self.b)] = [float(x) for x in self.b]
        _check(self.name, "y(theta = 1) = y1", float(np.abs(ends - b).max()))


@dataclass(frozen=True)
class RungeKutta(_Continuous):
    """A Runge-Kutta method, explicit or diagonally implicit, its embedded pair and its continuous
    extension.

    k_i = f(t + c_i h, y + h sum_j a_ij k_j);  y1 = y + h sum_i b_i k_i;  error = h sum_i b_err_i
    k_i; y(t + theta h) = y + h sum_i k_i sum_m dense[i][m] theta^(m+1).

    a: row i has the entries left of the diagonal, and the diagonal entry if the stage is implicit;
    missing entries are 0. b: one weight for each stage. b_err = b - b_hat, with b_hat of order
    ``embedded_order``. c_dense, a_dense: further explicit stages that only the continuous extension
    needs. Their numbers follow the stages of the step. dense: one row for each stage, also for the
    stages of c_dense; dense_order is the order of the extension as a method.
    """

    name: str
    order: int
    reference: str
    c: tuple
    a: tuple
    b: tuple
    b_err: tuple
    embedded_order: int
    dense: tuple
    dense_order: int
    c_dense: tuple = ()
    a_dense: tuple = ()

    def __post_init__(self) -> None:
        s = len(self.b)
        if not len(self.c) == len(self.a) == len(self.b_err) == s:
            raise ValueError(
                f"tableau {self.name}: c, a, b and b_err must have one entry for each stage"
            )
        if len(self.c_dense) != len(self.a_dense) or len(self.dense) != s + len(self.c_dense):
            raise ValueError(
                f"tableau {self.name}: dense needs one row for each stage, extra ones too"
            )
        for i, (ci, row) in enumerate(zip(self.c + self.c_dense, self.a + self.a_dense)):
            _check(self.name, f"c_{i + 1} = sum of row {i + 1} of a", float(sum(row) - ci))
        for k in range(1, self.order + 1):
            moment = sum(float(b) * float(c) ** (k - 1) for b, c in zip(self.b, self.c))
            _check(self.name, f"the quadrature condition of order {k}", moment - 1 / k)
        _check(self.name, "sum of b_err = 0", float(sum(self.b_err)))
        self._check_dense_ends()

    @property
    def stages(self) -> int:
        """Stages of the step, without those of the continuous extension."""
        return len(self.b)

    @cached_property
    def explicit(self) -> bool:
        return all(len(row) <= i or not any(row[i:]) for i, row in enumerate(self.a))

    @cached_property
    def fsal(self) -> bool:
        """First same as last: the last stage is f at the end of the step (explicit methods).
        Cached, because every step reads it."""
        last = tuple(self.a[-1]) + (0,) * (self.stages - len(self.a[-1]))
        return self.explicit and self.stages > 1 and self.c[-1] == 1 and last == tuple(self.b)

    @cached_property
    def stability_boundary(self) -> float:
        """The point on the negative axis where the stability of an explicit method ends. Cached,
        because automatic switching reads it in every solve."""
        a = self.matrix()[: self.stages, : self.stages]
        b = np.array([float(x) for x in self.b])
        one = np.ones(len(a))
        for z in np.arange(0.01, 50, 0.01):
            if abs(1 - z * b @ np.linalg.solve(np.eye(len(a)) + z * a, one)) > 1 + 1e-9:
                return float(z)
        raise AssertionError("an explicit method is not stable on the whole axis")

    @cached_property
    def stages_at_one_time(self) -> tuple[int, int] | None:
        """(i, j): the last two stages that have the same time and different rows, or None."""
        a = self.matrix()
        for i in range(self.stages - 1, 0, -1):
            for j in range(i - 1, 0, -1):
                if self.c[i] == self.c[j] and np.abs(a[i] - a[j]).max() > 1e-12:
                    return i, j
        return None

    def matrix(self) -> np.ndarray:
        """A, (all stages, all stages), with the extra stages of the continuous extension."""
        rows = self.a + self.a_dense
        full = np.zeros((len(rows), len(rows)))
        for i, row in enumerate(rows):
            full[i, : len(row)] = [float(x) for x in row]
        return full

    def residuals(self, weights: Sequence[float] | np.ndarray, order: int) -> float:
        """Largest violation of the order conditions up to ``order`` by quadrature weights (Hairer
        I, theorem II.2.13)."""
        w = np.zeros(len(self.c) + len(self.c_dense))
        w[: len(weights)] = [float(x) for x in weights]
        a = self.matrix()
        return max(
            abs(float(w @ tree.weights(a)) - 1 / tree.density) for tree in rooted_trees(order)
        )

    def dense_residuals(self, theta: float, order: int) -> float:
        """Largest violation at theta of the order conditions of the continuous extension (Hairer I,
        II.6.18)."""
        powers = theta ** np.arange(1, self.dense_weights.shape[1] + 1)
        w = self.dense_weights @ powers
        a = self.matrix()
        return max(
            abs(float(w @ tree.weights(a)) - theta**tree.order / tree.density)
            for tree in rooted_trees(order)
        )


@dataclass(frozen=True)
class Rosenbrock(_Continuous):
    """A Rosenbrock method in the form without matrix products (Hairer & Wanner II, IV.7.25).

    J = df/dy(t, y);
    (I/(gamma h) - J) u_i = f(t + c_i h, y + sum_j a_ij u_j) + sum_j (C_ij/h) u_j + h d_i df/dt;
    y1 = y + sum_i b_i u_i;  error = sum_i b_err_i u_i;
    y(t + theta h) = y + sum_i u_i sum_m dense[i][m] theta^(m+1).

    a, C: row i has its i - 1 entries left of the diagonal. d_i is the sum of row i of Gamma, d_1 =
    gamma.
    """

    name: str
    order: int
    reference: str
    gamma: float | Fraction
    c: tuple
    a: tuple
    C: tuple
    d: tuple
    b: tuple
    b_err: tuple
    embedded_order: int
    dense: tuple
    dense_order: int

    def __post_init__(self) -> None:
        s = len(self.b)
        if (
            not len(self.c)
            == len(self.a)
            == len(self.C)
            == len(self.d)
            == len(self.b_err)
            == len(self.dense)
            == s
        ):
            raise ValueError(
                f"tableau {self.name}: c, a, C, d, b, b_err and dense must have one entry for each"
                " stage"
            )
        gamma_matrix, alpha = self.original()
        for i in range(s):
            _check(
                self.name,
                f"c_{i + 1} = sum of row {i + 1} of alpha",
                float(alpha[i].sum()) - float(self.c[i]),
            )
            _check(
                self.name,
                f"d_{i + 1} = sum of row {i + 1} of Gamma",
                float(gamma_matrix[i].sum()) - float(self.d[i]),
            )
        _check(self.name, "sum of b = 1", float(self.weights(self.b).sum()) - 1)
        _check(self.name, "sum of b_err = 0", float(self.weights(self.b_err).sum()))
        self._check_dense_ends()

    @property
    def stages(self) -> int:
        return len(self.b)

    @staticmethod
    def _lower(rows: tuple) -> np.ndarray:
        full = np.zeros((len(rows), len(rows)))
        for i, row in enumerate(rows):
            full[i, : len(row)] = [float(x) for x in row]
        return full

    def original(self) -> tuple[np.ndarray, np.ndarray]:
        """Gamma and alpha of the untransformed method: Gamma^-1 = diag(1/gamma) - C and alpha = a
        Gamma."""
        gamma = np.linalg.inv(np.eye(self.stages) / float(self.gamma) - self._lower(self.C))
        return gamma, self._lower(self.a) @ gamma

    def weights(self, b: Iterable[float]) -> np.ndarray:
        """Weights of the untransformed stages k_i (u = Gamma k): b Gamma."""
        return np.array([float(x) for x in b]) @ self.original()[0]

    def residuals(self, b: Iterable[float], order: int) -> float:
        """Largest violation of the order conditions up to ``order`` (Hairer & Wanner II, theorem
        IV.7.3).

        A vertex with one son uses beta = alpha + Gamma, every other vertex alpha.
        """
        gamma, alpha = self.original()
        w = self.weights(b)
        return max(
            abs(float(w @ t.weights(alpha, single=alpha + gamma)) - 1 / t.density)
            for t in rooted_trees(order)
        )
