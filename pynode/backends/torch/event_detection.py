"""Looks for events in each accepted step, on its polynomial."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...core.status import Status
from ...core.trajectory import derivative, evaluate
from .simultaneous_events import Signs, at_cut, instant, place, resumed, rounding, simultaneous

if TYPE_CHECKING:
    from ...core.events import Event
    from ...core.protocols import Step
    from ...core.vector_field import VectorField

# (t, fraction of the step, number of the condition).
Firing: TypeAlias = tuple[float, float, int]

# The fractions of a step at which the conditions are evaluated.
SAMPLES = (0.25, 0.5, 0.75, 1.0)
# Further fractions for a step that starts where a condition is zero. The first of them shows to
# which side the condition leaves zero.
PROBES = tuple(2.0**-k for k in range(20, 2, -2))


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
    """

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
        """Note on which side of zero each condition starts, 0 where that is not known yet."""
        self.hits, self.status, self.cut, self.counts = [], None, None, list(self.before)
        values = self.values(t, y)
        signs = resumed(self.given, values, rounding(y))
        self.last = values.tolist()
        self.signs = signs.known.tolist()
        self.noise = signs.noise.tolist()

    @property
    def final(self) -> Signs:
        """Where the conditions are at the end of the segment."""
        if self.cut is None:
            return Signs(np.array(self.signs), np.array(self.noise))
        return self.cut

    def values(self, t: float, y: Tensor) -> np.ndarray:
        """All conditions at (t, y), (K,) NumPy; ``owners`` and ``directions`` say whose they
        are."""
        found = self._values([t], [y])[0].numpy()
        self.owners = [(e, i) for e, size in enumerate(self.sizes) for i in range(size)]
        self.directions = np.array([self.events[e].direction for e, _ in self.owners])
        return found

    def _values(self, times: Sequence[float], states: Iterable[Tensor]) -> Tensor:
        """All conditions at m points, times (floats) and states (n,): (m, K) on the CPU, in one
        synchronisation."""
        field = self.field
        parts = []
        if field.stats.guard is not None:
            field.stats.guard.check(field.stats)
        # Not in inference mode: what a condition's module keeps of this call, a graph may use
        # later.
        with torch.inference_mode(False), torch.no_grad():
            clock = torch.tensor(times, dtype=field.dtype, device=field.device).unbind(0)
            for t, y in zip(clock, states, strict=True):
                # A copy of its own: a condition that differentiates inside makes a leaf of it.
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
            return torch.cat(parts).to("cpu", torch.float64).view(len(times), -1)

    def check_step(self, step: Step, end: float, coefficients: Tensor) -> EventHit | None:
        """Note the events of a step that ends at time ``end``. Return the EventHit at which the
        segment must stop, or None."""
        if 0 in self.signs:
            thetas = PROBES + SAMPLES
        else:
            thetas = SAMPLES
        grid = torch.tensor(thetas[:-1], dtype=torch.float64, device=step.y.device)
        times = [step.t + theta * step.h for theta in thetas[:-1]]
        table = self._values(
            [*times, end], [*evaluate(coefficients, grid).unbind(0), step.y]
        ).tolist()
        for g, (e, _) in zip(table[-1], self.owners, strict=True):
            if math.isnan(g):
                name = self.events[e].name
                raise ValueError(
                    f"the condition of event {name!r} is NaN at t = {end:.6g}; keep it finite"
                )
        found: list[Firing] = []
        trails = []
        for k in range(len(self.owners)):
            roots, trail = self._roots(k, step, thetas, table, coefficients)
            found += [(end if theta >= 1 else step.t + theta * step.h, theta, k) for theta in roots]
            trails.append(trail)
        self.last = table[-1]
        if found:
            cut = self._cut(step, end, coefficients, sorted(found, key=lambda item: item[1:]))
        else:
            cut = None
        if cut is not None and self.status is Status.EVENT:
            self.cut = self._sides_at(cut, step, thetas, trails, found)
        return cut

    def _sides_at(
        self,
        cut: EventHit,
        step: Step,
        thetas: Sequence[float],
        trails: list[list[int]],
        found: list[Firing],
    ) -> Signs:
        """Where the conditions are at the event that ends the segment. trails: of each, its side
        before and after every place."""
        here = {(hit.event, hit.index) for hit in self.hits if hit.t == cut.t}
        theta = (cut.t - step.t) / step.h
        passed = sum(1 for sample in thetas if sample < theta)
        earlier = {k for t, _, k in found if abs(t - step.t) < abs(cut.t - step.t)}
        tracked = [0 if k in earlier else trail[passed] for k, trail in enumerate(trails)]
        triggered = np.array([owner in here for owner in self.owners])
        return at_cut(self.values(cut.t, cut.y), np.array(tracked), triggered, rounding(cut.y))

    def _roots(
        self,
        k: int,
        step: Step,
        thetas: Sequence[float],
        table: list[list[float]],
        coefficients: Tensor,
    ) -> tuple[list[float], list[int]]:
        """(where condition k fires in the step, as fractions of it; its sides before the first and
        after every place)."""
        direction = self.events[self.owners[k][0]].direction
        side = self.signs[k]
        left = 0.0
        before = self.last[k]
        found = []
        trail = [side]
        for theta, row in zip(thetas, table, strict=True):
            g = row[k]
            sign = _sign(g)
            if side and sign != side:
                if direction != side:
                    found.append(self._root(k, step, coefficients, left, theta, before, g))
                side = sign
            elif not side and abs(g) > self.noise[k]:
                side = sign
                self.noise[k] = 0.0
            left = theta
            before = g
            trail.append(side)
        self.signs[k] = side
        return found, trail

    def _root(
        self, k: int, step: Step, coefficients: Tensor, a: float, b: float, ga: float, gb: float
    ) -> float:
        def g(theta: float) -> float:
            grid = torch.tensor([theta], dtype=torch.float64, device=step.y.device)
            return float(
                self._values([step.t + theta * step.h], evaluate(coefficients, grid))[0, k]
            )

        resolution = math.ulp(max(abs(step.t), abs(step.t + step.h))) / abs(step.h)
        return bracketed_root(g, a, b, ga, gb, max(torch.finfo(step.y.dtype).eps, resolution))

    def _cut(
        self, step: Step, end: float, coefficients: Tensor, found: list[Firing]
    ) -> EventHit | None:
        """Record events in their order up to the first time at which the segment must stop. found:
        (t, theta, condition)."""
        for group in simultaneous(found, instant(step.t, step.h, torch.finfo(step.y.dtype).eps)):
            hit = self._hit(step, group[0][0], end, coefficients)
            firing = sorted(
                (self.owners[k] for _, _, k in group), key=lambda owner: place(self.events, *owner)
            )
            for e, index in firing:
                self.counts[e] += 1
                if self.exceeds(e):
                    self.status = Status.MAX_EVENTS
                    return hit
                self.hits.append(hit._replace(event=e, index=index))
            if any(self.events[e].reset is not None or self.stops(e) for e, _ in firing):
                self.status = Status.EVENT
                return hit
        return None

    def exceeds(self, e: int) -> bool:
        """Whether event e has occurred more often than it may."""
        limit = self.events[e].max_events
        return limit is not None and self.counts[e] > limit

    def stops(self, e: int) -> bool:
        """Whether event e ends the solve at its present count."""
        return bool(self.events[e].terminal) and self.counts[e] >= self.events[e].terminal

    def _hit(self, step: Step, t: float, end: float, coefficients: Tensor) -> EventHit:
        """The EventHit of an event at t, without the number of the event."""
        theta = torch.tensor([(t - step.t) / step.h], dtype=torch.float64, device=step.y.device)
        # Where two steps meet the states agree, and the record is that of the step's own end.
        if t == end:
            y = step.y
        elif t == step.t:
            y = step.start
        else:
            y = evaluate(coefficients, theta)[0]
        slope = derivative(coefficients, theta)[0] / step.h
        # _cut says whose it is.
        return EventHit(t, y, slope, None, None)  # type: ignore[arg-type]


