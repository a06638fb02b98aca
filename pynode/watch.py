"""Looks for events in each accepted step, on its polynomial."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from .dense import evaluate, slope
from .status import Status

# Where in a step the conditions are looked at.
SAMPLES = (0.25, 0.5, 0.75, 1.0)
# Further places in a step that begins where a condition is zero: which way it leaves zero is told by the first of them.
PROBES = tuple(2.0**-k for k in range(20, 2, -2))


class Hit(NamedTuple):
    """An event in a step. t: when; y, (n,): the state; slope, (n,): dy/dt there, of the polynomial.

    event: position in the list of events; index: component of its condition.
    """

    t: float
    y: torch.Tensor
    slope: torch.Tensor
    event: int
    index: int


class Watch:
    """The conditions of all events during one leg of a solve.

    events: list of Event; counts: how often each has occurred before this leg; fired: {(event, index): |g|} of those
    that made the leg begin, whose condition is as near to zero as rounding allows.
    Costs one polynomial and four evaluations of the conditions a step, and one synchronisation.
    """

    def __init__(self, events, field, counts, fired):
        self.events, self.field, self.before, self.fired = events, field, counts, fired
        self.hits, self.counts, self.status = [], list(counts), None

    def begin(self, t: float, y):
        """Note on which side of zero each condition starts, 0 where that is not known yet."""
        self.hits, self.status, self.counts = [], None, list(self.before)
        self.sizes = None
        values = self._values([t], [y]).tolist()[0]
        owners = [(e, i) for e, size in enumerate(self.sizes) for i in range(size)]
        self.owners = owners
        noise = 4 * torch.finfo(y.dtype).eps * float(y.detach().abs().max())
        self.noise = [max(8 * self.fired[o], 64 * noise) if o in self.fired else noise for o in owners]
        self.last = values
        self.sides = [0 if abs(g) <= n else _sign(g) for g, n in zip(values, self.noise, strict=True)]

    def _values(self, times, states):
        """All conditions at m points, times (floats) and states (n,): (m, K) on the CPU, in one synchronisation."""
        field, parts = self.field, []
        # Not in inference mode: what a condition's module keeps of this call, a graph may use later.
        with torch.inference_mode(False), torch.no_grad():
            clock = torch.tensor(times, dtype=field.dtype, device=field.device).unbind(0)
            for t, y in zip(clock, states, strict=True):
                state = field.layout.unravel(y)
                parts += [event.value(t, state, field.args) for event in self.events]
            if self.sizes is None:
                self.sizes = [len(part) for part in parts]
            return torch.cat(parts).to("cpu", torch.float64).view(len(times), -1)

    def scan(self, step, end: float, coefficients):
        """Note the events of a step that ends at time ``end``; the Hit at which the leg must stop, None to go on."""
        thetas = PROBES + SAMPLES if 0 in self.sides else SAMPLES
        grid = torch.tensor(thetas[:-1], dtype=torch.float64, device=step.y.device)
        times = [step.t + theta * step.h for theta in thetas[:-1]]
        table = self._values([*times, end], [*evaluate(coefficients, grid).unbind(0), step.y]).tolist()
        for g, (e, _) in zip(table[-1], self.owners, strict=True):
            if math.isnan(g):
                name = self.events[e].name
                raise ValueError(f"the condition of event {name!r} is NaN at t = {end:.6g}; keep it finite")
        found = []
        for k, owner in enumerate(self.owners):
            found += [(theta, *owner) for theta in self._roots(k, step, thetas, table, coefficients)]
        self.last = table[-1]
        return self._cut(step, end, coefficients, sorted(found))

    def _roots(self, k, step, thetas, table, coefficients):
        """Where condition k fires in the step, as fractions of it."""
        direction = self.events[self.owners[k][0]].direction
        side, left, before, found = self.sides[k], 0.0, self.last[k], []
        for theta, row in zip(thetas, table, strict=True):
            g = row[k]
            sign = _sign(g)
            if side and sign != side:
                if direction != side:
                    found.append(self._root(k, step, coefficients, left, theta, before, g))
                side = sign
            elif not side and abs(g) > self.noise[k]:
                side, self.noise[k] = sign, 0.0
            left, before = theta, g
        self.sides[k] = side
        return found

    def _root(self, k, step, coefficients, a, b, ga, gb):
        def g(theta):
            grid = torch.tensor([theta], dtype=torch.float64, device=step.y.device)
            return float(self._values([step.t + theta * step.h], evaluate(coefficients, grid))[0, k])

        resolution = math.ulp(max(abs(step.t), abs(step.t + step.h))) / abs(step.h)
        return bracketed_root(g, a, b, ga, gb, max(torch.finfo(step.y.dtype).eps, resolution))

    def _cut(self, step, end, coefficients, found):
        """Record events in their order up to the first one at which the leg must stop, and those at the same time."""
        cut = None
        for theta, e, index in found:
            event = self.events[e]
            t = end if theta >= 1 else step.t + theta * step.h
            if cut is not None and abs(t - cut.t) > 8 * math.ulp(max(abs(t), abs(step.h))):
                break
            self.counts[e] += 1
            if event.max_events is not None and self.counts[e] > event.max_events:
                self.status = Status.MAX_EVENTS
                return cut or self._hit(step, t, end, coefficients, e, index)
            hit = cut._replace(event=e, index=index) if cut else self._hit(step, t, end, coefficients, e, index)
            self.hits.append(hit)
            if event.reset is not None or self.stops(e):
                cut, self.status = cut or hit, Status.EVENT
        return cut

    def stops(self, e) -> bool:
        """Whether event e ends the solve at its present count."""
        return bool(self.events[e].terminal) and self.counts[e] >= self.events[e].terminal

    def _hit(self, step, t, end, coefficients, e, index):
        theta = torch.tensor([(t - step.t) / step.h], dtype=torch.float64, device=step.y.device)
        # Where two steps meet the states agree, and the record is that of the step's own end.
        y = step.y if t == end else step.start if t == step.t else evaluate(coefficients, theta)[0]
        return Hit(t, y, slope(coefficients, theta)[0] / step.h, e, index)


def bracketed_root(g, a, b, ga, gb, tol):
    """Where g first leaves its side of zero between a and b, to within tol (``leaving``)."""
    search, answer = leaving(a, b, ga, gb, tol), None
    try:
        while True:
            answer = g(search.send(answer))
    except StopIteration as end:
        return end.value


def leaving(a, b, ga, gb, tol):
    """Looks for where g leaves its side of zero between a and b: crosses zero, or becomes zero and may stay there.

    ga: g at a, not zero; gb: g at b, of the opposite sign or zero. A generator that yields places, is sent g there, and returns
    the root to within tol.
    The ITP method: at most a few evaluations more than bisection, usually far fewer. Oliveira & Takahashi,
    ACM Trans. Math. Softw. 47 (2020). Where g is zero its size tells nothing, and the other side is extrapolated instead.
    """
    flip = -1.0 if ga > 0 else 1.0
    ga, gb, before = flip * ga, flip * gb, None
    radius = tol * 2.0 ** (max(0, math.ceil(math.log2((b - a) / (2 * tol)))) + 1)
    k1, flat = 0.2 / (b - a), False
    while b - a > 2 * tol:
        if gb == 0 and not flat:
            # A zero met by chance, or one of many: then g is zero just before it, too.
            x = b - 2 * tol
            gx = flip * (yield x)
            if gx < 0:
                return b
            b, gb, flat = x, max(gx, 0.0), True
            continue
        middle = (a + b) / 2
        guess = _guess(a, b, ga, gb, before, middle)
        toward = 1.0 if middle >= guess else -1.0
        shift = k1 * (b - a) ** 2
        x = guess + toward * shift if shift <= abs(middle - guess) else middle
        reach = max(radius - (b - a) / 2, 0.0)
        if abs(x - middle) > reach:
            x = middle - toward * reach
        if not a < x < b:
            return x
        gx = flip * (yield x)
        if gx >= 0:
            b, gb = x, gx
        else:
            before = a, ga
            a, ga = x, gx
        radius /= 2
    return (a + b) / 2


def _guess(a, b, ga, gb, before, middle):
    """Where the line through the ends is zero, or, where g is zero at b, that through a and the place before it."""
    if gb > 0:
        return (gb * a - ga * b) / (gb - ga)
    if before is None or not before[1] < ga:
        return middle
    guess = a - ga * (a - before[0]) / (ga - before[1])
    return guess if a < guess < b else middle


def _sign(g: float) -> int:
    return (g > 0) - (g < 0)
