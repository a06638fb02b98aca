"""The torch engine for batches: every row has its own step, order, Newton iteration and end.

One pass of the loop tries one step of every row that is still running. A stepper of the family
(methods/batched/base.py) says which rows completed a step, and has the polynomials of these steps.
This file keeps the times, outputs and ends of the rows, and drops finished rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.arithmetic import Arrays, Tensors
from ...core.norm import RowTolerance
from ...core.row_control import endings, is_stuck, released, short_of, shortened_sizes, too_small
from ...core.row_statuses import NUMBERS, RUNNING, RowStatuses
from ...core.status import Exhausted, Status
from ...core.step_control import (
    FIXED_STOP_TOLERANCE,
    RESOLUTION,
    STOP_TOLERANCE,
    next_step,
    step_of_size,
    step_of_slopes,
)
from ...core.stop_conditions import guarded
from ...core.transfer import tensor, to_device
from .loop import SMALLEST

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.options import Options
    from ...core.stats import Stats
    from ...core.stop_conditions import RowLimits
    from ...methods.base import Method
    from ...methods.batched.base import PassResult
    from .batched_event_detection import BatchEventDetector
    from .batched_tape import RowSteps


# On a device each copy of the rows that go on costs as much as an operation of the step. So rows
# that have ended are carried along until they are an eighth of all.
PATIENCE = 8


class RowSpans(NamedTuple):
    """The spans of the rows, NumPy: from start to end, (m,), with outputs at times, (T, m),
    beginning at place (m,). Steps end at the stops, (k,), sorted, and at other times. attempts:
    (m,), the steps that the rows have already tried."""

    start: np.ndarray
    end: np.ndarray
    times: np.ndarray
    place: np.ndarray
    stops: np.ndarray
    attempts: np.ndarray


class Rows:
    """Outputs and ends of a batch. ys: (T, m, n), NaN for times that a row did not reach; statuses:
    one for each row; t: the times that the rows reached; last: the states there, (m, n); place: of
    the next output of each row.

    slopes: dy/dt of the polynomials at the outputs, (T, m, n), or None. attempts: (m,), all
    attempted steps."""

    def __init__(self, y0: Tensor, spans: RowSpans, slopes: bool) -> None:
        self.ys = y0.new_full((len(spans.times), *y0.shape), math.nan)
        self.slopes: Any
        if slopes:
            self.slopes = torch.zeros_like(self.ys)
        else:
            self.slopes = None
        self.statuses = RowStatuses.running(len(y0))
        self.last = y0.clone()
        self.t = spans.start.copy()
        self.place = spans.place.copy()
        self.attempts = spans.attempts.copy()

    def finish(self, clock: RowClock, which: np.ndarray, states: Tensor) -> None:
        """Store the ends of the rows in ``which``, places in the clock."""
        index = clock.index[which]
        self.last.index_copy_(0, tensor(index, states), states)
        self.t[index], self.place[index] = clock.t[which], clock.place[which]
        self.attempts[index] += clock.accepted[which] + clock.rejected[which]


class RowClock:
    """Times of the running rows, NumPy arrays (m,): t, h, end, the next stop, direction, place and
    time of the next output (infinity if none is left), accepted and rejected steps and their limit,
    the least |h|, and index, the numbers of the rows. done: whether the row has ended, and only
    waits to be left out."""

    _NAMES = (
        "index",
        "t",
        "end",
        "stop",
        "direction",
        "h",
        "place",
        "next_output_time",
        "accepted",
        "rejected",
        "limit",
        "least",
        "done",
    )

    def __init__(self, spans: RowSpans, h: np.ndarray, options: Options) -> None:
        count = len(spans.start)
        self.index = np.arange(count)
        self.stops = spans.stops
        self.t = spans.start
        self.end = spans.end
        self.direction = np.sign(self.end - self.t)
        self.times = np.vstack((spans.times, self.direction * np.inf))
        self.h = self.direction * np.minimum(h, np.abs(self.end - self.t))
        self.stop = self.end
        self.place = spans.place.copy()
        self.next_output_time = self.times[self.place, self.index]
        self.accepted = np.zeros(count, dtype=np.int64)
        self.rejected = np.zeros(count, dtype=np.int64)
        self.limit = options.max_steps - spans.attempts
        if options.step_size is None:
            self.stop_tolerance = STOP_TOLERANCE
        else:
            self.stop_tolerance = FIXED_STOP_TOLERANCE
        self.arrived = self.t
        self.done = np.zeros(count, dtype=bool)
        self.least = np.maximum(SMALLEST * np.abs(self.h), sys.float_info.min)
        if len(self.stops):
            self.stop = self.stop.copy()
            self.pass_stops(self.index)

    def select(self, keep: np.ndarray) -> None:
        for name in self._NAMES:
            setattr(self, name, getattr(self, name)[keep])

    def next_steps(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, t + h) of every row."""
        h, after, _ = next_step(
            Arrays, self.t, self.h, self.stop, self.stop_tolerance, self.direction
        )
        return h, after

    def pass_stops(self, which: np.ndarray) -> None:
        """The next stop of the rows in ``which``: the first common stop before the end of the row,
        or the end."""
        forward = self.direction[which] > 0
        least = self.least[which]
        count = len(self.stops)
        t = self.t[which] + self.direction[which] * least  # the nearest that a step can end at
        place = np.where(
            forward,
            np.searchsorted(self.stops, t, "right"),
            np.searchsorted(self.stops, t, "left") - 1,
        )
        ahead = self.stops[np.clip(place, 0, count - 1)]
        inside = (
            (place >= 0)
            & (place < count)
            & (self.direction[which] * (self.end[which] - ahead) > least)
        )
        self.stop[which] = np.where(inside, ahead, self.end[which])

    def pass_outputs(self, which: np.ndarray) -> None:
        """Move to the next outputs of the rows in ``which``."""
        place = self.place[which] + 1
        self.place[which] = place
        self.next_output_time[which] = self.times[place, self.index[which]]


