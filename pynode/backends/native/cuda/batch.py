"""The rows of a batch by the kernel: from torch's objects to the kernel and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ....core.row_statuses import RowStatuses
from ....core.transfer import to_device
from ..engine import COUNTS as STATS
from ..engine import check
from ..jumps import stops_and_restarts
from ..prepared import prepared
from ..row_outputs import own_times, shared_times
from .functions import simulated
from .host_fields import DeviceRowFields
from .launch import RowInputs, RowResults, solve_rows

if TYPE_CHECKING:
    from ....core.batched_field import RowField
    from ....core.options import Options
    from ....core.stop_conditions import RowLimits
    from ....methods.base import Method
    from ...torch.batched_loop import RowSpans

LARGEST = 16  # components: the arrays of a row lie in the memory of a thread
INSTEAD = "or pass backend='native' or 'torch'"


class CudaRows:
    """The result for a batch, as backends/torch/batched_loop.Rows, of the kernel.

    fields: DeviceRowFields. index: (m,) the numbers of the rows. plan, numbers, given, results: of
    solve_rows. versions: of the tensors that the kernel has read.
    """

    def __init__(
        self,
        fields: DeviceRowFields,
        index: Tensor,
        plan: Any,
        numbers: np.ndarray,
        given: RowInputs,
        results: RowResults,
        spans: RowSpans,
        wanted: list[int] | None,
    ) -> None:
        self.fields = fields
        self.index = index
        self.plan = plan
        self.numbers = numbers
        self.given = given
        self.results = results
        self.versions = versions(fields.targets)
        # Here the host waits for the kernel.
        counts, reals = results.on_host()
        reached = counts["position"] - 1
        if wanted is not None:
            reached = np.minimum(reached, wanted)
        self.place = spans.place + reached
        self.t = reals["t"].copy()
        self.statuses = RowStatuses(counts["status"])
        self.attempts = spans.attempts + counts["accepted"] + counts["rejected"]
        self.totals = {name: int(counts[name].sum()) for name in STATS}
        self.last = results.last.clone()
        self.ys = _spread(results.outputs, reached, spans)
        self.slopes = None
        if results.slopes is not None:
            self.slopes = _spread(results.slopes, reached, spans)


def versions(tensors: list[Tensor]) -> list[int]:
    """Numbers that change when the tensors do."""
    return [-1 if x.is_inference() else x._version for x in tensors]


def _spread(outputs, reached, spans):
    """(T, m, n) of the outputs (T', m, n), which begin with the start of each row: each at its
    output times, NaN at those that it has not reached. reached: (m,) outputs after the start."""
    total = len(spans.times)
    if len(outputs) == total and np.all(spans.place == 1):
        return outputs
    states = outputs.new_full((total, *outputs.shape[1:]), torch.nan)
    rows = np.repeat(np.arange(len(reached)), reached)
    own = np.arange(len(rows)) - np.repeat(np.cumsum(reached) - reached, reached)
    at = [to_device(x, outputs.device) for x in (own, rows, spans.place[rows] + own)]
    states[at[2], at[1]] = outputs[1 + at[0], at[1]]
    return states


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
    watch: Any = None,
    jumps: np.ndarray | None = None,
) -> CudaRows:
    """Every row from its start to its end, by the kernel. The arguments of native/batch.py."""
    check(field, device=True)
    _check_rows(field, options, limits, watch)
    fields = DeviceRowFields(field, float(spans.start[0]), starts[0])
    real = np.dtype(str(starts.dtype).removeprefix("torch."))
    plan = prepared(fields.bound, method, real, False, False, slopes)
    given, wanted = _inputs(field, fields, starts, spans, options, atol, limits, index, jumps)
    bounded = limits is not None and limits.bounds is not None
    zero_atol = bool(given.atol.min() <= plan.tiny)
    numbers = plan.numbers(options, zero_atol, bounded)
    results = solve_rows(plan, fields.bound, numbers, given, record)
    rows = CudaRows(fields, index, plan, numbers, given, results, spans, wanted)
    for name, total in rows.totals.items():
        setattr(field.stats, name, getattr(field.stats, name) + total)
    return rows


def _check_rows(field, options, limits, watch):
    """ValueError for what the kernel does not offer."""
    if not simulated() and field.device.type != "cuda":
        raise ValueError(
            f"the kernel of the native engine needs the states on a GPU, but y0 is on"
            f" {field.device}: move y0 and f there, {INSTEAD}"
        )
    if field.size > LARGEST:
        raise ValueError(
            f"the kernel of the native engine takes up to {LARGEST} states a row, not"
            f" {field.size}: pass backend='torch'"
        )
    asks = {
        "events": watch is not None,
        "callback": limits is not None and limits.callback is not None,
        "domain": limits is not None and limits.domain is not None,
        "max_seconds": limits is not None and limits.deadline is not None,
        "max_nfe": options.max_nfe is not None,
    }
    refused = [name for name, given in asks.items() if given]
    if refused:
        raise ValueError(
            f"the kernel of the native engine goes through all steps without Python, and takes no"
            f" {' and no '.join(refused)}: leave this out, {INSTEAD}"
        )


def _inputs(field, fields, starts, spans, options, atol, limits, index, jumps):
    """(RowInputs, the outputs after the start that each row wants; None if all rows share
    theirs)."""
    device = starts.device
    size = starts.shape[1]
    wanted = None
    times = shared_times(spans)
    if times is not None:
        grid = times[None]
        lengths = np.array([len(times)])
    else:
        each, rows = own_times(spans)
        wanted = [len(own) for own in each]
        grid, lengths = _padded(rows)
    real = np.dtype(str(starts.dtype).removeprefix("torch."))
    count = len(starts)
    if times is not None and jumps is None:
        count = 1
    pairs = [
        stops_and_restarts(
            options.tstops,
            () if jumps is None else jumps[i],
            spans.start[i],
            spans.end[i],
            real,
        )
        for i in range(count)
    ]
    stops, stop_counts = _padded([own for own, _ in pairs])
    restarts, _ = _padded([own for _, own in pairs])
    lowest = starts.new_zeros((1, size), dtype=torch.float64)
    floor = lowest
    if limits is not None and limits.bounds is not None:
        lowest = _of_rows(limits.bounds.lowest, field.batch, size, index)
        floor = _of_rows(limits.bounds.floor, field.batch, size, index)
    given = RowInputs(
        starts=starts.detach().contiguous(),
        begins=to_device(spans.start, device, torch.float64),
        ends=to_device(spans.end, device, torch.float64),
        tried=to_device(spans.attempts, device, torch.int64),
        times=to_device(grid, device, torch.float64),
        lengths=to_device(lengths, device, torch.int64),
        stops=to_device(stops, device, torch.float64),
        restarts=to_device(restarts, device, torch.float64),
        stop_counts=to_device(stop_counts, device, torch.int64),
        atol=_of_rows(atol, field.batch, size, index),
        lowest=lowest,
        floor=floor,
        targets=fields.numbers(index),
    )
    return given, wanted


def _of_rows(values, batch, size, index):
    """(m, n) float64 of values, (B, n), for the rows with these numbers; (1, n) of values, 0-d or
    (n,), for all rows."""
    values = values.detach().double()
    if values.dim() < 2:
        return values.expand(1, size).contiguous()
    return values.expand(batch, size)[index].contiguous()


def _padded(rows):
    """(array, lengths) of lists of numbers."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    padded = np.zeros((len(rows), lengths.max()))
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded, lengths
