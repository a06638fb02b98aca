"""Where to keep restart points of a long recursion that is to be run backwards.

Units of work are counted here, whatever they are; a point is kept before a unit. Two rules:
``place`` for the way forwards, whose length nobody knows yet, and ``advance`` for the way back, on
which it is known.
"""

from __future__ import annotations

from math import comb


def repetitions(units: int, slots: int) -> int:
    """The least r with C(slots + r, slots) >= units: no unit has to be run forwards more than r
    times before the run in which it is differentiated. Griewank & Walther, ACM Trans. Math. Softw.
    26 (2000), eq. 1."""
    r = 0
    while comb(slots + r, slots) < units:
        r += 1
    return r


def advance(units: int, slots: int) -> int:
    """How many units to run from a point, of the many (2 or more) up to the next one, before the
    next point is kept.

    slots: points that may be kept, the present one included. Binomial placement: the total work on
    the way back is the least possible, ``repetitions * units - C(slots + repetitions, repetitions -
    1)``. Griewank & Walther, sec. 2.
    """
    r = repetitions(units, slots)
    return min(comb(slots + r - 1, slots), units - comb(slots + r - 2, slots - 1))


def place(levels: list) -> int | None:
    """Which of the points kept to give up for a new one, when all slots are taken; None keeps no
    new one.

    levels: of the points in order, the first infinite. The new point gets level 0 if the one given
    up is dispensable, that is if a later one has a higher level, and otherwise, taking the place of
    the last, one level more than that. Repetitions are then the fewest possible for any length.
    Wang, Moin & Iaccarino, SIAM J. Sci. Comput. 31 (2009), alg. 1.
    """
    highest = levels[-1]
    for i in range(len(levels) - 2, 0, -1):
        if levels[i] < highest:
            return i
        highest = max(highest, levels[i])
    if len(levels) > 1:
        return len(levels) - 1
    return None
