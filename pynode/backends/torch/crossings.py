"""Where the conditions of events cross zero in a step: their sides of zero at some places of the
step, and the roots between two places. The same for one system and for the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .simultaneous_events import Signs

# The fractions of a step at which the conditions are evaluated.
SAMPLES = (0.25, 0.5, 0.75, 1.0)
# Further fractions for a step that starts where a condition is zero. The first of them shows to
# which side the condition leaves zero.
PROBES = tuple(2.0**-k for k in range(20, 2, -2))


class Bracket(NamedTuple):
    """A part of a step, from a to b as fractions of it, in which a condition fires. where: its
    index (..., k) in the values of the conditions; ga, gb: its values at a and b."""

    where: tuple[int, ...]
    a: float
    b: float
    ga: float
    gb: float


def places(signs: np.ndarray) -> tuple[float, ...]:
    """The fractions of a step at which its conditions, with these signs at its start, are
    evaluated."""
    if signs.all():
        return SAMPLES
    return PROBES + SAMPLES


def crossings(
    thetas: Sequence[float],
    table: np.ndarray,
    before: np.ndarray,
    signs: Signs,
    directions: np.ndarray,
) -> tuple[list[Bracket], np.ndarray, Signs]:
    """(brackets of all crossings that fire, sides before the first and after every place, (L + 1,
    ..., K), the Signs at the end of the step).

    thetas: the places; table: (L, ..., K), the conditions there; before, signs: (..., K), at the
    start of the step; directions: (K,), those in which the conditions fire.
    """
    known, noise = signs
    sides = np.sign(table)
    if known.all() and (sides == known).all():
        # Most steps cross nothing, and the loop below would take longer than their conditions.
        return [], np.broadcast_to(known, (len(thetas) + 1, *known.shape)), signs
    left = 0.0
    brackets = []
    trail = [known]
    for theta, g, side in zip(thetas, table, sides, strict=True):
        changes = (known != 0) & (side != known)
        fires = changes & (directions != known)
        if fires.any():
            for where in map(tuple, np.argwhere(fires).tolist()):
                brackets.append(Bracket(where, left, theta, float(before[where]), float(g[where])))
        leaves = (known == 0) & (np.abs(g) > noise)
        noise = np.where(leaves, 0.0, noise)
        known = np.where(leaves | changes, side, known)
        left = theta
        before = g
        trail.append(known)
    return brackets, np.stack(trail), Signs(known, noise)


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


def bracketed_roots(
    g: Callable[[np.ndarray], np.ndarray],
    a: np.ndarray,
    b: np.ndarray,
    ga: np.ndarray,
    gb: np.ndarray,
    tol: np.ndarray,
) -> np.ndarray:
    """Where many functions first leave their sides of zero, (q,), each between its a and b
    (``leaving``).

    g(x): all functions, each at its own x; the other arguments: (q,).
    """
    searches = [
        leaving(*row) for row in zip(*(x.tolist() for x in (a, b, ga, gb, tol)), strict=True)
    ]
    points = a.copy()
    answers: list[Any] = [None] * len(a)
    going: Sequence[int] = range(len(a))
    while True:
        asking = []
        for i in going:
            try:
                points[i] = searches[i].send(answers[i])
                asking.append(i)
            except StopIteration as end:
                points[i] = end.value
        if not asking:
            return points
        answers = g(points).tolist()
        going = asking
