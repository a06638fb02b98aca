"""A solve as a chain of segments, each from one event with a reset, preset time or jump of f to the
next. Most solves have one segment.

Each segment is differentiable by itself (an Integrate node). Ordinary tensor operations join the
segments, so that autograd composes the gradient:
- the time of an event, by the implicit function theorem: dt* = -(dg at fixed t*) / (dg/dt + dg/dy
  dy/dt);
- the state there, y* + dy/dt dt*, and the user's reset of it;
- the start of the next segment, y - f dt*: how a later start changes a solution. Together these
  are the saltation matrix (Hiskens & Pai, IEEE Trans. Circuits Syst. I 47 (2000), eq. 26-30).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ...core.autograd import FirstOrderOnly
from ...core.events import EventRecord, common_times
from ...core.layout import check_values
from ...core.solution import DenseSegment
from ...core.status import Status
from ...core.trajectory import Trajectory
from .event_detection import EventDetector
from .event_time_gradient import moved_time, saltated, same_instant
from .simultaneous_events import Queue, rounding, signs_of

if TYPE_CHECKING:
    from ...core.events import Event, PresetTimes
    from ...core.vector_field import VectorField
    from .event_detection import EventHit

# (state, time, status) after what happens at one time. The status is None if the solve goes on.
After: TypeAlias = tuple[Any, Any, Status | None]

# If one event resets the state this often at the same instant, the solve ends: a ball has come to
# rest. It would fall through the floor.
ZENO = 3


class Segment(NamedTuple):
    """rows: (m, n) outputs. event_states: (k, n) states at path.hits. Both are differentiable.
    piece: for the dense output."""

    rows: torch.Tensor
    event_states: torch.Tensor
    piece: DenseSegment


class ScheduledStop(NamedTuple):
    """A time at which a segment begins. time: the same t, 0-d float64 with its gradient; preset:
    None for a jump of f."""

    t: float
    time: torch.Tensor
    preset: PresetTimes | None
    event: int
    index: int  # type: ignore[assignment]


def scheduled_stops(
    presets: Iterable[tuple[int, PresetTimes]], jumps: Tensor, values: Sequence[float]
) -> list[ScheduledStop]:
    """The stops inside the span, in the order in which the solve meets them. A preset time at the
    start counts."""
    if values[-1] > values[0]:
        direction = 1.0
    else:
        direction = -1.0
    sources: list[tuple[int, PresetTimes | None, Tensor]]
    sources = [(e, p, common_times(p.times, "the times of PresetTimes")) for e, p in presets]
    sources.append((-1, None, common_times(jumps, "jumps")))
    stops = [
        ScheduledStop(t, time, preset, e, i)
        for e, preset, times in sources
        for i, (t, time) in enumerate(zip(times.detach().tolist(), times, strict=True))
    ]
    inside = [
        b
        for b in stops
        if direction * (b.t - values[0]) >= 0 and direction * (values[-1] - b.t) >= 0
    ]
    return sorted(inside, key=lambda b: direction * b.t)


class SegmentedSolve:
    """Runs the segments. After ``run``: ys (m, n) at the first m times, slopes (their dy/dt from
    the second on, or none), records, pieces, path (the last segment's trajectory, or None), status
    and t.

    segment(y, times, watch, origin) -> Segment, origin: what changed the state or f before it.
    values: list of output times; events: list of (number, Event); bounds: from ``scheduled_stops``.
    At the time of a reset the output is the state after it (the solution is continuous from the
    right).
    """

    def __init__(
        self,
        field: VectorField,
        segment: Callable[..., Segment],
        values: Sequence[float],
        events: Sequence[tuple[int, Event]],
        bounds: list[ScheduledStop],
        slopes: bool,
    ) -> None:
        self.field = field
        self.segment = segment
        self.values = values
        self.with_slopes = slopes
        self.numbers = [n for n, _ in events]
        self.events: list[Any] = [event for _, event in events]
        self.bounds = bounds
        largest = torch.tensor(max(abs(values[0]), abs(values[-1])), dtype=field.dtype)
        self.spacing = torch.nextafter(largest, 2 * largest) - largest
        self.jumps = {bound.t for bound in bounds if bound.preset is None}
        if values[-1] > values[0]:
            self.direction = 1.0
        else:
            self.direction = -1.0
        self.counts = [0] * len(events)
        self.rows: list[Tensor] = []
        self.slopes: list[Tensor] = []
        self.records: list[EventRecord] = []
        self.pieces: list[DenseSegment] = []
        self.position = 0
        self.path: Any = None
        self.origin: str | None = None  # what has changed the state or f since the last segment
        # Of the last segment; stopped: the record of the terminal event.
        self.signs: Any = None
        self.watch: Any = None
        self.stopped: EventRecord | None = None
        # By event: (time of its last reset, how often in a row it followed the one before at once).
        self.latest: dict[int, tuple[float, int]] = {}

    def run(self, y: Tensor, time: Tensor) -> SegmentedSolve:
        """y: (n,) at time (0-d float64), both with their gradients; returns self."""
        t = self.values[0]
        end = self.values[-1]
        while True:
            y, time, status = self._pass_stops(t, y, time)
            self._write_output(t, y)
            if status is None and t == end:
                status = Status.SUCCESS
            if status is not None:
                break
            if self.bounds:
                stop = self._before(self.bounds[0].t)
            else:
                stop = end
            if self._later(stop, t):
                status, t, y, time = self._advance(t, y, time, stop)
            if status is not None:
                break
            if self.bounds and not self._later(stop, t):
                while self.position < len(self.values) and self._later(
                    self.bounds[0].t, self.values[self.position]
                ):
                    self._write_output(self.values[self.position], y)
                t = self.bounds[0].t
        if self.path is None and not status.success:  # before the first segment
            self.path = Trajectory(t, y.detach(), None, 0.0)
        self.status = status
        self.t = t
        if len(self.rows) == 1:
            self.ys = self.rows[0]
        else:
            self.ys = torch.cat(self.rows)
        return self

    def _later(self, a: float, b: float) -> bool:
        return self.direction * (a - b) > 0

    def _beside(self, t: float, direction: float) -> float:
        """The time next to t in a direction, in the dtype in which f receives the time. It is as
        far from t as the largest times of the solve are from one another: a stage at the end of a
        step can lie beyond it by rounding, but never beyond t."""
        rounded = torch.tensor(t, dtype=self.field.dtype)
        return float(rounded + direction * self.spacing)

    def _before(self, t: float) -> float:
        return self._beside(t, -self.direction)

    def _begin(self, t: float, stop: float) -> float:
        """Where a segment from t starts: just after a jump of f, because at the jump f may still
        have its old value."""
        if t in self.jumps:
            beyond = self._beside(t, self.direction)
        else:
            beyond = t
        if self._later(stop, beyond):
            return beyond
        return t

    def _write_output(self, t: float, y: Tensor) -> None:
        """Keep y as an output if the next output time is t."""
        if self.position < len(self.values) and self.values[self.position] == t:
            self.rows.append(y.unsqueeze(0))
            if self.with_slopes and self.position:
                self.slopes.append(self._slope(t, y))
            self.position += 1

    def _slope(self, t: float, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self.field.dydt(t, y.detach())

    def _advance(
        self, t: float, y: Tensor, time: Tensor, stop: float
    ) -> tuple[Status | None, float, Tensor, Tensor]:
        """One segment from (t, y). Return (status, t, y, time); the status is None if the solve
        goes on."""
        start = y
        moves = time.requires_grad and torch.is_grad_enabled()
        t = self._begin(t, stop)
        if moves:
            begin = FirstOrderOnly.apply(time, "the time at which a segment of the solve starts")
            start = saltated(y, self._slope(t, y), -begin)
        first = self.position
        if stop == self.values[-1]:
            self.position = len(self.values)
        while self.position < len(self.values) and not self._later(
            self.values[self.position], stop
        ):
            self.position += 1
        times = [t, *self.values[first : self.position]]
        if times[-1] != stop:
            times.append(stop)
        watch: Any = None
        if self.events:
            watch = EventDetector(self.events, self.field, self.counts, self.signs)
        self.watch = watch
        segment = self.segment(start, times, watch, self.origin)
        self.origin = None
        path: Any = segment.piece.path
        self.path = path
        self.pieces.append(segment.piece)
        cut = path.status is Status.EVENT
        done = cut and any(watch.stops(hit.event) and hit.t == path.t for hit in path.hits)
        # The output at the time of a reset is the state after it.
        reached = path.output_count - 1
        if cut and not done:
            reached = sum(1 for s in times[1 : path.output_count] if s != path.t)
        self.position = first + min(reached, self.position - first)
        count = self.position - first
        if count:
            self.rows.append(segment.rows[1 : 1 + count])
            self.slopes.extend(path.slopes[:count])
        if watch is not None:
            self.counts = watch.counts
        if not cut:
            for hit, row in zip(path.hits, segment.event_states, strict=True):
                self.records.append(self._record(hit, row)[0])
            if path.status is not Status.SUCCESS:
                return (
                    path.status,
                    path.t,
                    segment.rows[-1],
                    torch.tensor(path.t, dtype=torch.float64),
                )
            if watch is None:
                self.signs = None
            else:
                self.signs = watch.final
            return None, path.t, segment.rows[-1], torch.tensor(path.t, dtype=torch.float64)
        self.signs = watch.final
        y, time, status = self._through_reset(segment, done)
        if status is not None:
            self._write_output(path.t, y)
        return status, path.t, y, time

    def _through_reset(self, segment: Segment, done: bool) -> After:
        """Make the records of the events at which a segment ended. Return (state, time, status)
        after them."""
        path: Any = segment.piece.path
        located = []
        for hit, row in zip(path.hits, segment.event_states, strict=True):
            record, state = self._record(hit, row)
            if hit.t != path.t:
                self.records.append(record)
            else:
                located.append((hit.event, hit.index, (record, state)))
        if done:
            self.records += [record for _, _, (record, _) in located]
            record, state = next(pair for e, _, pair in located if self.watch.stops(e))
            return state, record.t, self._stop(record)
        stalled = [self._stalled(e, path.t) for e in {e for e, _, _ in located}]
        y, time, status = self._occur(path.t, None, None, located)
        return y, time, Status.MAX_EVENTS if status is None and any(stalled) else status

    def _stop(self, record: EventRecord) -> Status:
        self.stopped = record
        return Status.EVENT

    def _occur(
        self,
        t: float,
        y: Any,
        time: Any,
        located: Iterable[tuple[int, int, Any]],
    ) -> After:
        """(state, time, status) after the events at t: those in ``located``, (event, index,
        (record, state)), and the events that their resets make true. y, time: None if the first
        event with a reset provides them."""
        queue = Queue(self.events)
        queue.add(located)
        while queue:
            e, index, hit = queue.pop()
            event = self.events[e]
            if queue.endless:
                return y, time, Status.CASCADE
            if hit is None:
                self.counts[e] += 1
                if self.watch.exceeds(e):
                    return y, time, Status.MAX_EVENTS
                state = self.field.layout.unravel(y)
                record = EventRecord(time, state, state, self.numbers[e], index, event.name)
            else:
                record, own = hit
                if y is not None:
                    record = replace(record, y=self.field.layout.unravel(y))
                elif event.reset is not None:
                    y = own
                    time = record.t
            self.records.append(record)
            if hit is None and self.watch.stops(e):
                return y, time, self._stop(record)
            if event.reset is not None:
                y = self._reset(event, time, y)
                self.records[-1] = replace(record, after=self.field.layout.unravel(y))
                queue.add(self._made_true(t, y, (e, index)))
        return y, time, None

    def _made_true(
        self, t: float, y: Tensor, own: tuple[int, int] | None = None
    ) -> list[tuple[int, int, None]]:
        """(event, index, None) of the conditions that a change of the state at t fires. own: the
        event and index that made this change."""
        fires, self.signs = self.signs.crossed(
            self.watch.values(t, y), rounding(y), self.watch.directions
        )
        return [
            (*owner, None)
            for owner, fire in zip(self.watch.owners, fires, strict=True)
            if fire and owner != own
        ]

    def _stalled(self, e: int, t: float) -> bool:
        """Whether event e, at t, follows itself ZENO times while no time passes."""
        last, repeats = self.latest.get(e, (-math.inf, 0))
        if same_instant(t, last, self.values[-1] - self.values[0]):
            repeats = repeats + 1
        else:
            repeats = 0
        self.latest[e] = t, repeats
        return repeats >= ZENO

    def _clock(self, t: Tensor) -> Tensor:
        """A time (1,) in the form that conditions receive."""
        return t.squeeze(0).to(self.field.dtype)

    def _condition(self, event: Event, t: Tensor, y: Tensor, index: int) -> Tensor:
        return event.value(t, self.field.layout.unravel(y), self.field.args)[index]

    def _record(self, hit: EventHit, y: Tensor) -> tuple[EventRecord, Tensor]:
        """(record, state (n,)) of an event; y: (n,), differentiable at fixed time."""
        event = self.events[hit.event]
        time = torch.tensor(hit.t, dtype=torch.float64)
        if torch.is_grad_enabled():
            time, y = self._implicit(event, hit, time, y)
        state = self.field.layout.unravel(y)
        return EventRecord(time, state, state, self.numbers[hit.event], hit.index, event.name), y

    def _implicit(
        self, event: Event, hit: EventHit, time: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Time and state of the event with their derivatives. Those of a grazing event are
        infinite."""

        def g(t: Tensor, y: Tensor) -> Tensor:
            return self._condition(event, t, y, hit.index)

        slope = hit.slope.detach().clone()
        moved = moved_time(g, self._clock, hit.t, self.values[0], y, slope, event.name)
        if moved is None:
            return time, y
        time = time + moved.to(time)
        return time, saltated(y, slope, time)

    def _pass_stops(self, t: float, y: Tensor, time: Tensor) -> After:
        """(state, time, status) after the boundaries at t and the events that they make true."""
        if not (self.bounds and self.bounds[0].t == t):
            return y, time, None
        if self.events and self.signs is None:
            self.watch = EventDetector(self.events, self.field, self.counts)
            self.counts = self.watch.counts
            self.signs = signs_of(self.watch.values(t, y), rounding(y))
        again = False
        while self.bounds and self.bounds[0].t == t:
            bound = self.bounds.pop(0)
            moved = torch.is_grad_enabled()
            if moved and again and time.requires_grad:
                # The bound before this one has a time of its own.
                shift = FirstOrderOnly.apply(time, "the times of resets and jumps") - t
                y = y - self._slope(self._before(t), y) * shift.to(y)
            again = True
            if moved and bound.time.requires_grad:
                shift = FirstOrderOnly.apply(bound.time, "the times of resets and jumps") - bound.t
                y = y + self._slope(self._before(t), y) * shift.to(y)
            time = bound.time
            if bound.preset is None:
                self.origin = "the jump of f"
            else:
                before = self.field.layout.unravel(y)
                y = self._reset(bound.preset, time, y)
                after = self.field.layout.unravel(y)
                self.records.append(
                    EventRecord(time, before, after, bound.event, bound.index, bound.preset.name)
                )
        if self.events:
            return self._occur(t, y, time, self._made_true(t, y))
        return (y, time, None)

    def _reset(self, event: Any, time: Tensor, y: Tensor) -> Tensor:
        """The state, (n,), after the user's reset of y. Raises TypeError or ValueError if the reset
        returns something else."""
        layout = self.field.layout
        try:
            # Copies, because a reset may edit its argument, and the next reset may fill the same
            # memory.
            made = event.reset(time.to(y), layout.unravel(y.clone()), *self.field.args)
            new = layout.ravel(made)
            check_values(new, "the new state")
            new = new.clone()
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"in the reset of {event.name!r}, which must return a state like y0: {error}"
            ) from error
        if new.dtype != y.dtype:
            raise TypeError(
                f"the reset of {event.name!r} returned {new.dtype} for a state of {y.dtype}"
            )
        if not torch.equal(new.detach(), y.detach()):
            self.origin = f"the reset of {event.name!r}"
        return new
