"""The rows of a batch as native solves of their own, on all processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ...core.stats import Stats
from .engine import COUNTS, INSTEAD, check
from .fields import FlatCall, translated
from .row_observer import RowObserver
from .rows import integrate_rows

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.options import Options
    from ...core.stop_conditions import RowLimits
    from ...methods.base import Method
    from ..torch.batched_event_detection import BatchEventDetector
    from ..torch.batched_loop import RowSpans
    from .trajectory import NativeTrajectory


class RowFields:
    """The native functions of a RowField for each of its rows.

    targets: the tensors that native code reads, whole. by_row: for each of them whether a row of
    the batch reads its own row of it. one_row: the args for the first row.
    """

    def __init__(self, field: RowField, t0: float, y0: Tensor) -> None:
        leaves, structure = pytree.tree_flatten(field.args)
        owned = _owned(field)
        one = [x[:1] if own else x for x, own in zip(leaves, owned, strict=True)]
        frame = FlatCall(field.layout, structure, field.nonnegative_mask, rows=True)
        self.bound = translated(field.f, one, frame, t0, y0)
        self.one_row = pytree.tree_unflatten(one, structure)
        # For the id of each leaf of these args that belongs to a row: how far the rows lie apart.
        self.apart = {
            id(x): leaf.stride(0) * leaf.element_size()
            for x, leaf, own in zip(one, leaves, owned, strict=True)
            if own
        }
        places = {id(x): i for i, x in enumerate(one)}
        self.targets: list[Tensor] = []
        self.by_row: list[bool] = []
        for target in self.bound.targets:
            place = places.get(id(target))
            if place is None:
                self.targets.append(target)
                self.by_row.append(False)
            else:
                self.targets.append(leaves[place])
                self.by_row.append(owned[place])
        sizes = [self.apart.get(id(target), 0) for target in self.bound.targets]
        self._shifts = np.array(sizes, dtype=np.int64)

    def addresses(self, rows: np.ndarray) -> np.ndarray:
        """(m, k) addresses of the targets for the rows with these numbers, (m,)."""
        return self.bound.pointers()[0] + rows[:, None] * self._shifts


def _owned(field):
    """For each leaf of the args whether it has a row for each row of the batch."""
    owned = []
    for argument, by_row in zip(field.args, field.by_row, strict=True):
        owned += [by_row] * len(pytree.tree_leaves(argument))
    return owned


class NativeRows:
    """The result for a batch, as backends/torch/batched_loop.Rows, made of native solves.

    fields: RowFields. index: (m,) the numbers of the rows. solved: their results.
    """

    def __init__(
        self,
        fields: RowFields,
        index: np.ndarray,
        solved: list[NativeTrajectory],
        spans: RowSpans,
        like: Tensor,
    ) -> None:
        self.fields = fields
        self.index = index
        self.solved = solved
        count = len(solved)
        ys = np.full((len(spans.times), count, like.shape[1]), np.nan, _dtype(like))
        self.place = spans.place.copy()
        moving = solved[0].slopes is not None
        slopes = np.zeros_like(ys) if moving else None
        for i, one in enumerate(solved):
            reached = _outputs(one, spans, i)
            first = spans.place[i]
            ys[first : first + reached, i] = one.outputs[1 : 1 + reached]
            if slopes is not None:
                slopes[first : first + reached, i] = one.slopes[1 : 1 + reached]
            self.place[i] += reached
        self.ys = torch.from_numpy(ys)
        self.slopes = None if slopes is None else torch.from_numpy(slopes)
        self.last = torch.from_numpy(np.stack([one.y for one in solved]))
        self.t = np.array([one.t for one in solved])
        self.statuses = [one.status for one in solved]
        self.attempts = spans.attempts + [one.accepted + one.rejected for one in solved]


def _dtype(like):
    if like.dtype == torch.float32:
        return np.float32
    return np.float64


def _outputs(one, spans, i):
    """How many output times of row i a solve has reached."""
    reached = one.outputs.shape[0] - 1
    return min(reached, len(_times(spans, i)))


def _times(spans, i):
    """The output times of row i after the start and up to its end."""
    later = spans.times[spans.place[i] :, i]
    direction = np.sign(spans.end[i] - spans.start[i])
    return later[direction * (later - spans.end[i]) <= 0]


def integrate_batch(
    field: RowField,
    method: Method,
    starts: Tensor,
    spans: RowSpans,
    options: Options,
    atol: Tensor,
    record: bool,
    slopes: bool,
    limits: RowLimits | None,
    index: Tensor,
    watch: BatchEventDetector | None = None,
) -> NativeRows:
    """Every row from its start to its end.

    field: of the whole batch. starts: (m, n), of the rows with the numbers index, (m,). spans,
    atol: of these rows. record: keep the steps for a gradient. slopes: dy/dt at the outputs. watch:
    looks for events, or None.
    """
    check(field)
    numbers = index.numpy()
    fields = RowFields(field, float(spans.start[0]), starts[0])
    times: list[Sequence[float]] = []
    for i in range(len(numbers)):
        row_times = [float(spans.start[i]), *_times(spans, i).tolist()]
        if row_times[-1] != spans.end[i]:
            row_times.append(float(spans.end[i]))
        times.append(row_times)
    size = starts.shape[1]
    observer = None
    if watch is not None or (limits is not None and limits.domain is not None):
        observer = RowObserver(field, fields, watch, limits, spans, starts, index)
    solved = integrate_rows(
        fields.bound,
        method,
        starts.detach().numpy(),
        times,
        options,
        _by_row(atol, numbers, size, field.batch),
        inputs=fields.addresses(numbers),
        attempts=spans.attempts,
        bounds=_bounds(limits, numbers, size, field.batch),
        record=record,
        slopes=slopes,
        deadline=None if limits is None else limits.deadline,
        each_row=observer and observer.arguments,
    )
    add_counts(field.stats, solved)
    rows = NativeRows(fields, numbers, solved, spans, starts)
    if observer is not None:
        observer.finish(rows)
    return rows


def add_counts(stats: Stats, solved: Sequence[NativeTrajectory]) -> None:
    """Count the work of solves."""
    for name in COUNTS:
        total = sum(getattr(one, name) for one in solved)
        setattr(stats, name, getattr(stats, name) + total)


def _by_row(values, numbers, size, batch):
    """(m, n) of values, 0-d, (n,) or (B, n), for the rows with these numbers."""
    return values.detach().double().expand(batch, size).numpy()[numbers]


def _bounds(limits, numbers, size, batch):
    """(lowest, floor), (m, n) each, of the components that must not be negative, or None."""
    if limits is None or limits.bounds is None:
        return None
    lowest = _by_row(limits.bounds.lowest, numbers, size, batch)
    return lowest, _by_row(limits.bounds.floor, numbers, size, batch)


def check_batch(limits: RowLimits | None, options: Options) -> None:
    """ValueError for what native solves of the rows of a batch do not take."""
    if limits is not None and limits.callback is not None:
        raise ValueError(
            "a callback sees all rows of a batch after each step, but native rows run side by side:"
            f" leave out callback, {INSTEAD}"
        )
    if options.max_nfe is not None:
        raise ValueError(
            "max_nfe limits all rows together, but native rows run side by side: use max_steps,"
            f" {INSTEAD}"
        )