def first_steps(
    field: RowField,
    t: Tensor,
    end: Tensor,
    y: Tensor,
    f0: Tensor,
    order: int,
    tol: RowTolerance,
    longest: float,
) -> Tensor:
    """|h| of every row's first step, (m,), as step_control.first_step."""
    scale = tol.scale(y)
    d0 = tol.rms(y, scale)
    d1 = tol.rms(f0, tol.scale_or_inf(scale))
    span = (end - t).abs()
    h0 = torch.minimum(step_of_size(Tensors, d0, d1, span), span).clamp(max=longest)
    step = (torch.sign(end - t) * h0).unsqueeze(1).to(y.dtype)
    y1 = y + step * f0
    d2 = (
        tol.rms(
            field(t + step.squeeze(1).to(t.dtype), y1) - f0,
            tol.scale_or_inf(tol.grow_scale(scale, y1)),
        )
        / h0
    )
    h = torch.minimum(step_of_slopes(Tensors, d1, d2, order), 100 * h0)
    h = torch.minimum(h, span).clamp(max=longest)
    careful = torch.minimum(h0, 1e-3 * h0 + 1e-12 * span)
    return torch.where(torch.isfinite(d1 * h0 + d2 * h0 * h0), h, careful)


def first_attempts(
    field: RowField,
    method: Method,
    y0: Tensor,
    spans: RowSpans,
    options: Options,
    tol: RowTolerance,
) -> tuple[Tensor, Tensor, np.ndarray]:
    """(times (m,), f (m, n) and |h| of the first attempts (m,) NumPy) at the starts y0, (m, n)."""
    t0, end = (to_device(t, y0.device) for t in (spans.start, spans.end))
    f0 = field(t0, y0)
    if options.first_step is not None or options.step_size is not None:
        given: Any = options.first_step or options.step_size
        first = torch.full_like(t0, given)
    else:
        first = first_steps(field, t0, end, y0, f0, method.error_order, tol, options.max_step)
    size = first.cpu().numpy()
    if options.step_size is None:
        size = np.maximum(size, RESOLUTION * np.abs(spans.start))
    return t0, f0, np.minimum(size, options.max_step)


