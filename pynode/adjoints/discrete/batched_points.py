"""The vector field of a batch at recorded points. Each point belongs to a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from ...core.batched_field import RowField


class RowPoints:
    """f at points of the rows in index, (m,), with the interface that adjoints/field_products.py
    needs.

    Points come in whole repetitions of these m: point i belongs to row index[i % m].
    """

    user_jac = mass = structure = parts = None

    def __init__(self, field: RowField | RowPart, index: Tensor) -> None:
        self.field = field
        self.index = index
        self.rows_per_point = len(index)
        self.f = field.f
        self.module_state = field.module_state
        self.layout = field.layout
        self.leaves = field.leaves
        self.stats = field.stats
        self.size = field.size
        self.parameters = field.parameters
        self.dtype = field.dtype
        self.device = field.device

    def allows_batch_eval(self, t: Tensor, y: Tensor) -> bool:
        """True: f takes any number of points in one call."""
        return True

    def batch_eval(self, t: Tensor, y: Tensor) -> Tensor:
        """f at the points, t (k m,) and y (k m, n) -> (k m, n)."""
        return self.field.select(self.index.repeat(len(y) // self.rows_per_point)).eval(t, y)


class RowPart:
    """The rows in index, (m,), of a field. Every use selects them anew, because the graph from the
    tensors in args to their rows serves one backward pass."""

    def __init__(self, field: RowField, index: Tensor) -> None:
        self.field = field
        self.index = index
        self.leaves = field.leaves
        self.stats = field.stats
        self.size = field.size
        self.f = field.f
        self.module_state = field.module_state
        self.layout = field.layout
        self.parameters = field.parameters
        self.dtype = field.dtype
        self.device = field.device

    def select(self, keep: Tensor) -> RowField:
        """The field of some of these rows."""
        return self.field.select(self.index[keep])
