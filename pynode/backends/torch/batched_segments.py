"""A batch of rows as a chain of segments. It is the form of segments.py for many rows, each with
its own events.

A segment takes every running row to its own next event with a reset, preset time or end. Ordinary
tensor operations then change the states of all rows together, so that autograd composes the
gradient as in segments.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.events import EventRecord, RowRecords
from ...core.row_statuses import RowStatuses
from ...core.status import Status
from ...core.transfer import to_device
from .batched_event_detection import condition
from .batched_simultaneous_events import RowEvents, reset_rows
from .event_time_gradient import moved_times, saltated, same_instant
from .segments import ZENO
from .simultaneous_events import place

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.events import Event, PresetTimes
    from .batched_event_detection import BatchEventDetector, RowHits
    from .batched_simultaneous_events import Firing


class BatchSegment(NamedTuple):
    """The result of a segment of m rows. ys: (q, n), the outputs; place, row: (q,), of the outputs;
    slopes: (q, n), dy/dt there, or None; event_states: (h, n), the states at the hits; ends: (m,
    n), the last states. All of them except slopes are differentiable. t, statuses: (m,), the times
    and the reasons of the ends; attempts: (m,), steps so far."""

    ys: torch.Tensor
    place: np.ndarray
    row: np.ndarray
    slopes: torch.Tensor | None
    event_states: torch.Tensor
    ends: torch.Tensor
    t: np.ndarray
    statuses: RowStatuses
    attempts: np.ndarray


class BatchSegmentedSolve:
    """Runs the segments. After ``run``: ys (q, n), the outputs, with places (q,) and rows (q,);
    slopes (q, n), or None; by row: statuses, t, records; ends: the states (n,) of rows that failed.

    segment(rows, y, t, end, place, attempts, watch) -> BatchSegment of the rows named; settle(rows,
    t, y) -> y, the states behind events and jumps that satisfy the algebraic equations; times: (T,
    B) NumPy; events, presets: lists of (number, object); jumps: (k,) times at which f is
    discontinuous, or (B, k), float64. At the time of a reset the output is the state after it.
    """

    def __init__(
        self,
        field: RowField,
        segment: Callable[..., BatchSegment],
        times: np.ndarray,
        events: Sequence[tuple[int, Event]],
        presets: Iterable[tuple[int, PresetTimes]],
        jumps: Tensor,
        with_slopes: bool,
        settle: Callable[[np.ndarray, np.ndarray, Tensor], Tensor],
    ) -> None:
        self.field = field
        self.segment = segment
        self.settle = settle
        self.times = times
        self.with_slopes = with_slopes
        batch = times.shape[1]
        self.end = times[-1]
        # By number: the object (None for the jumps) and its times, (k, B).
        self.sources: dict[int, tuple[Any, Tensor]] = {
            number: (preset, self._by_row(preset.times, preset.name)) for number, preset in presets
        }
        self.sources[-1] = None, self._by_row(jumps, "jumps")
        self.direction = np.sign(times[-1] - times[0])
        self.output_times = np.vstack((times, self.direction * np.inf))
        self.place = np.zeros(batch, dtype=np.int64)
        self.attempts = np.zeros(batch, dtype=np.int64)
        self.latest = np.full((batch, len(events)), -np.inf)
        self.repeats = np.zeros((batch, len(events)), dtype=np.int64)
        self.bound = np.zeros(batch, dtype=np.int64)
        self.statuses = RowStatuses.running(batch)
        self.records = RowRecords(batch)
        self.t = times[0].copy()
        self.row_events = RowEvents(field, events, self.records)
        self._outputs: list[tuple] = []
        self.segments = 0
        self._ends: list[tuple[np.ndarray, Tensor]] = []
        if any(len(moments) for _, moments in self.sources.values()):
            self._order_bounds()
        else:
            # No row has any: nothing reads the rest.
            self.owners = np.zeros((0, batch, 2), dtype=np.int64)
            self.jumps = np.zeros((0, batch))

    def _by_row(self, times: Tensor, name: str) -> Tensor:
        """(k, B) times of (k,) for all rows, or of (B, k)."""
        batch = self.times.shape[1]
        if times.dim() == 2 and len(times) != batch:
            raise ValueError(
                f"the times of {name} are {tuple(times.shape)}, and there are {batch} rows: give a "
                "line for each row"
            )
        if times.dim() == 2:
            times = times.t()
        else:
            times = times.unsqueeze(1).expand(-1, batch)
        return times.to(self.field.device)

    def _order_bounds(self) -> None:
        """Set bounds, (P + 1, B): preset times and jumps, in the order in which each row meets
        them, then infinity; stops: the last times before the bounds that f can distinguish from
        them; owners, (P, B, 2): number and index of each bound; jumps: the jumps of f, (k, B);
        beside: two arrays (k, B), the times next to the jumps."""
        owners = [
            (number, i) for number, (_, times) in self.sources.items() for i in range(len(times))
        ]
        moments: Any = torch.cat([times.detach() for _, times in self.sources.values()]).cpu()
        # As segments.SegmentedSolve._beside.
        largest = np.abs(self.times[[0, -1]]).max(0)
        largest = torch.from_numpy(largest).to(self.field.dtype)
        spacing = torch.nextafter(largest, 2 * largest) - largest
        rounded = moments.to(self.field.dtype)
        around: Any = [rounded - spacing, rounded + spacing]
        forward = self.direction > 0
        count = len(self.sources[-1][1])
        # A row with fewer times than others has NaN for the missing ones. It never reaches them.
        moments, *around = (
            np.where(np.isnan(times), self.direction * np.inf, times)
            for times in (values.to(torch.float64).numpy() for values in (moments, *around))
        )
        jumps = slice(len(moments) - count, None)
        self.jumps = moments[jumps]
        self.beside = [times[jumps] for times in around]
        order = np.argsort(self.direction * moments, axis=0, kind="stable")
        self.owners = np.array(owners, dtype=np.int64).reshape(-1, 2)[order]
        in_order = [np.take_along_axis(times, order, 0) for times in (moments, *around)]
        before = np.where(forward, in_order[1], in_order[2])
        self.bounds, self.stops = (
            np.vstack((times, self.direction * np.inf)) for times in (in_order[0], before)
        )
        self.bound = (self.direction * (self.bounds - self.times[0]) < 0).sum(0)

    def run(self, y: Tensor, time: Tensor) -> BatchSegmentedSolve:
        """y: (B, n) at time (B,) float64, both with their gradients; returns self."""
        rows = np.arange(len(y))
        t = self.times[0].copy()
        while True:
            y, time, going = self._pass_stops(rows, t, y, time)
            self._write_output(rows, t, y, self.output_times[self.place[rows], rows] == t)
            going &= self._end_rows(rows, t, going & (t == self.end[rows]), Status.SUCCESS)
            rows, t, y, time = self._keep(going, rows, t, y, time)
            if not len(rows):
                return self
            t, y, time, going = self._advance(rows, t, y, time)
            rows, t, y, time = self._keep(going, rows, t, y, time)

    def _keep(
        self, going: np.ndarray, rows: np.ndarray, t: np.ndarray, y: Tensor, time: Tensor
    ) -> tuple[np.ndarray, np.ndarray, Tensor, Tensor]:
        if going.all():
            return rows, t, y, time
        index = to_device(going.nonzero()[0], y.device)
        return rows[going], t[going], y[index], time[index]

    def _end_rows(
        self,
        rows: np.ndarray,
        t: np.ndarray,
        ended: np.ndarray,
        status: Status,
        y: Any = None,
    ) -> np.ndarray:
        """End the rows in the mask; returns the mask of the others. y: states, for a report."""
        self.statuses[rows[ended]] = status
        self.t[rows[ended]] = t[ended]
        if y is not None and not status.success:
            self._keep_ends(rows, ended, y)
        return ~ended

    def _keep_ends(self, rows: np.ndarray, ended: np.ndarray, y: Tensor) -> None:
        """Keep the states of the rows in the mask, for a report."""
        which = ended.nonzero()[0]
        if len(which):
            self._ends.append((rows[which], y.detach()[self._tensor(which)]))

    def end_of(self, row: int) -> Tensor:
        """The last state, (n,), of a row that failed."""
        for rows, states in self._ends:
            found = np.flatnonzero(rows == row)
            if len(found):
                return states[int(found[0])]
        raise KeyError(row)

    def _write_output(self, rows: np.ndarray, t: np.ndarray, y: Tensor, ready: np.ndarray) -> None:
        """y as the next output of the rows in the mask."""
        which = ready.nonzero()[0]
        if len(which):
            states = y[self._tensor(which)]
            if self.with_slopes:
                slopes = self._slope(rows[which], t[which], states)
            else:
                slopes = None
            self._outputs.append((self.place[rows[which]], rows[which], states, slopes))
            self.place[rows[which]] += 1

    def _tensor(self, array: np.ndarray) -> Tensor:
        return to_device(array, self.field.device)

    def _select(self, rows: np.ndarray) -> RowField:
        return self.field.select(self._tensor(rows))

    def _slope(self, rows: np.ndarray, t: np.ndarray, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self._select(rows).dydt(self._tensor(t), y.detach())

    def _begin(
        self, rows: np.ndarray, t: np.ndarray, stop: np.ndarray, direction: np.ndarray
    ) -> np.ndarray:
        """Where segments from t to the stops start: just after a jump of f, because at the jump f
        may still have its old value."""
        if not len(self.jumps):
            return t
        begin = t.copy()
        for jump, low, high in zip(self.jumps, *self.beside, strict=True):
            begin = np.where(t == jump[rows], np.where(direction > 0, high[rows], low[rows]), begin)
        return np.where(direction * (stop - begin) > 0, begin, t)

    def _advance(
        self, rows: np.ndarray, t: np.ndarray, y: Tensor, time: Tensor
    ) -> tuple[np.ndarray, Tensor, Tensor, np.ndarray]:
        """One segment of these rows: (t, y, time, mask of the rows that continue)."""
        direction = self.direction[rows]
        bound, bounded, stop = self._next_bounds(rows, t, direction)
        t = self._begin(rows, t, stop, direction)
        if time.requires_grad and torch.is_grad_enabled():
            y = saltated(y, self._slope(rows, t, y), -time)
        if self.segments:
            y = self.settle(rows, t, y)
        watch = self.row_events.watch(rows)
        segment = self.segment(rows, y, t, stop, self.place[rows], self.attempts[rows], watch)
        self.segments += 1
        self.attempts[rows] = segment.attempts
        cut = segment.statuses.are(Status.EVENT)
        if watch:
            done = watch.done
        else:
            done = np.zeros_like(cut)
        resets = (cut & ~done) | (bounded & (segment.t == bound))
        self._keep_outputs(rows, segment, resets)
        y = segment.ends
        time = self._tensor(segment.t)
        going = np.ones(len(rows), dtype=bool)
        if watch:
            self.row_events.keep(rows, watch)
            y, time, going = self._pass_events(rows, segment, watch, y, time)
            going &= self._end_rows(rows, segment.t, done, Status.EVENT)
        for status in segment.statuses.present():
            if status not in (Status.SUCCESS, Status.EVENT):
                failed = segment.statuses.are(status)
                going &= self._end_rows(rows, segment.t, failed, status, segment.ends)
        if not bounded.any():
            return segment.t, y, time, going
        arrived = bounded & segment.statuses.are(Status.SUCCESS)
        while (
            early := arrived
            & (direction * self.output_times[self.place[rows], rows] < direction * bound)
        ).any():
            self._write_output(rows, segment.t, y, early)
        return np.where(arrived, bound, segment.t), y, time, going

    def _next_bounds(
        self, rows: np.ndarray, t: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(next bounds, mask of the rows that come to them, where the segments from t end), (m,)
        each."""
        end = self.end[rows]
        if not len(self.owners):
            return direction * np.inf, np.zeros(len(rows), dtype=bool), end
        bound = self.bounds[self.bound[rows], rows]
        stop = self.stops[self.bound[rows], rows]
        bounded = direction * (bound - end) <= 0
        stop = np.where(direction * (stop - t) > 0, stop, bound)
        return bound, bounded, np.where(bounded, stop, end)

    def _keep_outputs(self, rows: np.ndarray, segment: BatchSegment, resets: np.ndarray) -> None:
        """Keep the outputs of a segment of these rows. resets: mask of the rows with a reset at its
        end; the output at this time is the state after it."""
        place = segment.place
        row = segment.row
        ys = segment.ys
        slopes = segment.slopes
        if resets.any():
            replaced = resets[row] & (self.times[place, rows[row]] == segment.t[row])
            which = (~replaced).nonzero()[0]
            place = place[which]
            row = row[which]
            at = self._tensor(which)
            ys = ys[at]
            if slopes is not None:
                slopes = slopes[at]
        self._outputs.append((place, rows[row], ys, slopes))
        self.place[rows] += np.bincount(row, minlength=len(rows))

    def _pass_events(
        self,
        rows: np.ndarray,
        segment: BatchSegment,
        watch: BatchEventDetector,
        y: Tensor,
        time: Tensor,
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        """(states, times, mask of the rows that continue) after the changes at the ends of a
        segment."""
        hits = watch.hits
        going = np.ones(len(rows), dtype=bool)
        if not len(hits.row):
            return y, time, going
        moments, event_states = self._implicit(rows, hits, segment.event_states)
        located: dict[int, list[Firing]] = {}
        first: dict[int, tuple] = {}
        ends = []
        owners = zip(hits.row.tolist(), hits.event.tolist(), hits.index.tolist(), strict=True)
        for j, (i, e, index) in enumerate(owners):
            state = self.field.layout.unravel(event_states[j])
            event = self.row_events.events[e]
            number = self.row_events.numbers[e]
            record = EventRecord(moments[j], state, state, number, index, event.name)
            if (
                segment.statuses[i] is not Status.EVENT
                or hits.t[j] != segment.t[i]
                or watch.done[i]
            ):
                self.records[rows[i]].append(record)
                continue
            ends.append(j)
            located.setdefault(i, []).append((e, index, record))
            rank = place(self.row_events.events, e, index)
            if event.reset is not None and (i not in first or rank < first[i][0]):
                first[i] = rank, j
        if not ends:
            return y, time, going
        at = self._tensor(np.array(list(first)))
        which = self._tensor(np.array([j for _, j in first.values()]))
        y = y.index_copy(0, at, event_states[which])
        time = time.index_copy(0, at, moments[which])
        stalled = self._stalled(rows, hits, ends)
        y, going = self._occur(watch, rows, segment.t, y, time, located)
        return (
            y,
            time,
            going & self._end_rows(rows, segment.t, going & stalled, Status.MAX_EVENTS, y),
        )

    def _occur(
        self,
        watch: BatchEventDetector,
        rows: np.ndarray,
        t: np.ndarray,
        y: Tensor,
        time: Tensor,
        firings: Mapping[int, Sequence[Firing]],
    ) -> tuple[Tensor, np.ndarray]:
        """(states, mask of the rows that continue) after the events at t, those in ``firings`` and
        the events that their resets make true."""
        y, ended = self.row_events.occur(watch, rows, t, y, time, firings)
        going = np.ones(len(rows), dtype=bool)
        for status in set(ended.values()):
            over = np.isin(np.arange(len(rows)), [i for i, end in ended.items() if end is status])
            self._write_output(rows, t, y, over & (self.output_times[self.place[rows], rows] == t))
            going &= self._end_rows(rows, t, over, status, y)
        return y, going

    def _stalled(self, rows: np.ndarray, hits: RowHits, last: Iterable[int]) -> np.ndarray:
        """Mask of the rows in which an event follows itself ZENO times while no time passes
        (segments.ZENO)."""
        stalled = np.zeros(len(rows), dtype=bool)
        for i, e, t in {(hits.row[j], hits.event[j], hits.t[j]) for j in last}:
            row = rows[i]
            again = same_instant(t, self.latest[row, e], self.end[row] - self.times[0, row])
            self.latest[row, e] = t
            if again:
                self.repeats[row, e] += 1
            else:
                self.repeats[row, e] = 0
            stalled[i] |= self.repeats[row, e] >= ZENO
        return stalled

    def _implicit(
        self, rows: np.ndarray, hits: RowHits, event_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Times (h,) and states (h, n) of the hits with their derivatives
        (SegmentedSolve._implicit)."""
        moments = self._tensor(hits.t)
        if not torch.is_grad_enabled():
            return moments, event_states
        parts = []
        for e, event in enumerate(self.row_events.events):
            which = (hits.event == e).nonzero()[0]
            if not len(which):
                continue
            at = self._tensor(which)
            index = self._tensor(hits.index[which]).unsqueeze(1)
            field = self._select(rows[hits.row[which]])
            y = event_states[at]
            slope = hits.slope[at].detach().clone()
            t = moments[at]

            def g(
                t: Tensor,
                y: Tensor,
                field: RowField = field,
                event: Event = event,
                index: Tensor = index,
            ) -> Tensor:
                return condition(field, event, t, y).gather(1, index).squeeze(1)

            change = moved_times(
                g, t, self._tensor(self.times[0, rows[hits.row[which]]]), y, slope, event.name
            )
            if change is not None:
                t = t + change.to(t)
                y = saltated(y, slope, t)
            parts.append((which, t, y))
        order = self._tensor(np.argsort(np.concatenate([which for which, _, _ in parts])))
        return torch.cat([t for _, t, _ in parts])[order], torch.cat([y for _, _, y in parts])[
            order
        ]

    def _pass_stops(
        self, rows: np.ndarray, t: np.ndarray, y: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        """(states, times, mask of the rows that continue) after the preset times at t and the
        events that they make true."""
        if not len(self.owners):
            return y, time, np.ones(len(rows), dtype=bool)
        met = at = self.bounds[self.bound[rows], rows] == t
        if not at.any():
            return y, time, ~at
        watch = self.row_events.watch(rows[met])
        if watch and not self.segments:
            which = self._tensor(met.nonzero()[0])
            watch.begin(self._select(rows[met]), self._tensor(t[met]), y[which].detach())
            self.row_events.keep(rows[met], watch)
        again = False
        while at.any():
            owner = self.owners[np.where(at, self.bound[rows], 0), rows, 0]
            present = set(owner[at].tolist())
            for number in self.sources:
                if number in present:
                    which = (at & (owner == number)).nonzero()[0]
                    y, time = self._pass_bound(number, rows[which], which, y, time, again)
            again = True
            self.bound[rows[at]] += 1
            at = self.bounds[self.bound[rows], rows] == t
        if not watch:
            return y, time, np.ones(len(rows), dtype=bool)
        places = dict.fromkeys(met.nonzero()[0].tolist())
        firings = self.row_events.made_true(watch, rows, t, y, places)
        firings = {i: items for i, items in firings.items() if items}
        y, going = self._occur(watch, rows, t, y, time, firings)
        return y, time, going

    def _pass_bound(
        self,
        number: int,
        own: np.ndarray,
        which: np.ndarray,
        y: Tensor,
        time: Tensor,
        again: bool,
    ) -> tuple[Tensor, Tensor]:
        """(y, time) after the rows ``own``, places in y, cross their next bounds, which have this
        number. again: whether they cross more than one at this time."""
        preset, times = self.sources[number]
        index = self.owners[self.bound[own], own, 1]
        unravel = self.field.layout.unravel
        at = self._tensor(which)
        moments = times[self._tensor(index), self._tensor(own)]
        before = after = y[at]
        moved = torch.is_grad_enabled()
        if moved and again and time.requires_grad:
            # The bound before this one has a time of its own.
            slope = self._slope(own, self.stops[self.bound[own], own], before)
            before = after = saltated(before, slope, -time[at])
        if moved and moments.requires_grad:
            before = after = saltated(
                before, self._slope(own, self.stops[self.bound[own], own], before), moments
            )
        if preset is not None:
            after = reset_rows(self._select(own), preset, moments, before)
        for j, row in enumerate(own.tolist() if preset is not None else ()):
            record = EventRecord(
                moments[j],
                unravel(before[j]),
                unravel(after[j]),
                number,
                int(index[j]),
                preset.name,
            )
            self.records[row].append(record)
        return y.index_copy(0, at, after), time.index_copy(0, at, moments)

    def outputs(self) -> tuple[np.ndarray, np.ndarray, Tensor, Any]:
        """(places (q,), rows (q,), states (q, n), slopes (q, n) or None) of all outputs."""
        places, rows, states, slopes = zip(*self._outputs, strict=True)
        return (
            np.concatenate(places),
            np.concatenate(rows),
            torch.cat(states),
            torch.cat(slopes) if self.with_slopes else None,
        )