def integrate(
    field: RowField,
    stepper_type: Callable[..., Any],
    method: Method,
    y0: Tensor,
    spans: RowSpans,
    options: Options,
    atol: Tensor,
    record: RowSteps | None = None,
    slopes: bool = False,
    watch: BatchEventDetector | None = None,
    limits: RowLimits | None = None,
    index: Any = None,
) -> Rows:
    """Integrate all rows over their spans; y0: (m, n). A row that fails ends with its own status,
    and the others continue.

    record: a RowSteps that stores the steps, or None. watch: a BatchEventDetector that looks for
    events, or None; an event that changes a state ends its row. limits: RowLimits, or None; index:
    (m,) numbers of the rows in the whole batch, for the limits."""
    tol = RowTolerance(options.rtol, atol, y0.shape[1])
    t0, f0, size = first_attempts(field, method, y0, spans, options, tol)
    rows = Rows(y0, spans, slopes)
    clock = RowClock(spans, size, options)
    stepper = stepper_type(method, field, y0, f0, clock.h, tol)
    if record is not None:
        record.start = (t0, y0, clock.h)
        record.f0 = f0
    if watch is not None:
        watch.begin(field, t0, y0)
    _end_broken_starts(rows, clock, stepper, f0)
    _end_spent(rows, clock, stepper)
    if limits is not None:
        _end_refused_starts(rows, clock, stepper, limits, index, spans.attempts == 0)
        stepper.refused = partial(_refused, clock, limits, index)
    if options.max_nfe is None:
        most = math.inf
    else:
        most = options.max_nfe
    # The number of ended rows that is worth the copies of all others.
    patience = 1
    if stepper.carries_ended and not y0.is_cpu and options.max_nfe is None:
        if limits is None and watch is None:
            patience = PATIENCE
    with guarded(field.stats, most, limits):
        while len(clock.index):
            before: Any = _states_before(clock, stepper, field.stats)
            try:
                h, arrived, result, cut = _pass(clock, stepper, record, watch)
            except Exhausted as limit:
                _end_exhausted(rows, clock, before, limit.status, field.stats)
                break
            ended = _commit(rows, clock, result, h, arrived, cut, options, field.stats)
            if limits is not None:
                stopped = _end_limited(
                    rows, clock, stepper, result, ended, limits, index, field.stats
                )
                if watch is not None:
                    watch.stop(clock.index[stopped & ended], Status.CALLBACK)
                ended |= stopped
            _end(rows, clock, stepper, ended, patience)
    if watch is not None:
        watch.finish(rows)
    return rows


def _leave_out(rows: Rows, clock: RowClock, stepper: Any, ended: np.ndarray) -> None:
    """End the rows of a mask, (m,), and leave them out."""
    _end(rows, clock, stepper, ended, 1)


def _end(rows: Rows, clock: RowClock, stepper: Any, ended: np.ndarray, patience: int) -> None:
    """End the rows of a mask, (m,). All rows that have ended are left out as soon as there is one
    of them in ``patience`` rows, or no other row is left."""
    if not np.count_nonzero(ended):
        return
    gone = ended.nonzero()[0]
    rows.finish(clock, gone, stepper.states(gone))
    clock.done = clock.done | ended
    count = np.count_nonzero(clock.done)
    if patience == 1 or patience * count >= len(ended):
        keep = (~clock.done).nonzero()[0]
        clock.select(keep)
        stepper.select(keep)


def _end_broken_starts(rows: Rows, clock: RowClock, stepper: Any, f0: Tensor) -> None:
    """End the rows with a first slope, f0 (m, n), that is not finite at their starts."""
    broken = (~torch.isfinite(f0).all(dim=1)).cpu().numpy()
    rows.statuses[clock.index[broken]] = Status.NONFINITE
    _leave_out(rows, clock, stepper, broken)


def _pass(
    clock: RowClock, stepper: Any, record: RowSteps | None, watch: BatchEventDetector | None
) -> tuple[np.ndarray, np.ndarray, PassResult, np.ndarray | None]:
    """One pass: (h, t + h, PassResult, mask of the rows that an event ends, or None)."""
    h, arrived = clock.next_steps()
    clock.arrived = arrived
    result = stepper.advance(clock.t, h)
    if np.count_nonzero(clock.done):
        running = ~clock.done
        result = result._replace(
            accepted=result.accepted & running, rejected=result.rejected & running
        )
    if record is not None and result.accepted.any():
        record.add(clock, np.flatnonzero(result.accepted), h, arrived, result.tape)
    cut = None
    if watch is not None and np.count_nonzero(result.accepted):
        arrived, cut = watch.check_step(clock, result, h, arrived, stepper.states)
    return h, arrived, result, cut


