"""What happens to the rows of a batch at one time each: simultaneous_events.py for many rows at
once, and the resets of events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...core.events import EventRecord
from ...core.status import Status
from .batched_event_detection import BatchEventDetector
from .simultaneous_events import Queue, Signs, rounding


class RowEvents:
    """The events of a batch. events: list of (number, Event); records: for each row the list of
    what has occurred.

    counts: (B, E), how often each has occurred; sides: Signs (B, K) of the conditions where the
    last segments ended, None before."""

    def __init__(self, field, events, records):
        self.field = field
        self.records = records
        self.signs = None
        self.numbers = [n for n, _ in events]
        self.events = [event for _, event in events]
        self.counts = np.zeros((len(records), len(events)), dtype=np.int64)

    def watch(self, rows):
        """A BatchEventDetector for the next segment of these rows, None without events."""
        if not self.events:
            return None
        if self.signs is None:
            signs = None
        else:
            signs = Signs(*(part[rows] for part in self.signs))
        return BatchEventDetector(self.events, self.counts[rows], signs)

    def keep(self, rows, watch):
        """Note what a segment of these rows has left."""
        self.counts[rows] = watch.counts
        self._keep(rows, watch.final)

    def _keep(self, rows, signs):
        if self.signs is None:
            self.signs = Signs(*(np.zeros((len(self.records), part.shape[1])) for part in signs))
        for kept, part in zip(self.signs, signs, strict=True):
            kept[rows] = part

    def occur(self, watch, rows, t, y, time, found):
        """(states, {place: status} of the rows that end) after the events at t (m,): those found,
        by place {i: [(event, index, record or None)]}, and those that become true by what they do,
        of each row one after another (SegmentedSolve._occur).

        rows: (m,) numbers; y: (m, n) at time (m,), both with their gradients.
        """
        queues = {}
        changed = set()
        ended = {}
        for i, items in found.items():
            queues[i] = Queue(self.events)
            queues[i].add(items)
        while queues:
            own = {}
            for i, queue in queues.items():
                e, index, record = queue.pop()
                if record is not None and i in changed:
                    record = replace(record, y=self.field.layout.unravel(y[i]))
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

    def _note(self, row, e, index, record, time, y):
        """Keep the record of an event, made here where a change of the state fires it; the status
        of a row that ends by it."""
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

    def _apply(self, rows, y, time, own):
        """The states after one reset of each row in own, {place: (event, index)}."""
        for e in sorted({e for e, _ in own.values()}):
            which = np.array([i for i, owner in own.items() if owner[0] == e])
            at = torch.from_numpy(which).to(y.device)
            new = reset_rows(self._select(rows[which]), self.events[e], time[at], y[at])
            y = y.index_copy(0, at, new)
            for row, state in zip(rows[which], new, strict=True):
                self.records[row][-1] = replace(
                    self.records[row][-1], after=self.field.layout.unravel(state)
                )
        return y

    def made_true(self, watch, rows, t, y, own):
        """{place: [(event, index, None)]} of the conditions that changes of the states at t fire;
        own: whose resets these were, by place, None for preset times."""
        if not own:
            return {}
        which = np.array(list(own))
        at = rows[which]
        states = y[torch.from_numpy(which).to(y.device)].detach()
        values = watch.values(self._select(at), torch.from_numpy(t[which]).to(y.device), states)
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

    def _select(self, rows):
        return self.field.select(torch.from_numpy(rows).to(self.field.device))


def reset_rows(field, event, time, y):
    """The states, (m, n), that the user's reset makes of y; ValueError where they are no such
    states. field: of these rows."""
    layout = field.layout
    try:
        new = layout.ravel_rows(
            event.reset(field.clock(time, y), layout.unravel(y), *field.args), len(y)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"in the reset of {event.name!r}, which must return states like y0: {error}"
        ) from error
    if new.shape != y.shape or new.dtype != y.dtype:
        raise ValueError(
            f"the reset of {event.name!r} returned {tuple(new.shape)} of {new.dtype} for"
            f" {tuple(y.shape)} of {y.dtype}"
        )
    return new
