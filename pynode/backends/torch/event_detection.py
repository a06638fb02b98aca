"""Looks for events in each accepted step, on its polynomial."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...core.status import Status
from ...core.trajectory import derivative, evaluate, evaluate_at
from ...core.transfer import doubles
from .crossings import bracketed_root, crossings, places
from .simultaneous_events import (
    Signs,
    at_cut,
    instant,
    occur_together,
    resumed,
    rounding,
    simultaneous,
)

if TYPE_CHECKING:
    from ...core.events import Event
    from ...core.protocols import Step
    from ...core.vector_field import VectorField
    from .crossings import Bracket

SMALLEST = 5e-324

# (t, fraction of the step, number of the condition).
Firing: TypeAlias = tuple[float, float, int]


class EventHit(NamedTuple):
    """An event in a step. t: when; y, (n,): the state; slope, (n,): dy/dt there, of the polynomial.

    event: position in the list of events; index: component of its condition.
    """

    t: float
    y: torch.Tensor
    slope: torch.Tensor
    event: int
    index: int  # type: ignore[assignment]


class EventDetector:
    """The conditions of all events during one segment of a solve.

    events: list of Event; counts: how often each has occurred before this segment; signs: the Signs
    of the conditions at the end of the segment before, None at the start. After the segment
    ``final`` holds their Signs. A step costs one polynomial, four evaluations of the conditions and
    one synchronisation.

    compiled: None, or all conditions as compiled code: compiled(t, y) -> (K,), for y (n,), all in
    NumPy.
    """

    compiled: Callable[[float, np.ndarray], np.ndarray] | None = None

    def __init__(
        self,
        events: Sequence[Event],
        field: VectorField,
        counts: Sequence[int],
        signs: Signs | None = None,
    ) -> None:
        self.events = events
        self.field = field
        self.before = counts
        self.given = signs
        self.hits: list[EventHit] = []
        self.counts = list(counts)
        self.status: Status | None = None
        self.cut: Signs | None = None
        self.sizes: Any = None

    def begin(self, t: float, y: Tensor) -> None:
        """Store on which side of zero each condition starts, 0 for a side that is not known yet."""
        self.hits, self.status, self.cut, self.counts = [], None, None, list(self.before)
        values = self.values(t, y)
        signs = resumed(self.given, values, rounding(y))
        self.last = values
        self.signs = signs

    @property
    def final(self) -> Signs:
        """The Signs of the conditions at the end of the segment."""
        if self.cut is None:
            return self.signs
        return self.cut

    def values(self, t: float, y: Tensor) -> np.ndarray:
        """All conditions at (t, y), (K,) NumPy. Sets ``owners`` and ``directions``, the event of
        each one and the direction in which it fires."""
        values = self._values([t], [y])[0]
        self.owners = [(e, i) for e, size in enumerate(self.sizes) for i in range(size)]
        self.directions = np.array([self.events[e].direction for e, _ in self.owners])
        return values

    def _values(self, times: Sequence[float], states: Iterable[Tensor]) -> np.ndarray:
        """All conditions at m points, times (floats) and states (n,): (m, K), in one
        synchronisation."""
        field = self.field
        parts = []
        if field.stats.guard is not None:
            field.stats.guard.check(field.stats)
        if self.compiled is not None:
            points = zip(times, states, strict=True)
            return np.stack([self.compiled(t, y.detach().numpy()) for t, y in points])
        # Not in inference mode: the module of a condition may store values of this call, and a
        # graph may use them later.
        with torch.inference_mode(False), torch.no_grad():
            clock = doubles(times, field.device, field.dtype).unbind(0)
            for t, y in zip(clock, states, strict=True):
                # A copy, because a condition that differentiates inside makes a leaf of it.
                state = field.layout.unravel(y.detach().clone())
                parts += [event.value(t, state, field.args) for event in self.events]
            sizes = [len(part) for part in parts]
            if self.sizes is None:
                self.sizes = sizes
            elif sizes != self.sizes * len(times):
                number = next(
                    i for i, size in enumerate(sizes) if size != self.sizes[i % len(self.sizes)]
                )
                event = self.events[number % len(self.sizes)]
                before = self.sizes[number % len(self.sizes)]
                raise ValueError(
                    changed_size(
                        event.name, before, sizes[number], times[number // len(self.sizes)]
                    )
                )
            return torch.cat(parts).to("cpu", torch.float64).view(len(times), -1).numpy()

    def pass_over(self, t: float, y: Tensor) -> None:
        """Go on at t and y, (n,), after steps in which no condition has left its side of zero. They
        were not checked here."""
        values = self.values(t, y)
        self.last = on_side(values, self.signs.known)

    def check_step(self, step: Step, end: float, coefficients: Tensor) -> EventHit | None:
        """Record the events of a step that ends at time ``end``. Return the EventHit at which the
        segment must stop, or None."""
        thetas = places(self.signs.known)
        grid = doubles(thetas[:-1], step.y.device)
        times = [step.t + theta * step.h for theta in thetas[:-1]]
        table = self._values([*times, end], [*evaluate(coefficients, grid).unbind(0), step.y])
        if np.isnan(table[-1]).any():
            raise not_finite(self.events[self.owners[np.argmax(np.isnan(table[-1]))][0]], end)
        brackets, trail, self.signs = crossings(
            thetas, table, self.last, self.signs, self.directions
        )
        self.last = table[-1]
        if not brackets:
            return None
        located: list[Firing] = []
        for bracket in brackets:
            theta = self._root(step, coefficients, bracket)
            t = end if theta >= 1 else step.t + theta * step.h
            located.append((t, theta, bracket.where[0]))
        located.sort(key=lambda item: item[1:])
        cut = self._cut(step, end, coefficients, located)
        if cut is not None and self.status is Status.EVENT:
            self.cut = self._sides_at(cut, step, thetas, trail, located)
        return cut

    def _sides_at(
        self,
        cut: EventHit,
        step: Step,
        thetas: Sequence[float],
        trail: np.ndarray,
        located: list[Firing],
    ) -> Signs:
        """The Signs of the conditions at the event that ends the segment. trail: (L + 1, K), their
        sides before and after every place."""
        here = {(hit.event, hit.index) for hit in self.hits if hit.t == cut.t}
        theta = (cut.t - step.t) / step.h
        passed = sum(1 for sample in thetas if sample < theta)
        earlier = {k for t, _, k in located if abs(t - step.t) < abs(cut.t - step.t)}
        tracked = trail[passed].copy()
        tracked[list(earlier)] = 0
        triggered = np.array([owner in here for owner in self.owners])
        return at_cut(self.values(cut.t, cut.y), tracked, triggered, rounding(cut.y))

    def _root(self, step: Step, coefficients: Tensor, bracket: Bracket) -> float:
        """Where the condition of a bracket is zero, as a fraction of the step."""
        k = bracket.where[0]

        def g(theta: float) -> float:
            state = evaluate_at(coefficients, [theta])
            return float(self._values([step.t + theta * step.h], state)[0, k])

        resolution = math.ulp(max(abs(step.t), abs(step.t + step.h))) / abs(step.h)
        return bracketed_root(g, *bracket[1:], max(torch.finfo(step.y.dtype).eps, resolution))

    def _cut(
        self, step: Step, end: float, coefficients: Tensor, located: list[Firing]
    ) -> EventHit | None:
        """Record events in their order up to the first time at which the segment must stop.
        located: (t, theta, condition)."""
        for group in simultaneous(located, instant(step.t, step.h, torch.finfo(step.y.dtype).eps)):
            hit = self._hit(step, group[0][0], end, coefficients)
            owners = [self.owners[k] for _, _, k in group]
            taken, status, _ = occur_together(self.events, owners, self.counts)
            self.hits += [hit._replace(event=e, index=index) for e, index in taken]
            if status is not None:
                self.status = status
                return hit
        return None

    def exceeds(self, e: int) -> bool:
        """Whether event e has occurred more often than it may."""
        limit = self.events[e].max_events
        return limit is not None and self.counts[e] > limit

    def stops(self, e: int) -> bool:
        """Whether event e ends the solve after as many occurrences as now."""
        return bool(self.events[e].terminal) and self.counts[e] >= self.events[e].terminal

    def _hit(self, step: Step, t: float, end: float, coefficients: Tensor) -> EventHit:
        """The EventHit of an event at t, without the number of the event."""
        theta = doubles([(t - step.t) / step.h], step.y.device)
        # Where two steps meet, the states agree, and the record uses the end of the step.
        if t == end:
            y = step.y
        elif t == step.t:
            y = step.start
        else:
            y = evaluate(coefficients, theta)[0]
        slope = derivative(coefficients, theta)[0] / step.h
        # _cut sets the event.
        return EventHit(t, y, slope, None, None)  # type: ignore[arg-type]


def on_side(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values of conditions at a time when they were found to be on these sides of zero, (..., K).
    Where rounding put one on the other side, it is the smallest number on its side."""
    other = (known != 0) & (np.sign(values) != known)
    return np.where(other, known * SMALLEST, values)


def not_finite(event: Event, t: float) -> ValueError:
    """The error for a condition that is NaN."""
    return ValueError(
        f"the condition of event {event.name!r} is NaN at t = {t:.6g}; keep it finite"
    )


def changed_size(name: str | None, before: int, now: int, t: float) -> str:
    """The message for a condition that returns more or fewer values than before."""
    return (
        f"the condition of event {name!r} returned {now} values at t = {t:.6g} and {before} before:"
        " it must return as many at every time, one for each crossing to watch"
    )
