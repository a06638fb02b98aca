"""The gradient of one segment of a batch whose rows were native solves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..short import CHANGED
from ..targets import of_parameters
from .adjoint import add_backward_counts
from .prepared import prepared
from .row_events import RowEvents
from .rows import pullback_rows

if TYPE_CHECKING:
    from ...backends.native.batch import NativeRows
    from ...core.batched_field import RowField


class NativeRowGradient:
    """The gradient of the outputs, the states at events and the last states of the rows in their
    starts and in the tensors of f.

    rows: the result of the segment. who: (q,) the row of each state: of the outputs of all rows,
    row after row, then of the events, then of the last states.
    """

    def __init__(self, field: RowField, rows: NativeRows, who: np.ndarray) -> None:
        self.field = field
        self.rows = rows
        self.who = who
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]
        # Made now: later f may hold copies of its tensors.
        longest = int(np.argmax(rows.solved.numbers["accepted"]))
        prepared(rows.fields.bound, rows.solved[longest])

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return (cotangent of the starts (m, n), cotangents of the inputs). grads: cotangents of
        the states, (q, n)."""
        field = self.field
        field.module_state.check()
        rows = self.rows
        if rows.solved[0].changed():
            raise RuntimeError(CHANGED)
        fields = rows.fields
        solved = rows.solved
        count = len(solved)
        cotangents = grads.detach().numpy()
        # First the outputs, row after row, then the events, then the ends.
        events = None
        hits = 0
        if rows.found is not None:
            hits = len(rows.found.row)
            events = RowEvents(rows.found, cotangents[len(cotangents) - count - hits : -count])
        after = solved.outputs.shape[1] - 1
        outputs = np.zeros((count, after, grads.shape[1]), cotangents.dtype)
        who = self.who[: len(self.who) - count - hits]
        firsts = np.searchsorted(who, np.arange(count))
        outputs[who, np.arange(len(who)) - firsts[who]] = cotangents[: len(who)]
        totals = [torch.zeros_like(target) for target in fields.targets]
        starts = np.empty((count, grads.shape[1]), cotangents.dtype)
        addresses = fields.addresses(rows.index)
        ends = cotangents[-count:]
        groups = pullback_rows(fields.bound, solved, outputs, ends, inputs=addresses, events=events)
        for group in groups:
            members = slice(group.first, group.first + len(group.starts))
            starts[members] = group.starts
            add_backward_counts(field.stats, group)
            self._add(totals, rows.index[members], group.targets)
        return torch.from_numpy(starts), self._of_inputs(totals)

    def _add(self, totals, index, targets):
        """Add to totals what some rows give. A total belongs to a whole tensor of the field."""
        for total, part, own in zip(totals, targets, self.rows.fields.by_row, strict=True):
            if own:
                total[torch.from_numpy(index)] += torch.from_numpy(part[:, 0])
            else:
                total += torch.from_numpy(np.asarray(part.sum(0)))  # 0-d parts give numbers

    def _of_inputs(self, totals):
        field = self.field
        cotangents = of_parameters(field, self.rows.fields.targets, totals)
        return field.leaves.align(cotangents, self.inputs)