def changed_size(name: str | None, before: int, now: int, t: float) -> str:
    """The message for a condition that returns more or fewer values than before."""
    return (
        f"the condition of event {name!r} returned {now} values at t = {t:.6g} and {before} before:"
        " it must return as many at every time, one for each crossing to watch"
    )


def bracketed_root(
    g: Callable[[float], float], a: float, b: float, ga: float, gb: float, tol: float
) -> float:
    """Where g first leaves its side of zero between a and b, to within tol (``leaving``)."""
    search = leaving(a, b, ga, gb, tol)
    answer: Any = None
    try:
        while True:
            answer = g(search.send(answer))
    except StopIteration as end:
        return end.value


def leaving(a: float, b: float, ga: float, gb: float, tol: float) -> Generator[float, Any, float]:
    """Looks for where g leaves its side of zero between a and b: crosses zero, or becomes zero and
    may stay there.

    ga: g at a, not zero; gb: g at b, of the opposite sign or zero. A generator that yields places,
    is sent g there, and returns the root to within tol. The ITP method: at most a few evaluations
    more than bisection, usually far fewer. Oliveira & Takahashi, ACM Trans. Math. Softw. 47 (2020).
    Where g is zero its size tells nothing, and the other side is extrapolated instead.
    """
    if ga > 0:
        flip = -1.0
    else:
        flip = 1.0
    ga = flip * ga
    gb = flip * gb
    before = None
    radius = tol * 2.0 ** (max(0, math.ceil(math.log2((b - a) / (2 * tol)))) + 1)
    k1 = 0.2 / (b - a)
    flat = False
    while b - a > 2 * tol:
        if gb == 0 and not flat:
            # A zero met by chance, or one of many: then g is zero just before it, too.
            x = b - 2 * tol
            gx = flip * (yield x)
            if gx < 0:
                return b
            b = x
            gb = max(gx, 0.0)
            flat = True
            continue
        middle = (a + b) / 2
        guess = _guess(a, b, ga, gb, before, middle)
        if middle >= guess:
            toward = 1.0
        else:
            toward = -1.0
        shift = k1 * (b - a) ** 2
        if shift <= abs(middle - guess):
            x = guess + toward * shift
        else:
            x = middle
        reach = max(radius - (b - a) / 2, 0.0)
        if abs(x - middle) > reach:
            x = middle - toward * reach
        if not a < x < b:
            return x
        gx = flip * (yield x)
        if gx >= 0:
            b = x
            gb = gx
        else:
            before = a, ga
            a = x
            ga = gx
        radius /= 2
    return (a + b) / 2


def _guess(
    a: float, b: float, ga: float, gb: float, before: tuple[float, float] | None, middle: float
) -> float:
    """Where the line through the ends is zero, or, where g is zero at b, that through a and the
    place before it."""
    if gb > 0:
        return (gb * a - ga * b) / (gb - ga)
    if before is None or not before[1] < ga:
        return middle
    guess = a - ga * (a - before[0]) / (ga - before[1])
    if a < guess < b:
        return guess
    return middle


def _sign(g: float) -> int:
    return (g > 0) - (g < 0)
