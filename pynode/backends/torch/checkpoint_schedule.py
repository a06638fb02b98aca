"""Where to keep restart points of a long recursion for its backward pass.

The unit of work can be anything. A point lies before a unit. There are two rules: ``place`` for the
forward pass, whose length is not known yet, and ``advance`` for the backward pass, whose length is
known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, comb, inf
from typing import Any, NamedTuple


def repetitions(units: int, slots: int) -> int:
    """The least r with C(slots + r, slots) >= units: no unit runs forwards more than r times before
    the run that differentiates it. Griewank & Walther, ACM Trans. Math. Softw. 26 (2000), eq. 1."""
    r = 0
    while comb(slots + r, slots) < units:
        r += 1
    return r


def advance(units: int, slots: int) -> int:
    """How many units to run from a point before the next point. units: their number (2 or more) up
    to the next existing point.

    slots: the most points to keep, with the present one. Binomial placement: the total work on
    the way back is the least possible, ``repetitions * units - C(slots + repetitions, repetitions -
    1)``. Griewank & Walther, sec. 2.
    """
    r = repetitions(units, slots)
    return min(comb(slots + r - 1, slots), units - comb(slots + r - 2, slots - 1))


def place(levels: list) -> int | None:
    """The number of the point that a new one replaces if all slots are taken; None if the new point
    is not kept.

    levels: of the points in order; the first is infinite. A point is dispensable if a later one has
    a higher level. A new point that replaces a dispensable one gets level 0. If there is none, it
    replaces the last point and gets one level more than that. This makes the fewest repetitions for
    every length. Wang, Moin & Iaccarino, SIAM J. Sci. Comput. 31 (2009), alg. 1.
    """
    highest = levels[-1]
    for i in range(len(levels) - 2, 0, -1):
        if levels[i] < highest:
            return i
        highest = max(highest, levels[i])
    if len(levels) > 1:
        return len(levels) - 1
    return None


def fitting(memory: int, point: int, step: int, name: str, size: int) -> tuple[int, int]:
    """(points, steps to repeat at a time), each for half of the memory, in bytes.

    point, step: bytes of one of them. ValueError, with the name of the method and the size of the
    state, if the memory is too small.
    """
    limit = memory // 2 // point
    every = memory // 2 // step
    if limit < 1 or every < 1:
        raise ValueError(
            f"max_memory is {memory} bytes, but one state of {name} with {size} components and the"
            f" stages of one step take {2 * max(point, step)}: give at least that"
        )
    return limit, every


class RestartPoint(NamedTuple):
    """Where a recursion can start again: before step number ``index``. level: of the placement
    (``place``). content: what the recursion needs there."""

    index: int  # type: ignore[assignment]
    level: float
    content: Any


class RestartPoints:
    """The restart points of a recursion: one for ``every`` steps, at most ``limit`` (None: all)."""

    def __init__(self, limit: int | None, every: int) -> None:
        self.limit = limit
        self.every = every
        self.points: list[RestartPoint] = []

    def offer(self, index: int, content: Callable[[], Any]) -> None:
        """Keep a point before step number ``index`` if one is due there. content() makes its
        content."""
        if index % self.every:
            return
        points = self.points
        level: float = 0
        if not points:
            level = inf
        if len(points) == self.limit:
            dropped = place([point.level for point in points])
            if dropped is None:
                return
            if dropped == len(points) - 1:
                level = points[-1].level + 1
            else:
                level = 0
            del points[dropped]
        points.append(RestartPoint(index, level, content()))

    def backwards(
        self, end: int, repeat: Callable[[RestartPoint, int], Any]
    ) -> Iterator[tuple[RestartPoint, int]]:
        """Yield pieces of at most ``every`` of the steps before number ``end``, the last piece
        first: the point at its first step, and the number after its last step.

        repeat(point, last) takes the steps from the point up to number ``last``, without that one,
        and returns the content of a point there.
        """
        points = [point for point in self.points if point.index < end]
        while points:
            point = points[-1]
            units = ceil((end - point.index) / self.every)
            if units > 1:
                if self.limit is None:
                    slots = units
                else:
                    slots = max(1, self.limit - len(points) + 1)
                last = point.index + self.every * advance(units, slots)
                points.append(RestartPoint(last, 0, repeat(point, last)))
                continue
            yield point, end
            end = points.pop().index
