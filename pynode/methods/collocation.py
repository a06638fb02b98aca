"""Collocation methods of s stages: their numbers follow from their nodes. Hairer & Wanner II, IV.5,
IV.8."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Collocation:
    """Y_i = y + h sum_j a_ij f(t + c_j h, Y_j), stage order s; a: the integrals of the Lagrange
    polynomials to c_i.

    Subclasses give the nodes c and the order. The dense output is the collocation polynomial, of
    order s.
    """

    name: str
    stages: int
    reference: str

    @cached_property
    def c(self) -> np.ndarray:
        """(s,) nodes in [0, 1], increasing."""
        raise NotImplementedError

    @property
    def embedded_order(self) -> int:
        return self.stages

    @property
    def dense_order(self) -> int:
        return self.stages

    @cached_property
    def powers(self) -> np.ndarray:
        """(s, s): the map from the values at the c_i of a polynomial that is 0 at 0 to its
        coefficients of theta, ..., theta^s."""
        return np.linalg.inv(self.c[:, None] ** np.arange(1, self.stages + 1))

    @cached_property
    def a(self) -> np.ndarray:
        q = np.arange(1, self.stages + 1)
        return (self.c[:, None] ** q / q) @ np.linalg.inv(self.c[:, None] ** (q - 1))

    @cached_property
    def ending(self) -> np.ndarray:
        """(s,) weights of the z_i = Y_i - y in y1 - y: the collocation polynomial at the end of the
        step."""
        return np.ones(self.stages) @ self.powers

    @cached_property
    def eigen(self) -> tuple[list[Any], np.ndarray, np.ndarray]:
        """(mu, T, T^-1) with T^-1 a^-1 T block diagonal (IV.8.4). mu: the real eigenvalue if s is
        odd, then one of each complex pair. A pair has two columns of T, for the real and the
        imaginary part of its coordinate."""
        values, vectors = np.linalg.eig(np.linalg.inv(self.a))
        order = [i for i in np.argsort(np.abs(values.imag)) if values[i].imag > -1e-9]
        mu: list[complex] = []
        columns = []
        for i in order:
            v = vectors[:, i] / vectors[-1, i]
            if abs(values[i].imag) < 1e-9:
                mu.append(float(values[i].real))
                columns.append(v.real)
            else:
                mu.append(complex(values[i]))
                columns += [2 * v.real, -2 * v.imag]
        transform = np.stack(columns, axis=1)
        return mu, transform, np.linalg.inv(transform)

    @cached_property
    def gamma0(self) -> float:
        """Weight of f(t, y) in the error estimate: the inverse of the real eigenvalue, or of the
        modulus of the first pair."""
        return 1 / abs(self.eigen[0][0])

    @cached_property
    def e(self) -> np.ndarray:
        """(s,) weights of the z_i = Y_i - y in the error estimate (IV.8.19), from the quadrature of
        order s that gives f(t, y) the weight gamma0."""
        q = np.arange(1, self.stages + 1)
        moments = 1 / q - self.gamma0 * (q == 1)
        b_hat = np.linalg.solve((self.c[:, None] ** (q - 1)).T, moments)
        return (b_hat - self.a[-1]) @ np.linalg.inv(self.a)

    def extrapolation(self, ratio: float) -> np.ndarray:
        """(s, s): the map from the z_i of a step to those of the next step, ``ratio`` times as
        long, by the collocation polynomial."""
        theta = 1 + self.c * ratio
        values = theta[:, None] ** np.arange(1, self.stages + 1) @ self.powers
        return values - self.ending


class RadauIIA(Collocation):
    """c: the zeros of d^(s-1)/dx^(s-1) (x^(s-1) (x - 1)^s), so that y1 = Y_s: order 2 s - 1,
    L-stable. IV.5."""

    @property
    def order(self) -> int:
        return 2 * self.stages - 1

    @cached_property
    def c(self) -> np.ndarray:
        s = self.stages
        x = np.polynomial.Polynomial([0, 1])
        poly = (x ** (s - 1) * (x - 1) ** s).deriv(s - 1)
        nodes = np.sort(poly.roots().real)
        for _ in range(3):
            nodes = nodes - poly(nodes) / poly.deriv()(nodes)
        nodes[-1] = 1.0
        return nodes


class GaussLegendre(Collocation):
    """c: the zeros of the Legendre polynomial: order 2 s, symmetric, A-stable but not L-stable.
    IV.5. For fixed steps."""

    @property
    def order(self) -> int:
        return 2 * self.stages

    @cached_property
    def c(self) -> np.ndarray:
        return (np.polynomial.legendre.leggauss(self.stages)[0] + 1) / 2