def _states_before(clock: RowClock, stepper: Any, stats: Stats) -> Tensor | None:
    """The states of the running rows, (m, n), if a limit may end the pass before it is complete, or
    None."""
    if stats.guard is None:
        return None
    return stepper.states(np.arange(len(clock.index)))


def _end_exhausted(
    rows: Rows, clock: RowClock, states: Tensor, status: Status, stats: Stats
) -> None:
    """End all running rows at their states before the pass, (m, n)."""
    rows.statuses[clock.index] = status
    _count(clock, np.ones(len(clock.index), dtype=bool), stats)
    rows.finish(clock, np.arange(len(clock.index)), states)


def _refused(
    clock: RowClock, limits: RowLimits, index: Tensor, which: np.ndarray, y: Tensor, start: Tensor
) -> np.ndarray:
    """The mask of the rows in ``which``, places in the clock, whose steps may not end at y."""
    rows = index[tensor(clock.index[which], index)]
    return limits.refused(rows, to_device(clock.arrived[which], y.device), y, start)


def _end_spent(rows: Rows, clock: RowClock, stepper: Any) -> None:
    """End the rows that used up their steps in earlier segments at their starts."""
    spent = clock.limit <= 0
    rows.statuses[clock.index[spent]] = Status.MAX_STEPS
    _leave_out(rows, clock, stepper, spent)


def _end_refused_starts(
    rows: Rows, clock: RowClock, stepper: Any, limits: RowLimits, index: Tensor, untried: np.ndarray
) -> None:
    """End the rows with an impossible first state at their starts. untried: (m,) mask of the rows
    without earlier steps."""
    refused = np.zeros(len(clock.index), dtype=bool)
    which = untried[clock.index].nonzero()[0]
    if not len(which):
        return
    y = stepper.states(which)
    numbers = index[tensor(clock.index[which], index)]
    t = to_device(clock.t[which], y.device)
    refused[which] = limits.refused(numbers, t, y, None)
    rows.statuses[clock.index[refused]] = Status.DOMAIN
    _leave_out(rows, clock, stepper, refused)


def _end_limited(
    rows: Rows,
    clock: RowClock,
    stepper: Any,
    result: PassResult,
    ended: np.ndarray,
    limits: RowLimits,
    index: Tensor,
    stats: Stats,
) -> np.ndarray:
    """The mask of further rows that end after a pass: all rows if the time is up, otherwise the
    rows that the callback ends. Calls the callback if a row completed a step."""
    stopped = np.zeros(len(ended), dtype=bool)
    if limits.callback is not None and np.count_nonzero(result.accepted):
        every = np.arange(len(ended))
        y = stepper.states(every)
        t = to_device(clock.t, y.device)
        present = replace(
            stats,
            accepted=stats.accepted + int(clock.accepted[~ended].sum()),
            rejected=stats.rejected + int(clock.rejected[~ended].sum()),
        )
        stopped = limits.ended(index[tensor(clock.index, index)], t, y, present)
    late = ~(ended | stopped) & limits.expired()
    # A row that failed keeps its status.
    good = rows.statuses.good()[clock.index]
    rows.statuses[clock.index[stopped & (~ended | good)]] = Status.CALLBACK
    rows.statuses[clock.index[late]] = Status.MAX_SECONDS
    _count(clock, (stopped | late) & ~ended, stats)
    return stopped | late


