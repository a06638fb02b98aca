"""The gradient of one segment of a batch whose rows took their own steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ...core.leaves import LostLeaves
from . import batched
from .batched_points import RowPart

if TYPE_CHECKING:
    from ...backends.torch.batched_tape import RowSteps
    from ...core.batched_field import RowField
    from ...methods.base import Method


class RowGradient:
    """The gradient of the states at times ``when`` of the rows ``who``, (q,) each, in the starts of
    the rows and in the tensors of f.

    index: the rows of the segment, (m,). steps: its RowSteps.
    """

    def __init__(
        self,
        field: RowField,
        index: Tensor,
        method: Method,
        steps: RowSteps,
        when: np.ndarray,
        who: np.ndarray,
    ) -> None:
        self.field = field
        self.index = index
        self.method = method
        self.steps = steps
        self.when = when
        self.who = who
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return (cotangent of the starts (m, n), cotangents of the inputs). grads: cotangents of
        the states, (q, n)."""
        with self.field.module_state.restored(self.field.parameters):
            t, y, h = self.steps.start
            self.field.select(self.index).check(t, y, self.steps.f0, h)
            while True:
                part = RowPart(self.field, self.index)
                try:
                    ybar, param_grads = batched.pullback(
                        part, self.method, self.steps, self.when, self.who, grads
                    )
                except LostLeaves as lost:
                    # f used tensors within its reach that it did not use at the start.
                    self.field.module_state.check_spare(lost.leaves)
                    self.field = self.field.with_parameters(lost.leaves)
                else:
                    return ybar, self.field.leaves.align(param_grads, self.inputs)
