"""Eigenvalues of the Jacobian along the reference solve: all of them for small systems, the extreme
ones by Arnoldi's method for large ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..algebra.arnoldi import arnoldi
from ..algebra.jacobian import Jacobian
from ..algebra.products import Products
from ..core.status import RejectStep
from ..core.vector_field import VectorField
from .reference_solve import ReferenceSolve

POINTS = 40
DENSE_UP_TO = 300
VECTORS = 40  # of Arnoldi's method; each takes one product of the Jacobian
# A mode counts as an oscillation if |Im| / |Re| is larger than this.
NEAR_IMAGINARY = 2.0
CONVERGED = 1e-2  # residual of a Ritz value, relative to the largest


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues at m times.

    times: (m,) floats.
    values: an array (k,) of complex eigenvalues for each time, in units of 1 / t.
    noise: (m,) what rounding leaves of an eigenvalue zero.
    complete: whether all n eigenvalues are known, and not only the extreme ones.
    """

    times: list[float]
    values: list[np.ndarray]
    noise: list[float]
    complete: bool

    def largest(self) -> np.ndarray:
        """(m,) the spectral radius."""
        return self._each(lambda v, _: np.abs(v).max(initial=0.0))

    def decay(self) -> np.ndarray:
        """(m,) the fastest decay, max(-Re), at least 0."""
        return self._each(lambda v, _: (-v.real).max(initial=0.0))

    def slowest(self) -> np.ndarray:
        """(m,) the slowest decay that is not rounding. NaN if there is none, or if not all
        eigenvalues are known."""
        if not self.complete:
            return np.full(len(self.times), math.nan)
        return self._each(
            lambda v, noise: np.min(-v.real, where=-v.real > noise, initial=math.inf)
        ).clip(max=1e300)

    def growth(self) -> np.ndarray:
        """(m,) the fastest growth, max(Re), at least 0."""
        return self._each(lambda v, noise: (v.real * (v.real > noise)).max(initial=0.0))

    def frequency(self) -> np.ndarray:
        """(m,) the largest |Im| of eigenvalues near the imaginary axis, in radians per unit of
        t."""
        return self._each(
            lambda v, noise: np.abs(v.imag[_near(v) & (np.abs(v.imag) > noise)]).max(initial=0.0)
        )

    def ratio(self) -> float:
        """The stiffness ratio, fastest over slowest decay, the largest over all times. NaN if it is
        unknown."""
        slow = self.slowest()
        fast = self.decay()
        known = np.isfinite(slow) & (slow < 1e300) & (fast > 0)
        if known.any():
            return float((fast[known] / slow[known]).max())
        return math.nan

    def integral(self, rates: np.ndarray) -> float:
        """The integral over the reference solve of rates (m,), by the trapezoidal rule."""
        t = np.asarray(self.times)
        if len(t) > 1:
            return float(np.sum(np.abs(np.diff(t)) * (rates[1:] + rates[:-1]) / 2))
        return 0.0

    def _each(self, f):
        return np.array([float(f(v, noise)) for v, noise in zip(self.values, self.noise)])


def _near(v):
    return np.abs(v.imag) > NEAR_IMAGINARY * np.abs(v.real)


def spectrum(field: VectorField, reference: ReferenceSolve, points: int = POINTS) -> Spectrum:
    """The Spectrum at ``points`` accepted steps. They are evenly spaced by number, and therefore
    dense where the solution moves fast."""
    count = len(reference.times)
    points = min(points, count)
    chosen = [round(i * (count - 1) / max(points - 1, 1)) for i in range(points)]
    complete = field.size <= DENSE_UP_TO
    if complete:
        jacobian = Jacobian(field)
    else:
        jacobian = None
    times = []
    values = []
    noise = []
    for k in chosen:
        t = reference.times[k]
        y = reference.states[k]
        try:
            if complete:
                eigenvalues, size = _all(jacobian, t, y)
            else:
                eigenvalues, size = _extreme(field, t, y)
        except RejectStep:
            continue
        if eigenvalues is not None:
            times.append(t)
            values.append(eigenvalues)
            noise.append(10 * torch.finfo(field.dtype).eps * size)
    return Spectrum(times, values, noise, complete)


def _all(jacobian, t, y):
    """(all eigenvalues, size of the matrix); (None, 0) if the Jacobian is not finite."""
    matrix = jacobian(t, y).detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(matrix).all()):
        return None, 0.0
    return torch.linalg.eigvals(matrix).numpy(), float(torch.linalg.matrix_norm(matrix))


def _extreme(field, t, y):
    """(the converged Ritz values, the spectral radius); (None, 0) if a product is not finite. Saad,
    Numerical Methods for Large Eigenvalue Problems (2011), sec. 6.2."""
    products = Products(field, t, y)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(field.size, generator=generator, dtype=torch.float64).to(y)
    hessenberg = arnoldi(lambda v: products.jvps(v.unsqueeze(0))[0], start, VECTORS)
    if not np.isfinite(hessenberg).all():
        return None, 0.0
    values, vectors = np.linalg.eig(hessenberg[:-1])
    residual = hessenberg[-1, -1] * np.abs(vectors[-1])
    radius = np.abs(values).max(initial=0.0)
    good = (residual <= CONVERGED * radius) | (np.abs(values) == radius)
    return values[good], radius
