"""A second loop for the rows of a batch, which leaves the host out of its passes.

In batched_loop.py the host decides after each pass, so that it waits for the device. Here all
numbers of the rows stay on the device, and a pass is a fixed sequence of operations on all rows.
Rows that have ended take part, and their results are dropped. Several passes follow one another
without the host, on CUDA as one captured graph. Then the host reads, one block of passes late, how
many rows are alive, and leaves the others out. Steps, outputs and statuses are those of
batched_loop.py.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.arithmetic import Tensors
from ...core.norm import RowTolerance
from ...core.row_control import (
    endings,
    is_stuck,
    released,
    short_of,
    shortened_sizes,
    too_small,
)
from ...core.row_statuses import NUMBERS, RUNNING, RowStatuses
from ...core.stats import Stats
from ...core.status import Status
from ...core.step_control import next_step
from ...methods.batched.masked import MASKED
from . import late
from .batched_loop import RowClock, first_attempts

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.options import Options
    from ...methods.base import Method
    from ...methods.batched.masked import Attempt
    from .batched_loop import RowSpans
    from .batched_tape import RowSteps

# The most outputs that a row writes in one pass. A row with more of them in its step waits.
SLOTS = 4
# Fewer rows do not make a pass cheaper.
SMALLEST = 256
# A row that takes no step repeats this part of its last one, so that f sees only usual values.
IDLE = 2.0**-20


class RowStates(NamedTuple):
    """What a pass changes, (m, ...) for the rows of a bucket.

    t, h: the times and the next steps; y: (m, n); first: f at t for methods that carry it, (m, n),
    otherwise (m, 0); past, older: the ratios of the last two steps; accepted, rejected: counts;
    status: int8, as in core/row_statuses.py; place: of the next output; waiting: whether it
    lies in the last step, and no further step begins before it is written. polynomial: (degree + 1,
    m, n), of the last accepted step, which went from began by size. doubtful: whether a Jacobian
    was not finite.
    """

    t: Tensor
    h: Tensor
    y: Tensor
    first: Tensor
    past: Tensor
    older: Tensor
    accepted: Tensor
    rejected: Tensor
    status: Tensor
    place: Tensor
    waiting: Tensor
    polynomial: Tensor
    began: Tensor
    size: Tensor
    doubtful: Tensor

    def select(self, rows: Tensor) -> RowStates:
        """The states of some rows, in the order of the index."""
        parts = self._asdict()
        polynomial = parts.pop("polynomial").index_select(1, rows)
        kept = {name: part.index_select(0, rows) for name, part in parts.items()}
        return RowStates(**kept, polynomial=polynomial)

    def alive(self) -> Tensor:
        """Mask of the rows that still have steps or outputs before them."""
        return (self.status == RUNNING) | self.waiting


class RowConstants(NamedTuple):
    """What stays as it is, (m,): the numbers of the rows, their ends, the directions of time, the
    least |h|, and the limits of steps."""

    index: Tensor
    end: Tensor
    direction: Tensor
    least: Tensor
    limit: Tensor


class MaskedRows:
    """Outputs and ends of a batch, as batched_loop.Rows."""

    def __init__(self, solve: _Solve) -> None:
        count = solve.count
        self.ys = solve.ys[:count]
        self.slopes: Any = None
        if solve.slopes is not None:
            self.slopes = solve.slopes[:count]
        self.last = solve.last
        # One copy of all numbers.
        t, *counts = solve.numbers.cpu().numpy()
        place, accepted, rejected, status = (numbers.astype(np.int64) for numbers in counts)
        self.t = t
        self.place = place
        self.accepted = accepted
        self.rejected = rejected
        self.statuses = RowStatuses(status)
        self.attempts = solve.spans.attempts + accepted + rejected


def serves(method: Method, options: Options) -> bool:
    """Whether the method has masked passes, and nothing in the options asks for the host."""
    return (
        MASKED.get(method) is not None
        and not method.compile
        and options.max_nfe is None
        and not len(options.tstops)
    )


def integrate(
    field: RowField,
    method: Method,
    y0: Tensor,
    spans: RowSpans,
    options: Options,
    atol: Tensor,
    passes: int,
    record: RowSteps | None = None,
    slopes: bool = False,
) -> MaskedRows | None:
    """Integrate all rows over their spans; y0: (m, n). passes: how many follow one another without
    the host. record, slopes: as in batched_loop.integrate.

    None if a Jacobian was not finite: only the host can replace its entries.
    """
    solve = _Solve(field, method, y0, spans, options, atol, passes, slopes)
    bucket = solve.first_bucket(record)
    flags: deque[late.LateCopy] = deque()
    if y0.is_cpu:
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
            break
        # One block ago at least as many rows were alive.
        bucket = bucket.without_ended(bucket_size(alive))
    bucket.close()
    rows = MaskedRows(solve)
    solve.count_work(rows)
    return rows


def bucket_size(rows: int) -> int:
    """The size of the bucket for so many rows: a power of two, or three quarters of one, because
    each size costs a captured graph."""
    size = max(1 << (rows - 1).bit_length(), SMALLEST)
    if rows <= 3 * size // 4 and size > SMALLEST:
        return 3 * size // 4
    return size


class _Solve:
    """What the buckets of a solve share.

    ys, slopes: (T + 1, B, n); the last place takes what no one wants. times: (T + SLOTS + 1, B),
    flat, with infinities after the last outputs. last: (B, n) the states, and numbers: (5, B)
    float64, times, places, counts of steps and statuses, at the ends of the rows.
    """

    def __init__(
        self,
        field: RowField,
        method: Method,
        y0: Tensor,
        spans: RowSpans,
        options: Options,
        atol: Tensor,
        passes: int,
        slopes: bool,
    ) -> None:
        self.field = copy.copy(field)
        self.field.stats = Stats()  # a pass counts nothing: graphs run without Python
        self.stats = field.stats
        self.method: Any = method
        self.y0 = y0
        self.spans = spans
        self.options = options
        self.fixed = options.step_size is not None
        self.passes = passes
        self.tol = RowTolerance(options.rtol, atol, y0.shape[1])
        self.attempts = MASKED.get(method)(method, y0)
        self.count = len(spans.times)
        self.batch = len(y0)
        self.slots = max(1, min(SLOTS, self.count - int(spans.place.min())))
        self.ys = y0.new_full((self.count + 1, *y0.shape), math.nan)
        self.slopes: Any = None
        if slopes:
            self.slopes = torch.zeros_like(self.ys)
        self.last = y0.clone()
        self.numbers = torch.zeros(5, self.batch, dtype=torch.float64, device=y0.device)
        self.graphed = late.can_capture(y0.device)
        self.stream = late.SideStream(y0.device)

    def first_bucket(self, record: RowSteps | None) -> _Bucket:
        """All rows at their starts."""
        y0 = self.y0
        t0, f0, size = first_attempts(
            self.field, self.method, y0, self.spans, self.options, self.tol
        )
        self.start_nfe = self.field.stats.nfe
        clock = RowClock(self.spans, size, self.options)
        self.stop_tolerance = clock.stop_tolerance
        if record is not None:
            record.start = (t0, y0, clock.h)
            record.f0 = f0
        device = y0.device
        end, direction, least, h = torch.from_numpy(
            np.stack((clock.end, clock.direction, clock.least, clock.h))
        ).to(device)
        index, limit, place = torch.from_numpy(
            np.stack((clock.index, clock.limit, clock.place))
        ).to(device)
        ends = np.repeat(clock.times[-1:], self.slots, axis=0)
        self.times = torch.from_numpy(np.concatenate((clock.times, ends)).reshape(-1)).to(device)
        status = torch.full_like(place, RUNNING, dtype=torch.int8)
        status = torch.where(limit <= 0, NUMBERS[Status.MAX_STEPS], status)
        status = torch.where(torch.isfinite(f0).all(1), status, NUMBERS[Status.NONFINITE])
        if self.attempts.carries:
            first = f0
        else:
            first = y0[:, :0]
        polynomial = y0.new_zeros(self.attempts.weights.shape[1] + 1, *y0.shape)
        polynomial[0] = y0
        states = RowStates(
            t=t0.clone(),
            h=h,
            y=y0,
            first=first,
            past=torch.ones_like(h),
            older=torch.ones_like(h),
            accepted=torch.zeros_like(place),
            rejected=torch.zeros_like(place),
            status=status.to(torch.int8),
            place=place,
            waiting=torch.zeros_like(place, dtype=torch.bool),
            polynomial=polynomial,
            began=t0,
            size=h,
            doubtful=torch.zeros_like(place, dtype=torch.bool),
        )
        constants = RowConstants(index, end, direction, least, limit)
        return _Bucket(self, self.field, self.tol, constants, states, record)

    def count_work(self, rows: MaskedRows) -> None:
        """Add the steps of all rows, and what they cost, to the counts of the solve. Repeated work
        for rows that take no step does not count."""
        self.stats.nfe += self.start_nfe
        self.stats.accepted += int(rows.accepted.sum())
        self.stats.rejected += int(rows.rejected.sum())
        self.attempts.count(self.stats, int((rows.accepted + rows.rejected).sum()))


class _Tape:
    """The attempted steps of a block of passes, and which of them were accepted: numbers (K, 3, m)
    float64, t, h and end; mask (K, m); starts (K, m, n). kept: those of earlier blocks."""

    def __init__(self, passes: int, y: Tensor) -> None:
        m = len(y)
        self.numbers = torch.zeros(passes, 3, m, dtype=torch.float64, device=y.device)
        self.mask = torch.zeros(passes, m, dtype=torch.bool, device=y.device)
        self.starts = torch.zeros(passes, *y.shape, dtype=y.dtype, device=y.device)
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def write(
        self, number: int, t: Tensor, h: Tensor, end: Tensor, mask: Tensor, start: Tensor
    ) -> None:
        """Keep what one pass did."""
        torch.stack((t, h, end), out=self.numbers[number])
        self.mask[number].copy_(mask)
        self.starts[number].copy_(start)

    def keep(self) -> None:
        """Keep the block, which the next one overwrites."""
        self.kept.append((self.numbers.clone(), self.mask.clone(), self.starts.clone()))

    def give(self, index: Tensor, record: RowSteps) -> None:
        """Give the accepted steps to the record. index: (m,), the rows. One synchronisation for all
        blocks, and one copy to the host."""
        numbers, mask, starts = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        self.kept = []
        which = mask.reshape(-1).nonzero().squeeze(1)
        rows = index.expand(len(mask), -1).reshape(-1).index_select(0, which)
        columns = numbers.transpose(0, 1).reshape(3, -1).index_select(1, which)
        t, h, end, row = torch.cat((columns, rows.unsqueeze(0).to(columns))).cpu().numpy()
        start = starts.view(-1, starts.shape[2]).index_select(0, which)
        record.extend(row.astype(np.int64), t, h, end, (start,))


class _Bucket:
    """Rows that take their passes together. After each block of passes their states are in states,
    which are always the same tensors once the block is a graph."""

    def __init__(
        self,
        solve: _Solve,
        field: RowField,
        tol: RowTolerance,
        constants: RowConstants,
        states: RowStates,
        record: RowSteps | None,
    ) -> None:
        self.solve = solve
        self.field = field
        self.tol = tol
        self.constants = constants
        self.states = states
        self.record = record
        self.tape: Any = None
        if record is not None:
            self.tape = _Tape(solve.passes, states.y)
        self._blocks = 0
        self._replay: Any = None

    def advance(self) -> None:
        """One block of passes of all rows. The first block of a bucket runs operation by operation,
        and the second one becomes a graph."""
        solve = self.solve
        if self._blocks == 1 and solve.graphed:
            self._replay = late.captured(self._block_in_place)
            solve.graphed = self._replay is not None
        self._blocks += 1
        if self._replay is not None:
            self._replay()
        else:
            solve.stream.run(self._block)
        if self.tape is not None:
            self.tape.keep()

    def _block(self) -> None:
        states = self.states
        for number in range(self.solve.passes):
            states = self._pass(states, number)
        self.states = states

    def _block_in_place(self) -> None:
        """The same, with the results in the tensors of the states before."""
        before = self.states
        self._block()
        for old, new in zip(before, self.states, strict=True):
            old.copy_(new)
        self.states = before

    def flags(self) -> late.LateCopy:
        """(number of rows that are alive, whether a Jacobian was not finite)."""
        flags = torch.stack((self.states.alive().sum(), self.states.doubtful.any()))
        return late.LateCopy(flags)

    def without_ended(self, size: int) -> _Bucket:
        """A bucket of so many rows with all rows that are alive; this one if it is not smaller."""
        if size >= len(self.states.t):
            return self
        self.close()
        rows = torch.argsort(self.states.alive(), descending=True, stable=True)[:size]
        constants = RowConstants(*(x.index_select(0, rows) for x in self.constants))
        return _Bucket(
            self.solve,
            self.field.select(rows),
            self.tol.select(rows),
            constants,
            self.states.select(rows),
            self.record,
        )

    def close(self) -> None:
        """Store where the rows are, and give their steps to the record."""
        solve = self.solve
        states = self.states
        index = self.constants.index
        solve.last.index_copy_(0, index, states.y)
        parts = (states.t, states.place, states.accepted, states.rejected, states.status)
        numbers = torch.stack([part.to(torch.float64) for part in parts])
        solve.numbers.index_copy_(1, index, numbers)
        if self.tape is not None:
            self.tape.give(index, self.record)

    def _pass(self, now: RowStates, number: int) -> RowStates:
        """An attempted step of every row that runs, and the outputs in it."""
        end, direction = self.constants.end, self.constants.direction
        running = (now.status == RUNNING) & ~now.waiting
        h, arrived, _ = next_step(Tensors, now.t, now.h, end, self.solve.stop_tolerance, direction)
        idle = IDLE * now.size
        attempt = self.solve.attempts(
            self.field,
            torch.where(running, now.t, now.t - idle),
            torch.where(running, h, idle),
            now.y,
            now.first if self.solve.attempts.carries else None,
        )
        good, broken, factor, past, older = self._judge(attempt, now)
        accepted = running & good
        moved = accepted.unsqueeze(1)
        if self.tape is not None:
            self.tape.write(number, now.t, h, arrived, accepted, now.y)
        after = now._replace(
            t=torch.where(accepted, arrived, now.t),
            y=torch.where(moved, attempt.y1, now.y),
            past=torch.where(running, past, now.past),
            older=torch.where(running, older, now.older),
            accepted=now.accepted + accepted,
            rejected=now.rejected + (running & ~good),
            polynomial=torch.where(moved, attempt.coefficients, now.polynomial),
            began=torch.where(accepted, now.t, now.began),
            size=torch.where(accepted, h, now.size),
        )
        if attempt.last is not None:
            after = after._replace(first=torch.where(moved, attempt.last, now.first))
        if attempt.doubtful is not None:
            after = after._replace(doubtful=now.doubtful | (attempt.doubtful & running))
        after = self._plan(after, h, arrived, running, accepted, factor)
        after = self._end(after, running, running & ~good, broken)
        return self._write_outputs(after)

    def _judge(
        self, attempt: Attempt, now: RowStates
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(masks of the rows whose errors are small enough and of those with values that are not
        finite, factors of the next steps, new ratios of the last two steps), as
        methods/batched/one_step.OneStepRows."""
        method = self.solve.method
        if not method.adaptive or attempt.error is None:
            good = torch.isfinite(attempt.y1).all(1)
            return good, ~good, 1.0 - 0.5 * ~good, now.past, now.older
        ratio = self.tol.ratio_there(attempt.error, now.y, attempt.y1)
        factor, (past, older) = method.controller.control(
            Tensors, ratio, (now.past, now.older), method.error_order
        )
        return ratio <= 1, ~torch.isfinite(ratio), factor, past, older

    def _plan(
        self,
        after: RowStates,
        h: Tensor,
        arrived: Tensor,
        running: Tensor,
        accepted: Tensor,
        factor: Tensor,
    ) -> RowStates:
        """The next steps of the rows. h: of the attempts, which ended at ``arrived``."""
        direction = self.constants.direction
        # A fixed step keeps its size, even if rounding moved the time by a little more or less.
        if self.solve.fixed:
            planned = after.h
        else:
            planned = h
        size = (planned * factor).abs().clamp_max(self.solve.options.max_step)
        size = shortened_sizes(Tensors, size, after.t, arrived, direction, running & ~accepted)
        following = torch.where(running, direction * size, after.h)
        stuck = is_stuck(after.t, following, accepted)
        return after._replace(h=released(Tensors, after.t, following, self.constants.end, stuck))

    def _end(
        self, after: RowStates, running: Tensor, rejected: Tensor, broken: Tensor
    ) -> RowStates:
        """The statuses of the rows that end with this pass."""
        end, least, limit = self.constants.end, self.constants.least, self.constants.limit
        small = too_small(after.t, after.h, least, rejected & broken)
        never = torch.zeros_like(running)
        overflown = never
        if self.solve.fixed:
            overflown = rejected & broken
        reasons = endings(
            over=after.t == end,
            overflown=overflown,
            small=small & short_of(end, after.t, after.h),
            broken=rejected & broken,
            unsolved=never,
            outside=never,
            below=rejected & (after.h.abs() < self.solve.options.min_step),
            many=after.accepted + after.rejected >= limit,
        )
        status = after.status
        for mask, reason in reversed(reasons):
            status = torch.where(mask & running, NUMBERS[reason], status)
        return after._replace(status=status)

    def _write_outputs(self, after: RowStates) -> RowStates:
        """Write the next outputs of the rows that lie in their last steps."""
        solve = self.solve
        index, direction = self.constants.index, self.constants.direction
        slots = torch.arange(solve.slots + 1, device=index.device).unsqueeze(1)
        places = (after.place + slots) * solve.batch + index
        moments = solve.times.index_select(0, places.view(-1)).view(places.shape)
        due = direction * (moments - after.t) <= 0
        ready = due[:-1]
        theta = torch.where(ready, (moments[:-1] - after.began) / after.size, 0.0)
        goals = torch.where(ready, places[:-1], solve.count * solve.batch + index).view(-1)
        _write(solve.ys, goals, after.polynomial, theta)
        if solve.slopes is not None:
            numbers = torch.arange(1, len(after.polynomial), device=index.device)
            coefficients = after.polynomial[1:] * numbers.view(-1, 1, 1).to(after.y)
            _write(solve.slopes, goals, coefficients / after.size.to(after.y).unsqueeze(1), theta)
        return after._replace(place=after.place + ready.sum(0), waiting=due[-1])


def _write(table: Tensor, goals: Tensor, coefficients: Tensor, theta: Tensor) -> None:
    """Write values of polynomials, (degree + 1, m, n), at theta, (k, m), into the places ``goals``,
    (k m,), of a table, (T + 1, B, n)."""
    value = coefficients[0].expand(len(theta), -1, -1)
    for power, part in enumerate(coefficients[1:].unbind(0), 1):
        value = value + (theta**power).to(part).unsqueeze(2) * part
    size = table.shape[2]
    table.view(-1, size).index_copy_(0, goals, value.reshape(-1, size))
