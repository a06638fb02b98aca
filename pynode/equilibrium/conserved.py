"""Conserved sums: linear combinations of the states that f leaves as they are.

L f(y) = 0 for every y, so L spans the left null space of the Jacobians at several points, or of the
stoichiometry. In echelon form each sum replaces one component in the
equations of the steady state (Vallabhajosyula, Chickarmane, Sauro, Bioinformatics 22 (2006) 346).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

# A direction is a sum if it changes by less than this part of the largest change.
RANK_TOLERANCE = 1e-12
# A coefficient this near to a whole number is the whole number.
WHOLE_TOLERANCE = 1e-9
# A sum whose coefficients are all below this follows from the others.
PIVOT_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Conserved:
    """The conserved sums of one system with n states.

    sums: (c, n) coefficients in echelon form. own: (c,) the component that each sum replaces; it
    has the coefficient one there, and the other sums have zero.
    """

    sums: np.ndarray
    own: np.ndarray

    @cached_property
    def free(self) -> np.ndarray:
        """(n - c,) the components that no sum replaces."""
        return np.setdiff1d(np.arange(self.sums.shape[1]), self.own)

    def reduced(self, jacobian: np.ndarray) -> np.ndarray:
        """The Jacobian of the free components, (n - c, n - c), where the sums give the others."""
        free = self.free
        if not len(self.own):
            return jacobian
        inner = jacobian[np.ix_(free, free)]
        return inner - jacobian[np.ix_(free, self.own)] @ self.sums[:, free]


def of_samples(samples: np.ndarray) -> Conserved:
    """The sums L with L @ samples = 0. samples: (n, m), columns of Jacobians and values of f at
    several points."""
    samples = np.asarray(samples, dtype=np.float64)
    samples = samples[:, np.isfinite(samples).all(axis=0)]
    n = len(samples)
    if samples.shape[1] == 0:
        return none(n)
    columns = _positive(np.abs(samples).max(axis=0))
    rows = _positive((np.abs(samples) / columns).max(axis=1))
    left, values, _ = np.linalg.svd(samples / columns / rows[:, None])
    values = np.concatenate((values, np.zeros(n - len(values))))
    still = values <= RANK_TOLERANCE * max(values.max(), np.finfo(float).tiny)
    return echelon(left[:, still].T / rows)


def of_sums(sums: np.ndarray) -> Conserved:
    """The same sums in echelon form. sums: (c, n). Raise ValueError if one follows from others."""
    sums = np.asarray(sums, dtype=np.float64)
    return _of_sums(sums.tobytes(), sums.shape)


# An estimation asks for the steady states of the same model thousands of times.
@lru_cache(maxsize=64)
def _of_sums(numbers: bytes, shape: tuple[int, int]) -> Conserved:
    """The same for the bytes of float64 numbers."""
    sums = np.frombuffer(numbers).reshape(shape)
    found = echelon(sums)
    if len(found.own) < len(sums):
        raise ValueError("conserved has sums that follow from the others: leave them out")
    return found


def none(n: int) -> Conserved:
    """No sum at all."""
    return Conserved(np.zeros((0, n)), np.zeros(0, dtype=np.int64))


def echelon(sums: np.ndarray) -> Conserved:
    """Gauss-Jordan elimination with the largest coefficient as pivot. sums: (c, n)."""
    work = np.array(sums, dtype=np.float64)
    work = work / _positive(np.abs(work).max(axis=1, initial=0.0))[:, None]
    own = []
    for row in range(len(work)):
        rest = np.abs(work[row:])
        place, column = np.unravel_index(rest.argmax(), rest.shape)
        if rest[place, column] < PIVOT_TOLERANCE:
            work = work[:row]
            break
        work[[row, row + place]] = work[[row + place, row]]
        work[row] /= work[row, column]
        others = np.arange(len(work)) != row
        work[others] -= np.outer(work[others, column], work[row])
        own.append(column)
    whole = np.round(work)
    close = np.abs(work - whole) <= WHOLE_TOLERANCE
    return Conserved(np.where(close, whole, work), np.array(own, dtype=np.int64))


def _positive(sizes: np.ndarray) -> np.ndarray:
    return np.where(sizes > 0, sizes, 1.0)
