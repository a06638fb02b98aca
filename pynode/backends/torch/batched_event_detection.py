"""Looks for events in the accepted steps of the rows of a batch, on their polynomials. It is the
form of event_detection.py for many rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...core.status import Status
from ...core.transfer import constant, to_device
from .crossings import bracketed_roots, crossings, places
from .event_detection import changed_size, not_finite, on_side
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
    from ...core.batched_field import RowField
    from ...core.events import Event
    from ...methods.batched.base import PassResult
    from ..native.batch import NativeRows
    from .batched_loop import RowClock, Rows

# Where an event ends a row: (t, how, whether the event is terminal).
Cut: TypeAlias = tuple[float, Status, bool]


class RowHits:
    """Events of the rows of a segment, in lists of arrays: row, t, event, index (h,), y and slope
    (h, n), dy/dt there."""

    _NAMES = ("row", "t", "event", "index", "y", "slope")

    row: Any
    t: Any
    event: Any
    index: Any
    y: Any
    slope: Any

    def __init__(self) -> None:
        self.parts: list[tuple] = []

    def add(self, *arrays: Any) -> None:
        self.parts.append(arrays)

    def close(self) -> None:
        """Join every field to one array or tensor, and keep the order of each row's hits. Without
        hits the fields are empty lists."""
        joined: Any
        for name, column in zip(
            self._NAMES, zip(*self.parts, strict=True) if self.parts else [()] * 6, strict=True
        ):
            if name in ("y", "slope") and column:
                joined = torch.cat(column)
            elif column:
                joined = np.concatenate(column)
            else:
                joined = []
            setattr(self, name, joined)


class BatchEventDetector:
    """The conditions of all events on the rows of one segment.

    events: list of Event; counts: (m, E), how often each has occurred in each row so far; signs:
    Signs (m, K) of the conditions at the end of the segments before, None at the start. After the
    segment: hits; status: of the rows that events ended, by row; ends: their numbers and their
    states there, in parts; done: (m,) mask of the rows that a terminal event ended; final: Signs at
    the ends.
    """

    def __init__(
        self, events: Sequence[Event], counts: np.ndarray, signs: Signs | None = None
    ) -> None:
        self.events = events
        self.before = counts
        self.given = signs
        self.sizes: Any = None

    def begin(self, field: RowField, t: Tensor, y: Tensor) -> None:
        """Store on which side of zero each condition starts, 0 for a side that is not known yet."""
        self.field, self.counts, self.done = field, self.before.copy(), np.zeros(len(y), dtype=bool)
        self.hits = RowHits()
        self.status: dict[int, Status] = {}
        self.ends: list[tuple[np.ndarray, Tensor]] = []
        self.last = self.values(field, t, y)
        self.signs, self.noise = resumed(self.given, self.last, rounding(y)[:, None])
        self.final = Signs(self.signs, self.noise)

    def values(self, field: RowField, t: Tensor, y: Tensor) -> np.ndarray:
        """All conditions on rows at t (m,), y (m, n): (m, K) NumPy, in one copy."""
        if field.stats.guard is not None:
            field.stats.guard.check(field.stats, 0)
        parts = []
        # Not in inference mode: the module of a condition may store values of this call, and a
        # graph may use them later.
        with torch.inference_mode(False), torch.no_grad():
            # A copy, because a condition that differentiates inside makes a leaf of it.
            y = y.detach().clone()
            for event in self.events:
                parts.append(condition(field, event, t, y))
        sizes = [part.shape[1] for part in parts]
        if self.sizes is None:
            self.sizes = sizes
            self.owners = np.array([(e, i) for e, size in enumerate(sizes) for i in range(size)])
            self.directions = np.array([self.events[e].direction for e, _ in self.owners])
        for event, before, size in zip(self.events, self.sizes, sizes, strict=True):
            if size != before:
                raise ValueError(changed_size(event.name, before, size, float(t[0])))
        return torch.cat(parts, dim=1).to("cpu", torch.float64).numpy()

    def pass_over(self, rows: np.ndarray, t: np.ndarray, y: Tensor) -> None:
        """Let rows go on at t (w,) and y (w, n), after steps in which none of their conditions has
        left its side of zero. They were not checked here."""
        at = to_device(rows, y.device)
        values = self.values(self.field.select(at), to_device(t, y.device), y)
        self.last[rows] = on_side(values, self.signs[rows])

    def check_step(
        self,
        clock: RowClock | GivenRows,
        result: PassResult | GivenSteps,
        h: np.ndarray,
        arrived: np.ndarray,
        states: Callable[[np.ndarray], Tensor],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Record the events of the steps just accepted. Return (the ends of the steps, which events
        may shorten; mask of the shortened steps)."""
        which = result.accepted.nonzero()[0]
        cut = np.zeros(len(h), dtype=bool)
        step = _Steps(clock, h, arrived, which, result.polynomial(which), states(which))
        thetas = places(self.signs[step.row])
        table = self._evaluate_conditions(step, thetas)
        if np.isnan(table[-1]).any():
            i, k = np.argwhere(np.isnan(table[-1]))[0]
            raise not_finite(self.events[self.owners[k][0]], step.end[i])
        trail, *located = self._crossings(step, thetas, table)
        if not len(located[0]):
            return arrived, cut
        arrived = arrived.copy()
        taken = self._take(step, *located)
        for i, (t, status, terminal) in taken.items():
            at = which[i]
            arrived[at], cut[at] = t, True
            self.status[int(clock.index[at])], self.done[clock.index[at]] = status, terminal
        if taken:
            self._store_ends(step, thetas, trail, taken, *located)
        return arrived, cut

    def _store_ends(
        self,
        step: _Steps,
        thetas: Sequence[float],
        trail: np.ndarray,
        taken: dict[int, Cut],
        places: np.ndarray,
        roots: np.ndarray,
        conditions: np.ndarray,
    ) -> None:
        """Store the states and the sides of the conditions at the events that end rows. trail: (L +
        1, w, K), the sides before and after every place of the steps."""
        i = np.array(list(taken))
        t = np.array([hit[0] for hit in taken.values()])
        y = step.states_at(i, t)[0]
        row = step.row[i]
        self.ends.append((row, y))
        at = to_device(row, y.device)
        values = self.values(self.field.select(at), to_device(t, y.device), y)
        theta = (t - step.t[i]) / step.h[i]
        apart = np.array([self._apart(step, j) for j in i])
        passed = (np.array(thetas)[:, None] < theta).sum(0)
        tracked = trail[passed, i].copy()
        triggered = np.zeros(values.shape, dtype=bool)
        for j, root, k in zip(places.tolist(), roots.tolist(), conditions.tolist(), strict=True):
            for number in (i == j).nonzero()[0]:
                away = step.time(j, root) - t[number]
                triggered[number, k] |= abs(away) <= apart[number]
                if away * step.h[j] < -apart[number] * abs(step.h[j]):
                    tracked[number, k] = 0
        known, noise = at_cut(values, tracked, triggered, rounding(y)[:, None])
        self.final.known[row], self.final.noise[row] = known, noise

    def _apart(self, step: _Steps, i: int) -> float:
        return instant(float(step.t[i]), float(step.h[i]), torch.finfo(step.ends.dtype).eps)

    def _evaluate_conditions(self, step: _Steps, thetas: Sequence[float]) -> np.ndarray:
        """All conditions at the places thetas of each step: (L, w, K)."""
        count = len(step.row)
        grid = np.repeat(np.array(thetas)[:, None], count, 1)
        y = step.curve(np.tile(np.arange(count), len(thetas)), grid.reshape(-1))
        y.view(len(thetas), count, -1)[-1] = step.ends
        t = step.t + grid * step.h
        t[-1] = step.end
        field = self.field.select(to_device(np.tile(step.row, len(thetas)), y.device))
        return self.values(field, to_device(t.reshape(-1), y.device), y).reshape(
            len(thetas), count, -1
        )

    def _crossings(self, step: _Steps, thetas: Sequence[float], table: np.ndarray) -> tuple:
        """(sides before and after every place, step (q,), theta (q,), condition (q,)) of all
        conditions that fire in these steps. Also stores the sides and the last values."""
        row = step.row
        brackets, trail, signs = crossings(
            thetas,
            table,
            self.last[row],
            Signs(self.signs[row], self.noise[row]),
            self.directions,
        )
        self.signs[row], self.noise[row], self.last[row] = *signs, table[-1]
        if not brackets:
            return trail, (), (), ()
        where, *bracket = (np.array(column) for column in zip(*brackets, strict=True))
        i, k = where.T
        return trail, i, self._roots(step, i, k, *bracket), k

    def _roots(
        self,
        step: _Steps,
        i: np.ndarray,
        k: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        ga: np.ndarray,
        gb: np.ndarray,
    ) -> np.ndarray:
        rows = to_device(step.row[i], step.ends.device)
        field = self.field.select(rows)
        at = np.arange(len(i))

        def g(theta: np.ndarray) -> np.ndarray:
            t = to_device(step.t[i] + theta * step.h[i], step.ends.device)
            return self.values(field, t, step.curve(i, theta))[at, k]

        ulp = np.spacing(np.maximum(np.abs(step.t[i]), np.abs(step.end[i])))
        return bracketed_roots(
            g, a, b, ga, gb, np.maximum(torch.finfo(step.ends.dtype).eps, ulp / np.abs(step.h[i]))
        )

    def _take(
        self, step: _Steps, places: np.ndarray, thetas: np.ndarray, conditions: np.ndarray
    ) -> dict[int, Cut]:
        """Record events in their order. In each row the last ones are those at the time at which
        its segment must stop.

        Returns {place: (t, status, whether a terminal event is among them)} of the steps that end
        there."""
        cuts: dict[int, Cut] = {}
        taken: list[tuple[int, float, int, int]] = []
        by_step: dict[int, list[tuple[float, int]]] = {}
        for j in np.lexsort((conditions, thetas, places)):
            i = int(places[j])
            by_step.setdefault(i, []).append((step.time(i, float(thetas[j])), conditions[j]))
        for i, located in by_step.items():
            for group in simultaneous(located, self._apart(step, i)):
                cut = self._group(step.row[i], i, group, taken)
                if cut is not None:
                    cuts[i] = cut
                    break
        if taken:
            steps, t, e, index = (np.array(column) for column in zip(*taken, strict=True))
            self.hits.add(step.row[steps], t, e, index, *step.states_at(steps, t))
        return cuts

    def _group(
        self,
        row: int,
        i: int,
        group: Sequence[tuple[float, int]],
        taken: list[tuple[int, float, int, int]],
    ) -> Cut | None:
        """Add the events of one time, (t, condition), to ``taken``. Return the entry of ``_take``
        for step i if the step ends there, otherwise None."""
        t = group[0][0]
        owners = [tuple(self.owners[k]) for _, k in group]
        fired, status, terminal = occur_together(self.events, owners, self.counts[row])
        taken += [(i, t, e, index) for e, index in fired]
        if status is None:
            return None
        return t, status, terminal

    def stop(self, rows: np.ndarray, status: Status) -> None:
        """Replace the status of these rows (numbers), which an event ended."""
        for row in rows.tolist():
            if row in self.status:
                self.status[row] = status
                self.done[row] = True

    def finish(self, rows: Rows | NativeRows) -> None:
        """Correct the ends of the rows that events ended."""
        self.hits.close()
        for index, y in self.ends:
            rows.last.index_copy_(0, to_device(index, y.device), y)
        for row, status in self.status.items():
            rows.statuses[row] = status


