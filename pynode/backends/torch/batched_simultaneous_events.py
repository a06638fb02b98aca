"""Events and their resets at one time of each row of a batch. It is the form of
simultaneous_events.py for many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import Tensor

from ...core.events import EventRecord
from ...core.memory import raise_if_exhausted
from ...core.status import Status
from ...core.transfer import to_device
from .batched_event_detection import BatchEventDetector
from .simultaneous_events import Queue, Signs, rounding

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.events import Event, RowRecords

# (number of the event, component of its condition, its record or None).
Firing: TypeAlias = tuple[int, int, EventRecord | None]


class RowEvents:
    """The events of a batch. events: list of (number, Event); records: for each row the list of
    what has occurred.

    counts: (B, E), how often each has occurred; signs: Signs (B, K) of the conditions at the ends
    of the last segments, None before."""

    def __init__(
        self, field: RowField, events: Sequence[tuple[int, Event]], records: RowRecords
    ) -> None:
        self.field = field
        self.records = records
        self.signs: Any = None
        self.numbers = [n for n, _ in events]
        self.events: list[Any] = [event for _, event in events]
        self.counts = np.zeros((len(records), len(events)), dtype=np.int64)

    def watch(self, rows: np.ndarray) -> BatchEventDetector | None:
        """A BatchEventDetector for the next segment of these rows, None without events."""
        if not self.events:
            return None
        if self.signs is None:
            signs = None
        else:
            signs = Signs(*(part[rows] for part in self.signs))
        return BatchEventDetector(self.events, self.counts[rows], signs)

    def keep(self, rows: np.ndarray, watch: BatchEventDetector) -> None:
        """Keep the counts and Signs of a segment of these rows."""
        self.counts[rows] = watch.counts
        self._keep(rows, watch.final)

    def _keep(self, rows: np.ndarray, signs: Signs) -> None:
        if self.signs is None:
            self.signs = Signs(*(np.zeros((len(self.records), part.shape[1])) for part in signs))
        for stored, part in zip(self.signs, signs, strict=True):
            stored[rows] = part

    def occur(
        self,
        watch: BatchEventDetector,
        rows: np.ndarray,
        t: np.ndarray,
        y: Tensor,
        time: Tensor,
        firings: Mapping[int, Sequence[Firing]],
    ) -> tuple[Tensor, dict[int, Status]]:
        """(states, {place: status} of the rows that end) after the events at t (m,): those in
        ``firings``, {place: [(event, index, record or None)]}, and the events that their resets
        make true. The events of a row occur one after another (SegmentedSolve._occur).

        rows: (m,) numbers; y: (m, n) at time (m,), both with their gradients.
        """
        queues = {}
        changed: set[int] = set()
        ended: dict[int, Status] = {}
        for i, items in firings.items():
            queues[i] = Queue(self.events)
            queues[i].add(items)
        while queues:
            own: dict[int, tuple[int, int]] = {}
            for i, queue in queues.items():
                e, index, record = queue.pop()
                if record is not None and i in changed:
                    record = replace(record, y=self.field.layout.unravel(y[i]))
                status: Status | None
                if queue.endless:
                    status = Status.CASCADE
                else:
                    status = self._note(rows[i], e, index, record, time[i], y[i])
                if status is not None:
                    ended[i] = status
                elif self.events[e].reset is not None:
                    own[i] = e, index
            y = self._apply(rows, y, time, own)
            changed |= own.keys()
            for i, triggered in self.made_true(watch, rows, t, y, own).items():
                queues[i].add(triggered)
            queues = {i: queue for i, queue in queues.items() if queue and i not in ended}
        return y, ended

    def _note(
        self, row: int, e: int, index: int, record: EventRecord | None, time: Tensor, y: Tensor
    ) -> Status | None:
        """Keep the record of an event. If a change of the state fired it, make the record here.
        Return the status of a row that ends by it, or None."""
        if record is not None:
            self.records[row].append(record)
            return None
        event = self.events[e]
        state = self.field.layout.unravel(y)
        self.counts[row, e] += 1
        if event.max_events is not None and self.counts[row, e] > event.max_events:
            return Status.MAX_EVENTS
        self.records[row].append(
            EventRecord(time, state, state, self.numbers[e], index, event.name)
        )
        if event.terminal and self.counts[row, e] >= event.terminal:
            return Status.EVENT
        return None

    def _apply(
        self, rows: np.ndarray, y: Tensor, time: Tensor, own: Mapping[int, tuple[int, int]]
    ) -> Tensor:
        """The states after one reset of each row in own, {place: (event, index)}."""
        for e in sorted({e for e, _ in own.values()}):
            which = np.array([i for i, owner in own.items() if owner[0] == e])
            at = to_device(which, y.device)
            new = reset_rows(self._select(rows[which]), self.events[e], time[at], y[at])
            y = y.index_copy(0, at, new)
            for row, state in zip(rows[which], new, strict=True):
                self.records[row][-1] = replace(
                    self.records[row][-1], after=self.field.layout.unravel(state)
                )
        return y

    def made_true(
        self,
        watch: BatchEventDetector,
        rows: np.ndarray,
        t: np.ndarray,
        y: Tensor,
        own: Mapping[int, tuple[int, int] | None],
    ) -> dict[int, list[Firing]]:
        """{place: [(event, index, None)]} of the conditions that changes of the states at t fire.
        own: the events that made these changes, by place; None for preset times."""
        if not own:
            return {}
        which = np.array(list(own))
        at = rows[which]
        states = y[to_device(which, y.device)].detach()
        values = watch.values(self._select(at), to_device(t[which], y.device), states)
        signs = Signs(*(part[at] for part in self.signs))
        fires, signs = signs.crossed(values, rounding(states)[:, None], watch.directions)
        self._keep(at, signs)
        owners = [tuple(owner) for owner in watch.owners.tolist()]
        return {
            i: [
                (*owner, None)
                for owner, fire in zip(owners, row, strict=True)
                if fire and owner != own[i]
            ]
            for i, row in zip(which.tolist(), fires, strict=True)
        }

    def _select(self, rows: np.ndarray) -> RowField:
        return self.field.select(to_device(rows, self.field.device))


def reset_rows(field: RowField, event: Any, time: Tensor, y: Tensor) -> Tensor:
    """The states, (m, n), after the user's reset of y. Raises ValueError if the reset returns
    something else. field: of these rows."""
    layout = field.layout
    try:
        new = layout.ravel_rows(
            event.reset(field.clock(time, y), layout.unravel(y), *field.args), len(y)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise_if_exhausted(error)
        raise ValueError(
            f"in the reset of {event.name!r}, which must return states like y0: {error}"
        ) from error
    if new.shape != y.shape or new.dtype != y.dtype:
        raise ValueError(
            f"the reset of {event.name!r} returned {tuple(new.shape)} of {new.dtype} for"
            f" {tuple(y.shape)} of {y.dtype}"
        )
    return new
