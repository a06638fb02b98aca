"""The vector field of a batch at recorded points, each of which belongs to a row."""

from __future__ import annotations


class RowPoints:
    """f at points of the rows named by index, (m,), as adjoints/field_products.py asks for it.

    Points come in whole repetitions of these m: point i belongs to row index[i % m].
    """

    user_jac = mass = structure = parts = None

    def __init__(self, field, index):
        self.field, self.index, self.period = field, index, len(index)
        self.f, self.held, self.layout = field.f, field.held, field.layout
        self.leaves, self.stats, self.size = field.leaves, field.stats, field.size
        self.parameters, self.dtype, self.device = field.parameters, field.dtype, field.device

    def allows_copies(self, t, y) -> bool:
        """f takes any number of points in one call."""
        return True

    def many(self, t, y):
        """f at the points, t (k m,) and y (k m, n) -> (k m, n)."""
        return self.field.select(self.index.repeat(len(y) // self.period)).at(t, y)


class RowPart:
    """The rows in index, (m,), of a field. They are cut out anew for every use: the graph from the
    tensors in args to theirs serves one backward pass."""

    def __init__(self, field, index):
        self.field, self.index = field, index
        self.leaves, self.stats, self.size = field.leaves, field.stats, field.size
        self.f, self.held, self.layout = field.f, field.held, field.layout
        self.parameters, self.dtype, self.device = field.parameters, field.dtype, field.device

    def select(self, keep):
        return self.field.select(self.index[keep])
