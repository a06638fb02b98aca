"""Trajectories that are held out of training, for the verdict."""

from __future__ import annotations

import math

from ..data import Dataset


def held_out(data: Dataset, hold_out: float) -> tuple[bool, ...]:
    """For each trajectory whether it is held out: ``hold_out`` of them, or this share if it is
    below one, at least one; spread evenly over the file, so that a file whose trajectories are in
    the order of a dose loses neither end.

    Raises ValueError if no trajectory would be left.
    """
    count = len(data.trajectories)
    if not hold_out:
        return (False,) * count
    if hold_out < 1:
        wanted = max(1, round(hold_out * count))
    else:
        wanted = int(hold_out)
    if wanted >= count:
        raise ValueError(
            f"hold_out={hold_out:g} leaves no trajectory to learn from: there are {count}. Hold out"
            " times with validation instead, or fewer trajectories"
        )
    chosen = {math.floor((k + 0.5) * count / wanted) for k in range(wanted)}
    return tuple(i in chosen for i in range(count))
