"""The gradient of one segment of a batch whose rows were solved by the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...backends.native.cuda.batch import versions
from ...core.transfer import to_device
from ..short import CHANGED
from ..targets import of_parameters
from .cuda import COUNTS, RowsBack, prepared_sweep

if TYPE_CHECKING:
    from ...backends.native.cuda.batch import CudaRows
    from ...core.batched_field import RowField


class CudaRowGradient:
    """The gradient of the outputs and the last states of the rows in their starts and in the
    tensors of f.

    rows: the result of the segment. who: (q,) the row of each state: of the outputs of all rows,
    row after row, then of the last states.
    """

    def __init__(self, field: RowField, rows: CudaRows, who: np.ndarray) -> None:
        self.field = field
        self.rows = rows
        self.who = who
        self.inputs = [*field.leaves.parameters, *field.leaves.spare]
        # Made now: later f may hold copies of its tensors.
        prepared_sweep(rows.plan, rows.fields.bound)

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return (cotangent of the starts (m, n), cotangents of the inputs). grads: cotangents of
        the states, (q, n)."""
        field = self.field
        field.module_state.check()
        rows = self.rows
        if versions(rows.fields.targets) != rows.versions:
            raise RuntimeError(CHANGED)
        grads = grads.detach()
        count = len(rows.index)
        after = len(rows.results.outputs) - 1
        outputs = grads.new_zeros((count, after, grads.shape[1]))
        who = self.who[:-count]
        place = np.arange(len(who)) - np.searchsorted(who, np.arange(count))[who]
        at = [to_device(x, grads.device) for x in (who, place)]
        outputs[at[0], at[1]] = grads[: len(who)]
        back = RowsBack(
            rows.plan,
            rows.fields.bound,
            rows.numbers,
            rows.given,
            rows.results,
            outputs,
            grads[-count:],
        )
        totals = [torch.zeros_like(target) for target in rows.fields.targets]
        for group in back.groups():
            self._add(totals, rows.index[group.rows], group.targets)
        self._count(back.work)
        return back.starts, self._of_inputs(totals)

    def _add(self, totals, index, targets):
        """Add to totals what some rows give. A total belongs to a whole tensor of the field."""
        for total, part, own in zip(totals, targets, self.rows.fields.by_row, strict=True):
            if own:
                total[index] += part[:, 0]  # each row is there once
            else:
                total += part.sum(0)

    def _count(self, work):
        """Count the work of the backward pass. A product with the Jacobian evaluates f, too."""
        stats = self.field.stats
        for name, count in zip(COUNTS, work.sum(1).tolist(), strict=True):
            backward = f"backward_{name}"
            setattr(stats, backward, getattr(stats, backward) + count)
            if name == "nvjp":
                stats.backward_nfe += count

    def _of_inputs(self, totals):
        field = self.field
        cotangents = of_parameters(field, self.rows.fields.targets, totals)
        return field.leaves.align(cotangents, self.inputs)
