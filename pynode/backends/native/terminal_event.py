"""A native solve to the first occurrence of one event, without the segments of the long way.

The event is one condition of one value. What the long way does for several conditions
(../torch/event_detection.py) is short for one: in each step that compiled code shows, the condition
is evaluated at the same places, and the same search finds the root.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core.events import Event
from ...core.status import Status
from ..torch.crossings import SAMPLES, bracketed_root
from ..torch.event_detection import SMALLEST, EventHit
from ..torch.simultaneous_events import rounding
from .engine import NativeSegment
from .event_conditions import native_conditions
from .hooks import Cut
from .solve import integrate

if TYPE_CHECKING:
    from ...core.layout import Layout
    from ...core.options import Options
    from .event_conditions import Evaluator
    from .fields import BoundField
    from .hooks import NativeStep


def terminal_event(events: Any) -> Event | None:
    """The event, if there is one alone that ends a solve and does nothing else."""
    if isinstance(events, (list, tuple)) and len(events) == 1:
        (events,) = events
    if not isinstance(events, Event) or events.terminal != 1:
        return None
    if events.reset is not None or events.max_events is not None:
        return None
    return events


def integrate_to_event(
    bound: BoundField,
    method: Any,
    start: Tensor,
    times: list[float],
    options: Options,
    atol: np.ndarray,
    record: bool,
    event: Event,
    layout: Layout,
    args: tuple,
) -> NativeSegment | None:
    """The NativeSegment of a solve that ends at the event or at the last time, with the event in
    its hits. None if the long way has to decide: the condition has no native code, has several
    values, is zero or not finite somewhere, or the solve ends otherwise.

    layout, args: of the solve; the condition gets them.
    """
    args = tuple(x.detach() if isinstance(x, Tensor) and x.requires_grad else x for x in args)
    clock = torch.tensor(times[0], dtype=layout.dtype)
    with torch.no_grad():
        value = event.value(clock, layout.unravel(start.clone()), args)
    if len(value) != 1 or not abs(float(value)) > float(rounding(start)):
        return None
    conditions = native_conditions([event], [1], layout, args, times[0], start)
    if conditions is None:
        return None
    watched = conditions.watched()
    side = math.copysign(1.0, float(value))
    watched.note(np.array([side]))
    search = _Search(conditions.evaluator(layout.dtype), watched, event.direction, side)
    try:
        solved = integrate(
            bound,
            method,
            start.numpy(),
            times,
            options,
            atol,
            record=record,
            watch=search.watch,
            watched=watched,
        )
    except _Undecided:
        return None
    if solved.status not in (Status.SUCCESS, Status.EVENT):
        return None
    segment = NativeSegment(bound, solved, start)
    if search.hit is not None:
        segment.hits = [search.hit]
    return segment


class _Undecided(Exception):
    """The condition is zero or not finite at a place where it is evaluated."""


class _Search:
    """Looks for the event in the steps that compiled code shows.

    condition: as compiled code. watched: what the loop knows of it. direction: in which the event
    fires. side: of zero, of the condition at the start.
    """

    def __init__(self, condition: Evaluator, watched: Any, direction: int, side: float) -> None:
        self.condition = condition
        self.watched = watched
        self.direction = direction
        self.side = side
        self.hit: EventHit | None = None

    def watch(self, step: NativeStep) -> Cut | None:
        """The end of the solve inside an accepted step, or None."""
        table = step.polynomial()
        degrees = np.arange(len(table))
        point = np.empty_like(step.y)
        place = point.ctypes.data

        def value(theta: float) -> float:
            np.dot((theta**degrees).astype(table.dtype), table, out=point)
            return float(self.condition.at(step.t + theta * step.h, place)[0])

        left = 0.0
        before = float(self.condition(step.t, step.start)[0])
        if math.copysign(1.0, before) != self.side:  # rounding put it there
            before = self.side * SMALLEST
        for theta in SAMPLES:
            if theta < 1.0:
                here = value(theta)
            else:
                here = float(self.condition(step.t1, step.y)[0])
            if not 0.0 < abs(here) < math.inf:
                raise _Undecided
            side = math.copysign(1.0, here)
            if side != self.side:
                if self.direction != self.side:
                    eps = float(np.finfo(step.y.dtype).eps)
                    ulp = math.ulp(max(abs(step.t), abs(step.t + step.h)))
                    tol = max(eps, ulp / abs(step.h))
                    root = bracketed_root(value, left, theta, before, here, tol)
                    return self._cut(step, table, degrees, root)
                self.side = side
                self.watched.note(np.array([side]))
            left = theta
            before = here
        return None

    def _cut(self, step: NativeStep, table: np.ndarray, degrees: np.ndarray, theta: float) -> Cut:
        """The end of the solve at a fraction of a step."""
        t = step.t + theta * step.h
        y = theta**degrees @ table
        if theta >= 1.0:
            t = step.t1
            y = step.y.copy()
        slope = (degrees[1:] * theta ** (degrees[1:] - 1)) @ table[1:] / step.h
        real = step.y.dtype
        state = torch.from_numpy(y.astype(real))
        self.hit = EventHit(t, state, torch.from_numpy(slope.astype(real)), 0, 0)
        return Cut(t, y, Status.EVENT)
