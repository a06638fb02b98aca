"""M - c J as a sparse matrix with SciPy's SuperLU, on the CPU.

Demmel et al., SIAM J. Matrix Anal. Appl. 20 (1999).
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .compressed import Plan

if TYPE_CHECKING:
    from ..core.vector_field import VectorField
    from .mass import Mass
    from .pattern import Pattern


def scipy() -> ModuleType:
    """Import scipy.sparse and scipy.linalg on first use. Raise ImportError with the remedy if SciPy
    is missing."""
    try:
        import scipy.linalg
        import scipy.sparse.linalg
    except ImportError as error:
        raise ImportError(
            "sparse and banded Jacobians need SciPy: pip install 'torch-stiff-ode[scipy]', or use"
            " jacobian='krylov'"
        ) from error
    return scipy


def mass_entries(mass: Mass | None, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (rows, cols, values) of M as arrays; of the identity for None."""
    diagonal = np.arange(n)
    if mass is None:
        return diagonal, diagonal, np.ones(n)
    if mass.diagonal is not None:
        return diagonal, diagonal, mass.diagonal.cpu().numpy()
    matrix = mass.to_dense()
    rows, cols = matrix.nonzero().T.cpu().numpy()
    return rows, cols, matrix.cpu().numpy()[rows, cols]


class SparsePlan(Plan):
    """The columns of M - c J in compressed form, and the positions of the entries of M and J in it.

    For a nearly symmetric pattern the plan stores the matrix in the minimum-degree order of A +
    A^T. It finds this order once, and pivots stay on the diagonal if possible. On a two-dimensional
    grid this is three times as fast as SuperLU's default. For other patterns SuperLU orders the
    columns in every factorisation.
    """

    def __init__(self, pattern: Pattern, field: VectorField) -> None:
        super().__init__(pattern, field)
        n = pattern.size
        rows, cols, values = mass_entries(field.mass, n)
        self.numbers: Any = np.float32 if field.dtype == torch.float32 else np.float64
        self.order = None
        keys = np.union1d(pattern.cols * n + pattern.rows, cols * n + rows)
        mirrored = np.isin(keys % n * n + keys // n, keys, assume_unique=True).mean()
        if mirrored > 0.8 and n > 1:
            self.order, position = self._minimum_degree(keys, n)
        else:
            position = np.arange(n)
        keys = np.sort(position[keys // n] * n + position[keys % n])
        self.indices = (keys % n).astype(np.intc)
        self.starts = np.searchsorted(keys, np.arange(n + 1) * n).astype(np.intc)
        self.places = np.searchsorted(keys, position[pattern.cols] * n + position[pattern.rows])
        self.constant = np.zeros(len(keys), dtype=self.numbers)
        self.constant[np.searchsorted(keys, position[cols] * n + position[rows])] = values

    @staticmethod
    def _minimum_degree(keys, n):
        """Return (order, position). order[k] is the k-th unknown to eliminate. A factorisation with
        a strong diagonal gives the order."""
        sparse = scipy().sparse
        values = np.where(
            keys % n == keys // n, 1.0 + np.bincount(keys // n, minlength=n).max(), 0.5
        )
        full = sparse.csc_matrix((values, (keys % n, keys // n)), shape=(n, n)) + sparse.identity(
            n, format="csc"
        )
        position = sparse.linalg.splu(
            full, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
        ).perm_c
        return np.argsort(position), position.astype(np.int64)

    def factorised(self, values: np.ndarray, c: float) -> SuperLU:
        """Factorise M - c J. values: the entries of J, in the order of the pattern."""
        data = self.constant.copy()
        data[self.places] -= c * values
        return SuperLU(self, data)


class SuperLU:
    """The factorised matrix W = M - c J. ok is False if W is singular or not finite."""

    def __init__(self, plan: SparsePlan, data: np.ndarray) -> None:
        sparse = scipy().sparse
        n = plan.pattern.size
        self.order = plan.order
        self.numbers = plan.numbers
        self.ok = bool(np.isfinite(data).all())
        if not self.ok:
            return
        matrix = sparse.csc_matrix((data, plan.indices, plan.starts), shape=(n, n))
        try:
            if plan.order is None:
                self.lu = sparse.linalg.splu(matrix)
            else:
                self.lu = sparse.linalg.splu(
                    matrix,
                    permc_spec="NATURAL",
                    diag_pivot_thresh=0.01,
                    options={"SymmetricMode": True},
                )
        except RuntimeError:  # SuperLU raises it for an exactly singular matrix
            self.ok = False

    def solve(self, b: Tensor, factor: float = 1.0) -> Tensor:
        """factor W^-1 b, (n,)."""
        return self._solve(b, "N", factor)

    def solve_transposed(self, b: Tensor) -> Tensor:
        """W^-T b, (n,)."""
        return self._solve(b, "T", 1.0)

    def _solve(self, b, trans, factor):
        rhs = b.detach().cpu().numpy().astype(self.numbers, copy=False)
        if self.order is None:
            rhs = rhs * factor
        else:
            rhs = rhs[self.order] * factor
        x = self.lu.solve(rhs, trans)
        if self.order is not None:
            restored = np.empty_like(x)
            restored[self.order] = x
            x = restored
        return torch.from_numpy(x).to(b)
