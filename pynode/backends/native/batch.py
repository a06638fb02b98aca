"""The rows of a batch as native solves of their own, on all processors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .engine import COUNTS, check
from .fields import FlatCall, translated
from .row_observer import RowObserver
from .rows import RowTrajectories, integrate_rows
from .run import STATUSES

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.options import Options
    from ...core.stop_conditions import RowLimits
    from ...methods.base import Method
    from ..torch.batched_event_detection import BatchEventDetector
    from ..torch.batched_loop import RowSpans
    from .row_observer import FoundEvents


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

    fields: RowFields. index: (m,) the numbers of the rows. solved: their results. wanted: the
    output times of all rows, (T,) from the start on, or a list of those after the start for each
    row. found: where events were found; None if nothing looked for them.
    """

    def __init__(
        self,
        fields: RowFields,
        index: np.ndarray,
        solved: RowTrajectories,
        spans: RowSpans,
        wanted: np.ndarray | list,
        found: FoundEvents | None = None,
    ) -> None:
        self.fields = fields
        self.index = index
        self.solved = solved
        self.found = found
        numbers = solved.numbers
        # How many output times after the start each row has reached.
        self.reached = numbers["position"] - 1
        if isinstance(wanted, list):
            self.reached = np.minimum(self.reached, [len(times) for times in wanted])
        self.place = spans.place + self.reached
        self.ys = torch.from_numpy(self._spread(solved.outputs, spans, wanted))
        self.slopes = None
        if solved.plan.slopes:
            self.slopes = torch.from_numpy(self._spread(solved.slopes, spans, wanted))
        self.last = torch.from_numpy(solved.blocks.each("y").copy())
        self.t = numbers["t"].copy()
        self.statuses = [STATUSES[code] for code in numbers["status"].tolist()]
        self.attempts = spans.attempts + numbers["accepted"] + numbers["rejected"]

    def _spread(self, rows, spans, wanted):
        """(T, m, n) of rows (m, _, n), which begin with the start: each at its output times."""
        total = len(spans.times)
        count = len(rows)
        if not isinstance(wanted, list) and total == rows.shape[1]:
            spread = np.empty((total, count, rows.shape[2]), rows.dtype)
            spread[:] = rows.transpose(1, 0, 2)
            for i in np.flatnonzero(self.reached < total - 1):
                spread[1 + self.reached[i] :, i] = np.nan
            return spread
        spread = np.full((total, count, rows.shape[2]), np.nan, rows.dtype)
        for i, (first, reached) in enumerate(zip(spans.place, self.reached, strict=True)):
            spread[first : first + reached, i] = rows[i, 1 : 1 + reached]
        return spread


def _times(spans, i):
    """The output times of row i after the start and up to its end."""
    later = spans.times[spans.place[i] :, i]
    direction = np.sign(spans.end[i] - spans.start[i])
    return later[direction * (later - spans.end[i]) <= 0]


def _shared_times(spans):
    """The times that all rows share, (T,): their start and all outputs up to their end. None if
    rows differ."""
    times = spans.times
    if not np.all(spans.place == 1) or np.any(times != times[:, :1]):
        return None
    if np.any(spans.start != times[0]) or np.any(spans.end != times[-1]):
        return None
    return np.ascontiguousarray(times[:, 0])


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
    times: Any = _shared_times(spans)
    wanted = times
    if times is None:
        wanted = [_times(spans, i).tolist() for i in range(len(numbers))]
        times = [
            _with_end([start, *own], end)
            for start, own, end in zip(
                spans.start.tolist(), wanted, spans.end.tolist(), strict=True
            )
        ]
    size = starts.shape[1]
    observer = None
    if watch is not None or options.max_nfe is not None or _asks(limits):
        t0 = torch.from_numpy(spans.start)
        observer = RowObserver(field, fields, watch, limits, options.max_nfe, index, t0, starts)
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
        observer=observer,
    )
    for name in COUNTS:
        total = int(solved.numbers[name].sum())
        setattr(field.stats, name, getattr(field.stats, name) + total)
    if observer is None or watch is None:
        return NativeRows(fields, numbers, solved, spans, wanted)
    rows = NativeRows(fields, numbers, solved, spans, wanted, observer.found)
    watch.finish(rows)
    return rows


def _asks(limits):
    """Whether limits have functions of the user."""
    return limits is not None and (limits.domain is not None or limits.callback is not None)


def _with_end(times, end):
    """The times with the end after them."""
    if times[-1] != end:
        times.append(end)
    return times


def _by_row(values, numbers, size, batch):
    """(m, n) of values, 0-d, (n,) or (B, n), for the rows with these numbers."""
    return values.detach().double().expand(batch, size).numpy()[numbers]


def _bounds(limits, numbers, size, batch):
    """(lowest, floor), (m, n) each, of the components that must not be negative, or None."""
    if limits is None or limits.bounds is None:
        return None
    lowest = _by_row(limits.bounds.lowest, numbers, size, batch)
    return lowest, _by_row(limits.bounds.floor, numbers, size, batch)
