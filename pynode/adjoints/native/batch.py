"""The gradient of one segment of a batch whose rows were native solves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .adjoint import CHANGED, add_backward_counts, of_parameters
from .prepared import prepared
from .rows import pullback_rows

if TYPE_CHECKING:
    from ...backends.native.batch import NativeRows
    from ...core.batched_field import RowField

# Rows that go back side by side before their cotangents of shared tensors are added up. It bounds
# the memory, and the sum does not depend on the number of threads.
GROUP = 64


class NativeRowGradient:
    """The gradient of the states at times ``when`` of the rows ``who``, (q,) each, in the starts of
    the rows and in the tensors of f.

    rows: the result of the segment.
    """

    def __init__(
        self, field: RowField, rows: NativeRows, when: np.ndarray, who: np.ndarray
    ) -> None:
        self.field = field
        self.rows = rows
        self.when = when
        self.who = who
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]
        # Made now: later f may hold copies of its tensors.
        prepared(rows.fields.bound, rows.solved[0])

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return (cotangent of the starts (m, n), cotangents of the inputs). grads: cotangents of
        the states, (q, n)."""
        field = self.field
        field.module_state.check()
        rows = self.rows
        if any(one.changed() for one in rows.solved[:1]):
            raise RuntimeError(CHANGED)
        order = np.argsort(self.who, kind="stable")
        bounds = np.searchsorted(self.who[order], np.arange(len(rows.solved) + 1))
        cotangents = grads.detach().numpy()
        totals = [torch.zeros_like(target) for target in rows.fields.targets]
        starts = np.zeros((len(rows.solved), grads.shape[1]), cotangents.dtype)
        addresses = rows.fields.addresses(rows.index)
        for first in range(0, len(rows.solved), GROUP):
            members = range(first, min(first + GROUP, len(rows.solved)))
            places = [order[bounds[i] : bounds[i + 1]] for i in members]
            found = pullback_rows(
                rows.fields.bound,
                [rows.solved[i] for i in members],
                [self.when[place].tolist() for place in places],
                [cotangents[place] for place in places],
                inputs=addresses[first : members.stop],
            )
            for i, gradient in zip(members, found, strict=True):
                starts[i] = gradient.y0
                self._add(totals, int(rows.index[i]), gradient)
        return torch.from_numpy(starts), self._of_inputs(totals)

    def _add(self, totals, row, gradient):
        """Add to totals what one row gives. A total belongs to a whole tensor of the field."""
        add_backward_counts(self.field.stats, gradient)
        fields = self.rows.fields
        for total, part, own in zip(totals, gradient.targets, fields.by_row, strict=True):
            if own:
                total[row] += torch.from_numpy(part)[0]
            else:
                total += torch.from_numpy(part)

    def _of_inputs(self, totals):
        field = self.field
        cotangents = of_parameters(field, self.rows.fields.targets, totals)
        return field.leaves.align(cotangents, self.inputs)