@dataclass(frozen=True)
class GivenRows:
    """Rows at the starts of their steps, as check_step reads them. index, t: (w,)."""

    index: np.ndarray
    t: np.ndarray


class GivenSteps(NamedTuple):
    """Accepted steps of rows, as check_step reads them. accepted: (w,); coefficients: (degree + 1,
    w, n) of their polynomials."""

    accepted: np.ndarray
    coefficients: Tensor

    def polynomial(self, which: np.ndarray) -> Tensor:
        """The coefficients of the steps in which."""
        return self.coefficients[:, torch.from_numpy(which)]


class _Steps:
    """Steps of rows for the search of events: row (w,), t, h, end (w,), NumPy; ends: (w, n) states
    at the ends."""

    def __init__(
        self,
        clock: RowClock | GivenRows,
        h: np.ndarray,
        arrived: np.ndarray,
        which: np.ndarray,
        coefficients: Tensor,
        ends: Tensor,
    ) -> None:
        self.row = clock.index[which]
        self.t = clock.t[which]
        self.h = h[which]
        self.end = arrived[which]
        self.coefficients = coefficients
        self.ends = ends

    def time(self, i: int, theta: float) -> float:
        """The time of a root at theta of step i."""
        return float(self.end[i] if theta >= 1 else self.t[i] + theta * self.h[i])

    def curve(self, i: np.ndarray, theta: np.ndarray) -> Tensor:
        """States (q, n) on the polynomials of the steps i (q,) at theta (q,)."""
        powers = theta ** np.arange(len(self.coefficients))[:, None]
        return self._sum(self.coefficients, i, powers)

    def _sum(self, coefficients: Tensor, i: np.ndarray, weights: np.ndarray) -> Tensor:
        chosen = coefficients[:, to_device(i, coefficients.device)]
        return (chosen * constant(weights, coefficients).unsqueeze(2)).sum(0)

    def states_at(self, i: np.ndarray, t: np.ndarray) -> tuple[Tensor, Tensor]:
        """(states, dy/dt) of the steps i (q,) at times t (q,). At the end of a step the state is
        the exact end of the step."""
        theta = (t - self.t[i]) / self.h[i]
        y = self.curve(i, theta)
        at_end = to_device(t == self.end[i], self.ends.device)
        y = torch.where(at_end.unsqueeze(1), self.ends[to_device(i, self.ends.device)], y)
        degree = np.arange(1, len(self.coefficients))[:, None]
        return y, self._sum(self.coefficients[1:], i, degree * theta ** (degree - 1) / self.h[i])


def condition(field: RowField, event: Event, t: Tensor, y: Tensor) -> Tensor:
    """The condition of an event on rows, t (m,) and y (m, n): (m, k). Raise ValueError if it does
    not return one or several values for each row."""
    g = event.returned(field.clock(t, y), field.layout.unravel(y), field.args)
    if not g.dim() or len(g) != len(y) or not g.numel():
        raise ValueError(
            f"with batched=True the condition of event {event.name!r} was called with {len(y)} rows"
            f" and returned a tensor of shape {tuple(g.shape)}; it must return one or several for"
            " each row, as f gets them: y[..., 0], not y[0]"
        )
    return g.reshape(len(y), -1)
