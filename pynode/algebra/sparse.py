"""M - c J as a sparse matrix with SciPy's SuperLU, on the CPU. Demmel et al., SIAM J. Matrix Anal.
Appl. 20 (1999)."""

from __future__ import annotations

import numpy as np
import torch

from .compressed import Plan


def scipy():
    """scipy.sparse and scipy.linalg, imported when first needed; ImportError with the remedy where
    SciPy is missing."""
    try:
        import scipy.linalg
        import scipy.sparse.linalg
    except ImportError as error:
        raise ImportError(
            "sparse and banded Jacobians need SciPy: pip install 'torch-stiff-ode[scipy]', or use"
            " jacobian='krylov'"
        ) from error
    return scipy


def mass_entries(mass, n):
    """(rows, cols, values) of M as arrays, of the identity for None."""
    diagonal = np.arange(n)
    if mass is None:
        return diagonal, diagonal, np.ones(n)
    if mass.diagonal is not None:
        return diagonal, diagonal, mass.diagonal.cpu().numpy()
    rows, cols = mass.matrix.nonzero().T.cpu().numpy()
    return rows, cols, mass.matrix.cpu().numpy()[rows, cols]


class SparsePlan(Plan):
    """The columns of M - c J in compressed form, with the places of the entries of M and J in it.

    Where the pattern is nearly symmetric the matrix is stored in the order of minimum degree of A +
    A^T, found once, and pivots stay on the diagonal where they can (thrice as fast as SuperLU's
    default on a grid of two dimensions); otherwise SuperLU orders its columns at every
    factorisation.
    """

    def __init__(self, pattern, field):
        super().__init__(pattern, field)
        n = pattern.size
        rows, cols, values = mass_entries(field.mass, n)
        if field.dtype == torch.float32:
            self.numbers = np.float32
        else:
            self.numbers = np.float64
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
        """(order, position): order[k] is the unknown eliminated k-th. Taken from a factorisation
        with a strong diagonal."""
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

    def factorised(self, values, c):
        data = self.constant.copy()
        data[self.places] -= c * values
        return SuperLU(self, data)


class SuperLU:
    """W = M - c J factorised; ok is False where it is singular or not finite."""

    def __init__(self, plan, data):
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
        except RuntimeError:  # SuperLU's word for an exactly singular matrix
            self.ok = False

    def solve(self, b, factor=1.0):
        """factor W^-1 b, (n,)."""
        return self._solve(b, "N", factor)

    def solve_transposed(self, b):
        """W^-T b, (n,)."""
        return self._solve(b, "T", 1.0)

    def _solve(self, b, trans, factor):
        right = b.detach().cpu().numpy().astype(self.numbers, copy=False)
        if self.order is None:
            right = right * factor
        else:
            right = right[self.order] * factor
        found = self.lu.solve(right, trans)
        if self.order is not None:
            placed = np.empty_like(found)
            placed[self.order] = found
            found = placed
        return torch.from_numpy(found).to(b)
