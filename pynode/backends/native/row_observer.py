"""What Python asks between the steps of the rows of a batch: events and a domain."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..torch.batched_event_detection import OneRow, OneStep
from .event_conditions import native_conditions
from .hooks import Cut, NativeStep

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.stop_conditions import RowLimits
    from ..torch.batched_event_detection import BatchEventDetector
    from ..torch.batched_loop import RowSpans
    from .batch import NativeRows, RowFields
    from .conditions import Watched


class RowObserver:
    """Sees the steps of the rows of a batch, each of which is a native solve of its own.

    field: of the whole batch; fields: its native functions. events: looks for events, or None.
    limits: RowLimits with a domain, or None. starts: (m, n), of the rows with the numbers index,
    (m,), and their spans.

    Rows run side by side. One lock serves all of them, so that the user's functions, and the lists
    of the events, meet one row at a time.
    """

    def __init__(
        self,
        field: RowField,
        fields: RowFields,
        events: BatchEventDetector | None,
        limits: RowLimits | None,
        spans: RowSpans,
        starts: Tensor,
        index: Tensor,
    ) -> None:
        self.events = events
        self.limits = limits
        self.lock = threading.RLock()
        self._domain = limits is not None and limits.domain is not None
        self._conditions = None
        if events is None:
            return
        t0 = torch.from_numpy(spans.start)
        events.begin(field.select(index), t0, starts)
        self._conditions = native_conditions(
            events.events,
            events.sizes,
            field.layout,
            fields.one_row,
            float(t0[0]),
            starts[0],
            rows=True,
        )
        if self._conditions is not None:
            self._inputs = self._conditions.of_rows(fields.apart, index.numpy())

    def arguments(self, i: int) -> dict[str, Any]:
        """The arguments of ``integrate`` for row i."""
        found: dict[str, Any] = {}
        if self._domain:
            found["allow"] = self._allow
        if self.events is not None:
            watched = None
            if self._conditions is not None:
                watched = self._conditions.watched(self._inputs[i])
                watched.note(self.events.signs[i])
            found["watched"] = watched
            found["watch"] = _Row(self, i, watched).watch
        return found

    def _allow(self, t: float, y: np.ndarray) -> bool:
        """Whether a step may end with the state y, (n,), at t."""
        assert self.limits is not None
        time = torch.tensor([t], dtype=torch.float64)
        with self.lock, torch.no_grad():
            return bool(self.limits.in_domain(time, torch.from_numpy(y).unsqueeze(0)))

    def finish(self, rows: NativeRows) -> None:
        """Put what was found into the result."""
        if self.events is not None:
            # Whatever the threads did, the order is that of the rows.
            self.events.hits.parts.sort(key=lambda part: part[0][0])
            self.events.finish(rows)


class _Row:
    """The steps of row i."""

    def __init__(self, observer: RowObserver, i: int, watched: Watched | None) -> None:
        self._observer = observer
        self._i = i
        self._watched = watched
        self._seen = 0  # accepted steps

    def watch(self, step: NativeStep) -> Cut | None:
        """The end of the row inside an accepted step or at its end, or None."""
        with self._observer.lock:
            return self._end(step, self._observer.events)

    def _end(self, step, events):
        i = self._i
        accepted = step.counts[0]
        if accepted != self._seen + 1:
            events.pass_over(i, step.t, torch.from_numpy(step.start.copy()))
        self._seen = accepted
        clock = OneRow(np.array([i]), np.array([step.t]))
        polynomial = torch.from_numpy(step.polynomial()).unsqueeze(1)
        end = torch.from_numpy(step.y.copy()).unsqueeze(0)
        arrived, cut = events.check_step(
            clock,
            OneStep(np.array([True]), polynomial),
            np.array([step.h]),
            np.array([step.t1]),
            lambda which: end,
        )
        if self._watched is not None:
            self._watched.note(events.signs[i])
        if not cut[0]:
            return None
        return Cut(float(arrived[0]), events.newest_end.numpy(), events.status[i])
