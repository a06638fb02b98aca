"""Where to keep restart points of a long recursion for its backward pass.

The unit of work can be anything. A point lies before a unit. There are two rules: ``place`` for the
forward pass, whose length is not known yet, and ``advance`` for the backward pass, whose length is
known.
"""

from __future__ import annotations

from math import comb


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