def _commit(
    rows: Rows,
    clock: RowClock,
    result: PassResult,
    h: np.ndarray,
    arrived: np.ndarray,
    cut: np.ndarray | None,
    options: Options,
    stats: Stats,
) -> np.ndarray:
    """Outputs, new times and ends after one pass; cut: mask of the rows that an event ends, or
    None. Returns the mask of all rows that end here, (m,)."""
    accepted = result.accepted
    rejected = result.rejected
    ready = accepted & (clock.direction * (clock.next_output_time - arrived) <= 0)
    if np.count_nonzero(ready):
        _write_outputs(rows, clock, ready.nonzero()[0], result.polynomial, h, arrived)
    clock.accepted += accepted
    clock.rejected += rejected
    clock.t = np.where(accepted, arrived, clock.t)
    # A fixed step keeps its size, even if rounding moved the time by a little more or less.
    if options.step_size is None:
        planned = h
    else:
        planned = clock.h
    size = np.minimum(np.abs(planned * result.factor), options.max_step)
    if len(clock.stops):
        at_stop = accepted & (clock.t == clock.stop)
        if np.count_nonzero(at_stop):
            # The step was shortened to end at a stop, not because of its error.
            size = np.where(at_stop, np.maximum(size, np.abs(clock.h)), size)
            clock.pass_stops(at_stop.nonzero()[0])
    if np.count_nonzero(rejected):
        size = shortened_sizes(Arrays, size, clock.t, arrived, clock.direction, rejected)
    clock.h = np.where(accepted | rejected, clock.direction * size, clock.h)
    stuck = is_stuck(clock.t, clock.h, accepted)
    if np.count_nonzero(stuck):
        clock.h = released(Arrays, clock.t, clock.h, clock.end, stuck)
    return _end_rows(rows, clock, result, cut, options, stats)


def _end_rows(
    rows: Rows,
    clock: RowClock,
    result: PassResult,
    cut: np.ndarray | None,
    options: Options,
    stats: Stats,
) -> np.ndarray:
    """The mask of the rows that end after a pass, (m,). Also stores their statuses and counts."""
    over = clock.t == clock.end
    edge = result.outside | (result.rejected & result.broken)
    small = too_small(clock.t, clock.h, clock.least, edge)
    if np.count_nonzero(small):
        small &= short_of(clock.stop, clock.t, clock.h)
    below = result.rejected & (np.abs(clock.h) < options.min_step)
    # Fixed steps have no error test to notice this, and the user did not ask for a smaller step.
    overflown = np.zeros(len(over), dtype=bool)
    if options.step_size is not None:
        overflown = result.rejected & result.broken & ~result.unsolved
    many = clock.accepted + clock.rejected >= clock.limit
    ended = over | small | below | many | overflown
    if cut is not None:
        ended |= cut
    if options.max_nfe is not None and stats.nfe >= options.max_nfe:
        ended[:] = True
    ended &= ~clock.done
    if not np.count_nonzero(ended):
        return ended
    # The first that applies to a row is its status.
    reasons = endings(
        over=over,
        overflown=overflown,
        small=small,
        broken=result.broken,
        unsolved=result.unsolved,
        outside=result.outside,
        below=below,
        many=many,
    )
    reasons.append((ended, Status.MAX_EVALUATIONS))
    numbers = np.select(
        [mask for mask, _ in reasons], [NUMBERS[status] for _, status in reasons], RUNNING
    )
    rows.statuses.numbers[clock.index[ended]] = numbers[ended]
    _count(clock, ended, stats)
    return ended


def _count(clock: RowClock, which: np.ndarray, stats: Stats) -> None:
    """Add the steps of the rows in the mask to the counts of the solve."""
    stats.accepted += int(clock.accepted[which].sum())
    stats.rejected += int(clock.rejected[which].sum())


def _write_outputs(
    rows: Rows,
    clock: RowClock,
    which: np.ndarray,
    polynomial: Callable[[np.ndarray], Tensor],
    h: np.ndarray,
    arrived: np.ndarray,
) -> None:
    """Write the outputs inside the last step of the rows in ``which`` (indices)."""
    coefficients = polynomial(which)
    flat = rows.ys.view(-1, rows.ys.shape[2])
    powers = np.arange(len(coefficients))[:, None]
    while True:
        theta = (clock.next_output_time[which] - clock.t[which]) / h[which]
        value = (coefficients * tensor(theta**powers, coefficients).unsqueeze(2)).sum(0)
        places = tensor(clock.place[which] * len(rows.statuses) + clock.index[which], flat)
        flat.index_copy_(0, places, value)
        if rows.slopes is not None:
            slopes = (
                coefficients[1:]
                * tensor(powers[1:] * theta ** powers[:-1] / h[which], flat).unsqueeze(2)
            ).sum(0)
            rows.slopes.view(flat.shape).index_copy_(0, places, slopes)
        clock.pass_outputs(which)
        more = (
            clock.direction[which] * (clock.next_output_time[which] - arrived[which]) <= 0
        ).nonzero()[0]
        if not len(more):
            return
        coefficients = coefficients.index_select(1, tensor(more, coefficients))
        which = which[more]
