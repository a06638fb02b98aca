"""Forward sensitivities of one segment of a batch whose rows were native solves."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ....backends.native.rows import each
from ...forward import NATIVE_COLUMNS, check_columns
from ..adjoint import add_backward_counts
from ..batch import NativeRowGradient
from ..pullback import NativeGradient
from .adjoint import kept
from .sensitivities import NativeSensitivities, functions, sensitivities, split_products

if TYPE_CHECKING:
    from ....backends.native.batch import NativeRows
    from ....core.batched_field import RowField


class NativeRowSensitivities(NativeRowGradient):
    """The same gradient by the derivatives of the states of each row, which the first call makes
    and later ones use again. They take D numbers for each number of a state, where D is the number
    of states and parameters of a row."""

    functions = staticmethod(functions)

    def __init__(
        self, field: RowField, rows: NativeRows, when: np.ndarray, who: np.ndarray
    ) -> None:
        super().__init__(field, rows, when, who)
        bound = rows.fields.bound
        self._shapes = [tuple(bound.targets[i].shape) for i in bound.differentiable]
        self._kept = kept(field, [rows.fields.targets[i] for i in bound.differentiable])
        sizes = [math.prod(shape) for shape in self._shapes]
        columns = bound.n + sum(s for s, wanted in zip(sizes, self._kept) if wanted)
        check_columns(columns, NATIVE_COLUMNS)
        self._made: list[NativeSensitivities] | None = None

    def pullback_many(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """The ``pullback`` of many cotangents, (R, q, n): (R, m, n), and (R, ...) for each
        input."""
        return self._pulled(grads, (len(grads),))

    def of_rows(
        self, members: range, places: Sequence[np.ndarray], cotangents: Sequence[np.ndarray]
    ) -> list[NativeGradient]:
        made = self._made
        if made is None:
            made = self._made = self._sensitivities(places)
        n = self.rows.fields.bound.n
        return [
            split_products(np.tensordot(own, made[i].matrix, 2), n, self._shapes, self._kept)
            for i, own in zip(members, cotangents, strict=True)
        ]

    def _sensitivities(self, places):
        """Those of each row, side by side."""
        rows = self.rows
        addresses = rows.fields.addresses(rows.index)

        def task(i: int) -> NativeSensitivities:
            times = self.when[places[i]].tolist()
            return sensitivities(
                rows.fields.bound, rows.solved[i], times, self._kept, inputs=addresses[i]
            )

        made = each(task, len(rows.solved), None, threading.Event())
        for one in made:
            add_backward_counts(self.field.stats, one)
        return made
