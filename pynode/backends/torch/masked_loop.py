"""A second loop for the rows of a batch, which leaves the host out of its passes.

In batched_loop.py the host decides after each pass, and waits for the device. Here all numbers of
the rows stay on the device, and a pass is a fixed sequence of operations on all rows
(masked_pass.py). Rows that have ended take part, and their results are dropped. batched_loop.py
gives the same steps and statuses. The host takes part in one of two ways:

- A block of passes runs without it, on CUDA as one captured graph. Then the host reads, one block
  late, how many rows are alive, and leaves the others out.
- In each pass the host reads a few sums, such as the number of rows that need a Jacobian. Nothing
  is then done for rows that do not need it. Large batches on a device go this way by themselves,
  because bookkeeping on the host takes longer from ATTENDED rows on.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core.norm import RowTolerance
from ...core.row_statuses import NUMBERS, RUNNING, RowStatuses
from ...core.stats import Stats
from ...core.status import Status
from ...core.transfer import to_device
from ...methods.batched.masked import MASKED
from . import late
from .attended import Attended
from .batched_loop import RowClock, first_attempts
from .masked_pass import Passes, RowConstants, RowStates, Tables
from .masked_tape import MaskedTape

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.options import Options
    from ...methods.base import Method
    from .batched_loop import RowSpans
    from .batched_tape import RowSteps
    from .masked_tape import Taken

# The most outputs that a row writes in one pass. A row with more of them in its step waits.
SLOTS = 4
# Fewer rows hardly make a pass cheaper, because each operation has its own cost on a GPU; and a
# further graph costs as much as a few blocks (estimated, not measured).
SMALLEST = 4096
# The least number of rows for which the host's own bookkeeping takes longer than starting its
# operations on a device (docs/gpu.md).
ATTENDED = 1 << 14


class MaskedRows:
    """Outputs and ends of a batch, as batched_loop.Rows. accepted, rejected: (m,), counts of
    steps; work: the sums of what the family of methods counted."""

    def __init__(self, tables: Tables, ends: _Ends, attempts: np.ndarray) -> None:
        self.ys = tables.ys[: tables.count]
        self.slopes: Any = None
        if tables.slopes is not None:
            self.slopes = tables.slopes[: tables.count]
        self.last = ends.last
        # One copy of all numbers.
        self.t, *counts = ends.numbers.cpu().numpy()
        self.place, self.accepted, self.rejected, status, *work = (
            numbers.astype(np.int64) for numbers in counts
        )
        self.work = [int(numbers.sum()) for numbers in work]
        self.statuses = RowStatuses(status)
        self.attempts = attempts + self.accepted + self.rejected


class _Ends:
    """Where the rows are when they leave: last, (B, n); numbers, (5 + c, B) float64: times, places,
    counts of accepted and rejected steps, statuses, and what the family of methods counted. taken:
    their steps, if they are kept."""

    def __init__(self, y0: Tensor, family: Any) -> None:
        self.last = y0.clone()
        self.numbers: Any = None
        self.taken: list[Taken] = []
        self._family = family

    def store(self, row: Tensor, states: RowStates, tape: Any) -> None:
        """Store the states of the rows with these numbers, (m,). tape: has their steps, or None."""
        self.last.index_copy_(0, row, states.y)
        parts = [states.t, states.place, states.accepted, states.rejected, states.status]
        work = self._family.work(states.inner)
        if work is not None:
            parts += work.unbind(0)
        numbers = torch.stack([part.to(torch.float64) for part in parts])
        if self.numbers is None:
            self.numbers = numbers.new_zeros(len(parts), len(self.last))
        self.numbers.index_copy_(1, row, numbers)
        if tape is None:
            return
        taken = tape.taken(row)
        if taken is not None:
            self.taken.append(taken)


def serves(method: Method, options: Options) -> bool:
    """Whether the method has masked passes, and nothing in the options asks for the host."""
    return (
        MASKED.get(method) is not None
        and not method.compile
        and options.max_nfe is None
        and not len(options.tstops)
    )


def attends(y0: Tensor) -> bool:
    """Whether the host should see each pass of the rows y0, (m, n), and keep no numbers of them."""
    return not y0.is_cpu and len(y0) >= ATTENDED


def integrate(
    field: RowField,
    method: Method,
    y0: Tensor,
    spans: RowSpans,
    options: Options,
    atol: Tensor,
    count: int | None,
    record: RowSteps | None = None,
    slopes: bool = False,
) -> MaskedRows | None:
    """Integrate all rows over their spans; y0: (m, n). count: passes of a block, or None if the
    host sees each pass. record, slopes: as in batched_loop.integrate.

    None if a Jacobian was not finite: only the host can replace its entries.
    """
    # A pass counts nothing, because a graph runs without Python.
    uncounted = copy.copy(field)
    uncounted.stats = Stats()
    passes, states = _begin(uncounted, method, y0, spans, options, atol, record, slopes)
    ends = _Ends(y0, passes.family)
    start_nfe = uncounted.stats.nfe
    dense: float | None
    if count is None:
        dense = Attended(passes, states, ends.store, record is not None).run()
    else:
        dense = _run_blocks(_Bucket(passes, states, count, ends.store, record is not None))
    if dense is None:
        return None
    if record is not None:
        for taken in ends.taken:
            record.extend(taken.row, taken.t, taken.h, taken.end, taken.tape)
    rows = MaskedRows(passes.tables, ends, spans.attempts)
    stats = field.stats
    stats.nfe += start_nfe
    stats.accepted += int(rows.accepted.sum())
    stats.rejected += int(rows.rejected.sum())
    # Repeated work for rows that take no step does not count.
    attempts = int((rows.accepted + rows.rejected).sum())
    passes.family.count(stats, attempts, rows.work, int(min(dense, attempts)))
    return rows


def _run_blocks(bucket: _Bucket) -> float | None:
    """All passes in blocks. The number of polynomials of single rows, infinity for one in each
    attempted step; None if a Jacobian was not finite."""
    flags: deque[late.LateCopy] = deque()
    if bucket.states.y.is_cpu:
        behind = 0
    else:
        behind = 1
    while True:
        bucket.advance()
        flags.append(bucket.flags())
        if len(flags) <= behind:
            continue
        alive, doubtful = flags.popleft().read()
        if doubtful:
            return None
        if not alive:
            bucket.close()
            return math.inf
        # One block ago at least as many rows were alive.
        bucket = bucket.without_ended(bucket_size(alive))


def bucket_size(rows: int) -> int:
    """The size of the bucket for so many rows: a power of two, or three quarters of one, because
    each size costs a captured graph."""
    size = max(1 << (rows - 1).bit_length(), SMALLEST)
    if rows <= 3 * size // 4 and size > SMALLEST:
        return 3 * size // 4
    return size


def _begin(
    field: RowField,
    method: Method,
    y0: Tensor,
    spans: RowSpans,
    options: Options,
    atol: Tensor,
    record: RowSteps | None,
    slopes: bool,
) -> tuple[Passes, RowStates]:
    """The passes of all rows, and the rows at their starts."""
    device = y0.device
    tol = RowTolerance(options.rtol, atol, y0.shape[1])
    t0, f0, size = first_attempts(field, method, y0, spans, options, tol)
    clock = RowClock(spans, size, options)
    if record is not None:
        record.start = (t0, y0, clock.h)
        record.f0 = f0
    numbers = np.stack((clock.end, clock.direction, clock.least, clock.h))
    end, direction, least, h = to_device(numbers, device)
    counts = np.stack((clock.index, clock.limit, clock.place))
    row, limit, place = to_device(counts, device)
    constants = RowConstants(row, end, direction, least, limit)
    slots = max(1, min(SLOTS, len(spans.times) - int(spans.place.min())))
    times = np.concatenate((clock.times, np.repeat(clock.times[-1:], slots, axis=0)))
    ys = y0.new_full((len(spans.times) + 1, *y0.shape), math.nan)
    if slopes:
        rates = torch.zeros_like(ys)
    else:
        rates = None
    tables = Tables(to_device(times.reshape(-1), device), ys, rates, slots)
    family = MASKED.get(method)(method, y0)
    passes = Passes(family, field, tol, options, clock.stop_tolerance, constants, tables)
    inner, doubtful = family.start(field, tol, t0, y0, f0, h)
    status = _first_statuses(limit, f0)
    if doubtful is None:
        doubtful = torch.zeros_like(limit, dtype=torch.bool)
    else:
        doubtful = doubtful & (status == RUNNING)
    states = RowStates(
        t=t0,
        h=h,
        y=y0,
        accepted=torch.zeros_like(place),
        rejected=torch.zeros_like(place),
        status=status,
        place=place,
        waiting=torch.zeros_like(place, dtype=torch.bool),
        began=t0,
        size=h,
        doubtful=doubtful,
        inner=inner,
    )
    return passes, states


def _first_statuses(limit: Tensor, f0: Tensor) -> Tensor:
    """(m,) int8: rows that have no steps left, (m,), or with a slope f0, (m, n), that is not
    finite, end at their starts."""
    status = torch.full_like(limit, RUNNING, dtype=torch.int8)
    status = torch.where(limit <= 0, NUMBERS[Status.MAX_STEPS], status)
    return torch.where(torch.isfinite(f0).all(1), status, NUMBERS[Status.NONFINITE])


class _Bucket:
    """Rows that take blocks of passes together. states: after the last block. Once a block is a
    graph, they are always in the same tensors. store: _Ends.store."""

    def __init__(
        self,
        passes: Passes,
        states: RowStates,
        count: int,
        store: Callable[..., None],
        taped: bool,
    ) -> None:
        self.passes = passes
        self.states = states
        self.count = count
        self.store = store
        self.taped = taped
        if taped:
            ordered = passes.family.order(states.inner) is not None
            passes.tape = MaskedTape(count, states.y, 3 + ordered)
        self.stream = late.SideStream(states.y.device)
        self.graphed = passes.family.capturable
        self._blocks = 0
        self._replay: Any = None

    def advance(self) -> None:
        """One block of passes of all rows. The first block of a bucket runs operation by operation,
        and the second one becomes a graph on CUDA."""
        if self._blocks == 1 and self.graphed:
            self._replay = self.stream.captured(self._run_in_place)
            self.graphed = self._replay is not None
        self._blocks += 1
        if self._replay is not None:
            self._replay()
        else:
            self.stream.run(self._run)
        if self.taped:
            self.passes.tape.keep()

    def _run(self) -> None:
        self.states = self.passes.run(self.states, self.count)

    def _run_in_place(self) -> None:
        """The same, with the results in the tensors of the states before."""
        self.states.copy_(self.passes.run(self.states, self.count))

    def flags(self) -> late.LateCopy:
        """(number of rows that are alive, whether a Jacobian was not finite)."""
        flags = (self.states.alive().sum(), self.states.doubtful.any())
        return late.LateCopy(torch.stack(flags))

    def without_ended(self, size: int) -> _Bucket:
        """A bucket of so many rows with all rows that are alive; this one if it is not smaller."""
        if size >= len(self.states.t):
            return self
        self.close()
        ended = (~self.states.alive()).to(torch.int8)
        rows = torch.argsort(ended, stable=True)[:size]
        passes = self.passes.select(rows)
        bucket = _Bucket(passes, self.states.select(rows), self.count, self.store, self.taped)
        bucket.graphed = self.graphed
        return bucket

    def close(self) -> None:
        """Store where the rows are, and their steps."""
        self.store(self.passes.constants.row, self.states, self.passes.tape)
