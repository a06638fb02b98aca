"""The rows of a batch as native solves of their own, on all processors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core.row_statuses import RowStatuses
from .engine import COUNTS, check
from .row_fields import RowFields
from .row_observer import RowObserver
from .row_outputs import by_row, own_times, shared_times, spread
from .rows import RowTrajectories, integrate_rows

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.options import Options
    from ...core.stop_conditions import RowLimits
    from ...methods.base import Method
    from ..torch.batched_event_detection import BatchEventDetector
    from ..torch.batched_loop import RowSpans
    from .row_observer import FoundEvents


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
        self.ys = torch.from_numpy(spread(solved.outputs, self.reached, spans, wanted))
        self.slopes = None
        if solved.plan.slopes:
            self.slopes = torch.from_numpy(spread(solved.slopes, self.reached, spans, wanted))
        self.last = torch.from_numpy(solved.blocks.each("y").copy())
        self.t = numbers["t"].copy()
        self.statuses = RowStatuses(numbers["status"])
        self.attempts = spans.attempts + numbers["accepted"] + numbers["rejected"]


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
    jumps: np.ndarray | None = None,
    fields: RowFields | None = None,
) -> NativeRows:
    """Every row from its start to its end.

    field: of the whole batch. starts: (m, n), of the rows with the numbers index, (m,). spans,
    atol: of these rows. record: keep the steps for a gradient. slopes: dy/dt at the outputs. watch:
    looks for events, or None. jumps: (m, k) the jumps of f in each row, NaN for missing ones.
    fields: the native functions, where they are known.
    """
    check(field)
    numbers = index.numpy()
    if fields is None:
        fields = RowFields(field, float(spans.start[0]), starts[0])
    times: Any = shared_times(spans)
    wanted = times
    if times is None:
        wanted, times = own_times(spans)
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
        by_row(atol, numbers, size, field.batch),
        inputs=fields.addresses(numbers),
        attempts=spans.attempts,
        bounds=_bounds(limits, numbers, size, field.batch),
        record=record,
        slopes=slopes,
        deadline=None if limits is None else limits.deadline,
        observer=observer,
        jumps=jumps,
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


def _bounds(limits, numbers, size, batch):
    """(lowest, floor), (m, n) each, of the components that must not be negative, or None."""
    if limits is None or limits.bounds is None:
        return None
    lowest = by_row(limits.bounds.lowest, numbers, size, batch)
    return lowest, by_row(limits.bounds.floor, numbers, size, batch)
