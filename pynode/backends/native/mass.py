"""The constant mass matrix of M y' = f in compiled code (algebra/mass.py has its rules).

M is constant, so its entries are constants of the solve: a Memory has them as ``mass_arrays`` makes
them, by rows, after them those of M^+, and after them those of the projection P onto the algebraic
equations, which is symmetric. A solve without a mass matrix has arrays without numbers.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .arithmetic import add, clear
from .blocks import Own

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ...algebra.mass import Mass

# The operators, in the order of their rows.
MASS = 0
INVERSE = 1
PROJECTOR = 2


class NativeMass:
    """The entries of a Mass, by rows.

    given: the Mass. starts: (3 n + 1,) int64, where each row of the operators begins among the
    entries. columns, values: of the entries. The rows of M have their diagonal entries, also where
    these are zero. diagonal: whether M has no others.
    """

    def __init__(self, given: Mass) -> None:
        self.given = given
        self.singular = given.singular
        matrix = given.to_dense().numpy()
        eye = torch.eye(len(matrix), dtype=given.given.dtype)
        operators = [matrix, given.pinv_apply_columns(eye).numpy(), np.zeros_like(matrix)]
        if given.projector is not None:
            operators[PROJECTOR] = given.projector.numpy()
        wanted = [operator != 0 for operator in operators]
        self.diagonal = not (wanted[MASS] & ~np.eye(len(matrix), dtype=bool)).any()
        np.fill_diagonal(wanted[MASS], True)
        counts = np.concatenate([entries.sum(1) for entries in wanted])
        self.starts = np.concatenate(([0], np.cumsum(counts)))
        self.columns = np.concatenate([np.nonzero(entries)[1] for entries in wanted])
        self.values = np.concatenate([x[w] for x, w in zip(operators, wanted, strict=True)])

    @classmethod
    def of(cls, given: Mass | None) -> NativeMass | None:
        """The NativeMass of a Mass, which keeps it; None for None."""
        if given is None:
            return None
        kept = given.__dict__.get("_native")
        if kept is None:
            kept = cls(given)
            given.__dict__["_native"] = kept
        return kept

    @cached_property
    def key(self) -> Hashable:
        """Equal for equal matrices of one dtype."""
        given = self.given.given
        return tuple(given.shape), given.numpy().tobytes()

    @cached_property
    def without_derivative(self) -> frozenset[int]:
        """The components whose diagonal entry is zero."""
        matrix = self.given.to_dense()
        return frozenset(torch.nonzero(matrix.diagonal() == 0).flatten().tolist())


def mass_arrays(mass: NativeMass | None, n: int, real: Any) -> dict[str, Any]:
    """The arrays of a Blueprint for a mass matrix over n components; None for the identity.

    mass_product: (n,), where products are written. lift: (1,), by how much the matrix of a step
    multiplies the algebraic equations; without a number if there are none.
    """
    if mass is None:
        return {
            "mass_starts": np.empty(0, np.int64),
            "mass_columns": np.empty(0, np.int64),
            "mass_values": np.empty(0, real),
            "mass_product": Own((0,), real),
            "lift": Own((0,), real),
        }
    return {
        "mass_starts": mass.starts.astype(np.int64),
        "mass_columns": mass.columns.astype(np.int64),
        "mass_values": mass.values.astype(real),
        "mass_product": Own((n,), real),
        "lift": Own((int(mass.singular),), real),
    }


def has_mass(memory: Any) -> bool:
    """Whether there is a mass matrix."""
    return len(memory.mass_starts) > 0


def is_singular(memory: Any) -> bool:
    """Whether there are algebraic equations."""
    return len(memory.lift) > 0


def add_product(memory: Any, operator: int, weight: float, v: Any, target: Any) -> None:
    """target += weight A v, (n,). operator: which A. target is not v."""
    starts = memory.mass_starts
    n = len(v)
    for i in range(n):
        at = operator * n + i
        total = 0.0
        for e in range(starts[at], starts[at + 1]):
            total += memory.mass_values[e] * v[memory.mass_columns[e]]
        target[i] += weight * total


def write_product(memory: Any, operator: int, v: Any) -> None:
    """memory.mass_product = A v, (n,)."""
    clear(memory.mass_product)
    add_product(memory, operator, 1.0, v, memory.mass_product)


def write_transposed(memory: Any, operator: int, v: Any) -> None:
    """memory.mass_product = A^T v, (n,)."""
    starts = memory.mass_starts
    product = memory.mass_product
    n = len(v)
    clear(product)
    for i in range(n):
        at = operator * n + i
        for e in range(starts[at], starts[at + 1]):
            product[memory.mass_columns[e]] += memory.mass_values[e] * v[i]


def choose_lift(memory: Any, c: float) -> None:
    """memory.lift for the matrix M - c J.

    The rows of the algebraic equations are c P J. They vanish with c, so in short steps the
    rounding errors of the other rows would exceed them. The matrix of a step is therefore
    (I + (lift - 1) P) (M - c J), in which they have the size of M (algebra/linear.py).
    """
    starts = memory.mass_starts
    n = len(memory.mass_product)
    size = 0.0
    for e in range(starts[n]):
        size += memory.mass_values[e] * memory.mass_values[e]
    algebraic = 0.0
    for k in range(len(memory.rows)):
        i = memory.rows[k]
        at = PROJECTOR * n + i
        for e in range(starts[at], starts[at + 1]):
            if memory.mass_columns[e] == i:
                algebraic += memory.mass_values[e] * memory.jac[k] * memory.jac[k]
    lift = 1.0
    if 0.0 < c * c * algebraic < size:
        lift = math.sqrt(size / algebraic) / abs(c)
    memory.lift[0] = lift


def write_matrix(memory: Any, matrix: Any, c: float) -> None:
    """matrix = (I + (lift - 1) P) (M - c J), (n, n), for the Jacobian in memory.jac. P and lift are
    only there if M is singular."""
    starts = memory.mass_starts
    n = len(matrix)
    for i in range(n):
        for j in range(n):
            matrix[i, j] = 0.0
    for k in range(len(memory.rows)):
        matrix[memory.rows[k], memory.columns[k]] -= c * memory.jac[k]
    for i in range(n):
        for e in range(starts[i], starts[i + 1]):
            matrix[i, memory.mass_columns[e]] += memory.mass_values[e]
    if not is_singular(memory):
        return
    choose_lift(memory, c)
    for k in range(len(memory.rows)):
        more = c * (memory.lift[0] - 1.0) * memory.jac[k]
        at = PROJECTOR * n + memory.rows[k]
        for e in range(starts[at], starts[at + 1]):
            matrix[memory.mass_columns[e], memory.columns[k]] -= memory.mass_values[e] * more


def lift_rows(memory: Any, b: Any) -> None:
    """b = (I + (lift - 1) P) b, (n,)."""
    write_product(memory, PROJECTOR, b)
    add(b, memory.lift[0] - 1.0, memory.mass_product)
