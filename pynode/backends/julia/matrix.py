"""The Jacobian of a torch field, with its entries in the order of Julia's matrix."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch

from ...algebra.jacobian import Jacobian
from ...algebra.pattern import Pattern
from ...algebra.structure import Banded, Sparse
from ...core.vector_field import VectorField


class DenseMatrix:
    """All entries of df/dy, column by column. size: their number, n * n."""

    pattern = None

    def __init__(self, field: VectorField):
        self.jacobian = Jacobian(field)
        self.size = field.size * field.size

    def __call__(self, t: float, y: torch.Tensor) -> torch.Tensor:
        return self.jacobian(t, y).t().reshape(-1)


class SparseMatrix:
    """The entries of a sparse df/dy in compressed columns, together with the whole diagonal.

    pattern: (colptr, rowval), one-based. size: the number of entries.
    """

    def __init__(self, field: VectorField, structure: Sparse | Banded, t: float, y: torch.Tensor):
        self.jacobian = structure.linearise(field)
        own = structure.plan(field, t, y).pattern
        whole = own.union(Pattern(range(field.size), range(field.size), field.size))
        self.entries = len(own.rows)
        self.places = np.searchsorted(
            whole.cols * whole.size + whole.rows, own.cols * own.size + own.rows
        )
        starts = np.searchsorted(whole.cols, np.arange(field.size + 1))
        self.pattern = torch.from_numpy(starts + 1), torch.from_numpy(whole.rows + 1)
        self.size = len(whole.rows)

    def __call__(self, t: float, y: torch.Tensor) -> torch.Tensor:
        plan, values = self.jacobian(t, y)
        if len(plan.pattern.rows) != self.entries:
            raise ValueError(
                "the Jacobian has more entries than at the start of the solve, and SciML's matrix"
                " cannot grow: pass the whole pattern, pynode.Sparse(pattern)"
            )
        whole = np.zeros(self.size, dtype=values.dtype)
        whole[self.places] = values
        return torch.from_numpy(whole)


Matrix: TypeAlias = DenseMatrix | SparseMatrix


def matrix_of(field: VectorField, t: float, y: torch.Tensor) -> Matrix | None:
    """The matrix for the structure of a field, called as matrix(t, y); None for a matrix-free
    field. The pattern of a sparse one is that at (t, y), y (n,)."""
    if field.structure is None:
        return DenseMatrix(field)
    if field.structure.name == "krylov":
        return None
    return SparseMatrix(field, field.structure, t, y)
