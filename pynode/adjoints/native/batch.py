"""The gradient of one segment of a batch whose rows were native solves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .adjoint import CHANGED, add_backward_counts, of_parameters
from .pullback import NativeGradient, functions
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

    rows: the result of the segment. functions: makes the native functions.
    """

    functions = staticmethod(functions)

    def __init__(
        self, field: RowField, rows: NativeRows, when: np.ndarray, who: np.ndarray
    ) -> None:
        self.field = field
        self.rows = rows
        self.when = when
        self.who = who
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]
        # Made now: later f may hold copies of its tensors.
        self.functions(rows.fields.bound, rows.solved[0])

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return (cotangent of the starts (m, n), cotangents of the inputs). grads: cotangents of
        the states, (q, n)."""
        return self._pulled(grads, ())

    def _pulled(self, grads, lead):
        """The same for many cotangents, (*lead, q, n): (*lead, m, n), and (*lead, ...)."""
        self.field.module_state.check()
        rows = self.rows
        if any(one.changed() for one in rows.solved[:1]):
            raise RuntimeError(CHANGED)
        places = self.places()
        cotangents = grads.detach().numpy()
        totals = [target.new_zeros((*lead, *target.shape)) for target in rows.fields.targets]
        starts = np.zeros((*lead, len(places), grads.shape[-1]), cotangents.dtype)
        for first in range(0, len(places), GROUP):
            members = range(first, min(first + GROUP, len(places)))
            own = [cotangents[..., places[i], :] for i in members]
            for i, gradient in zip(members, self.of_rows(members, places, own), strict=True):
                starts[..., i, :] = gradient.y0
                self._add(totals, int(rows.index[i]), gradient, len(lead))
        cotangents_of_targets = of_parameters(self.field, rows.fields.targets, totals, lead)
        inputs = self.field.leaves.align(cotangents_of_targets, self.inputs)
        return torch.from_numpy(starts), inputs

    def places(self) -> list[np.ndarray]:
        """For each row the numbers of its states among those asked for."""
        order = np.argsort(self.who, kind="stable")
        bounds = np.searchsorted(self.who[order], np.arange(len(self.rows.solved) + 1))
        return [order[bounds[i] : bounds[i + 1]] for i in range(len(self.rows.solved))]

    def of_rows(
        self, members: range, places: Sequence[np.ndarray], cotangents: Sequence[np.ndarray]
    ) -> list[NativeGradient]:
        """The gradients of some rows. cotangents: of the states of each, (q, n)."""
        rows = self.rows
        return pullback_rows(
            rows.fields.bound,
            [rows.solved[i] for i in members],
            [self.when[places[i]].tolist() for i in members],
            cotangents,
            inputs=rows.fields.addresses(rows.index[members.start : members.stop]),
        )

    def _add(self, totals, row, gradient, lead):
        """Add to totals what one row gives. A total belongs to a whole tensor of the field. lead:
        the number of axes before those of the tensors."""
        add_backward_counts(self.field.stats, gradient)
        before = (slice(None),) * lead
        place = (*before, row)
        only = (*before, 0)
        fields = self.rows.fields
        for total, part, own in zip(totals, gradient.targets, fields.by_row, strict=True):
            if own:
                total[place] += torch.from_numpy(part)[only]
            else:
                total += torch.from_numpy(part)
