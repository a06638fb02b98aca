"""The Jacobian of a torch field in the places where Julia's matrix has its entries."""

from __future__ import annotations

import numpy as np
import torch

from ...algebra.jacobian import Jacobian
from ...algebra.pattern import Pattern


class _Dense:
    """df/dy, column by column."""

    pattern = None

    def __init__(self, field):
        self.jacobian = Jacobian(field)
        self.size = field.size * field.size

    def __call__(self, t, y):
        return self.jacobian(t, y).t().reshape(-1)


class _Compressed:
    """The entries of a sparse df/dy in compressed columns, the diagonal always among them. pattern:
    (colptr, rowval)."""

    def __init__(self, field, t, y):
        self.jacobian = field.structure.linearise(field)
        found = field.structure.plan(field, t, y).pattern
        whole = found.union(Pattern(range(field.size), range(field.size), field.size))
        self.entries = len(found.rows)
        self.places = np.searchsorted(
            whole.cols * whole.size + whole.rows, found.cols * found.size + found.rows
        )
        starts = np.searchsorted(whole.cols, np.arange(field.size + 1))
        self.pattern = torch.from_numpy(starts + 1), torch.from_numpy(whole.rows + 1)
        self.size = len(whole.rows)

    def __call__(self, t, y):
        plan, values = self.jacobian(t, y)
        if len(plan.pattern.rows) != self.entries:
            raise ValueError(
                "the Jacobian has gained entries since the start of the solve, and SciML's matrix"
                " cannot grow: pass the whole pattern, pynode.Sparse(pattern)"
            )
        whole = np.zeros(self.size, dtype=values.dtype)
        whole[self.places] = values
        return torch.from_numpy(whole)


def matrix_of(field, t, y):
    """What makes the Jacobian; None for a matrix-free field."""
    if field.structure is None:
        return _Dense(field)
    if field.structure.name == "krylov":
        return None
    return _Compressed(field, t, y)
