"""Forward sensitivities of one segment of a batch whose rows were native solves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ....backends.native.rows import each
from ...forward import NATIVE_COLUMNS, check_columns
from ...short import CHANGED
from ...targets import of_parameters
from ..adjoint import add_backward_counts
from .adjoint import kept
from .sensitivities import NativeSensitivities, prepare, sensitivities, split_products

if TYPE_CHECKING:
    from ....backends.native.batch import NativeRows
    from ....core.batched_field import RowField


class NativeRowSensitivities:
    """The gradient of NativeRowGradient by the derivatives of the states of each row, which the
    first call makes and later ones use again. They take D numbers for each number of a state, where
    D is the number of states and parameters of a row.

    rows: the result of the segment. when, who: (q,) the times and rows of the states.
    """

    def __init__(
        self, field: RowField, rows: NativeRows, when: np.ndarray, who: np.ndarray
    ) -> None:
        self.field = field
        self.rows = rows
        self.when = when
        # For each row the numbers of its states.
        order = np.argsort(who, kind="stable")
        bounds = np.searchsorted(who[order], np.arange(len(rows.solved) + 1))
        self.places = [order[bounds[i] : bounds[i + 1]] for i in range(len(rows.solved))]
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]
        bound = rows.fields.bound
        self._shapes = [tuple(bound.targets[i].shape) for i in bound.differentiable]
        self._kept = kept(field, [rows.fields.targets[i] for i in bound.differentiable])
        sizes = [math.prod(shape) for shape in self._shapes]
        columns = bound.n + sum(s for s, wanted in zip(sizes, self._kept) if wanted)
        check_columns(columns, NATIVE_COLUMNS)
        # Made now: later f may hold copies of its tensors.
        prepare(bound, rows.solved[0])
        self._made: list[NativeSensitivities] | None = None

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return (cotangent of the starts (m, n), cotangents of the inputs). grads: cotangents of
        the states, (q, n)."""
        return self._pulled(grads, ())

    def pullback_many(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """The ``pullback`` of many cotangents, (R, q, n): (R, m, n), and (R, ...) for each
        input."""
        return self._pulled(grads, (len(grads),))

    def _pulled(self, grads, lead):
        """The same for cotangents (*lead, q, n): (*lead, m, n), and (*lead, ...)."""
        self.field.module_state.check()
        rows = self.rows
        if rows.solved[0].changed():
            raise RuntimeError(CHANGED)
        if self._made is None:
            self._made = self._sensitivities()
        cotangents = grads.detach().numpy()
        n = rows.fields.bound.n
        totals = [target.new_zeros((*lead, *target.shape)) for target in rows.fields.targets]
        starts = np.zeros((*lead, len(self.places), n), cotangents.dtype)
        for i, (place, made) in enumerate(zip(self.places, self._made, strict=True)):
            pulled = np.tensordot(cotangents[..., place, :], made.matrix, 2)
            gradient = split_products(pulled, n, self._shapes, self._kept)
            starts[..., i, :] = gradient.y0
            self._add(totals, int(rows.index[i]), gradient.targets, len(lead))
        of_targets = of_parameters(self.field, rows.fields.targets, totals, lead)
        return torch.from_numpy(starts), self.field.leaves.align(of_targets, self.inputs)

    def _add(self, totals, row, targets, lead):
        """Add to totals what one row gives. A total belongs to a whole tensor of the field, and has
        ``lead`` axes before its own."""
        before = (slice(None),) * lead
        place = (*before, row)
        only = (*before, 0)
        for total, part, own in zip(totals, targets, self.rows.fields.by_row, strict=True):
            if own:
                total[place] += torch.from_numpy(part)[only]
            else:
                total += torch.from_numpy(part)

    def _sensitivities(self):
        """The sensitivities of each row, side by side."""
        rows = self.rows
        addresses = rows.fields.addresses(rows.index)
        found = rows.found

        def task(i: int) -> NativeSensitivities:
            solved = rows.solved[i]
            if found is not None and found.cut[i]:
                solved.end_state = found.end_states[i]
            times = self.when[self.places[i]].tolist()
            return sensitivities(rows.fields.bound, solved, times, self._kept, inputs=addresses[i])

        made = each(task, len(rows.solved), None)
        for one in made:
            add_backward_counts(self.field.stats, one)
        return made
