"""Rules of step-size control for the rows of a batch, each with a time and a step of its own.

All quantities are vectors of numbers, (m,): NumPy arrays or tensors (core/arithmetic.py).
core/step_control.py has the same rules for one system, with branches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .status import Status
from .step_control import RESOLUTION

if TYPE_CHECKING:
    from .arithmetic import Arithmetic, Numbers


def shortened_sizes(
    xp: Arithmetic,
    size: Numbers,
    t: Numbers,
    arrived: Numbers,
    direction: Numbers,
    rejected: Numbers,
) -> Numbers:
    """|h| of the next attempt after the rows in the mask refused a step from t to ``arrived``, as
    step_control.shortened. size: as the controller wants it."""
    # A step that is rounded to the refused one would be the same.
    same = rejected & (t + direction * size == arrived)
    return xp.where(same, abs(xp.nextafter(arrived, t) - t), size)


def is_stuck(t: Numbers, h: Numbers, accepted: Numbers) -> Numbers:
    """Mask of the rows whose next step h does not move the time t after an accepted step."""
    return accepted & (t + h == t)


def released(xp: Arithmetic, t: Numbers, h: Numbers, end: Numbers, stuck: Numbers) -> Numbers:
    """h, and for the rows in the mask the shortest step that moves the time, as
    step_control.planned: after a step that was good enough, it is tried."""
    return xp.where(stuck, xp.nextafter(t, end) - t, h)


def too_small(t: Numbers, h: Numbers, least: Numbers, at_edge: Numbers) -> Numbers:
    """Mask of the rows whose next step h is too short for floating point, as
    step_control.vanishes, wherever their next stops are.

    least: the shortest step; at_edge: whether the last attempt had a value that is not finite, or
    left the domain. There y may be rounded to itself.
    """
    size = abs(h)
    return (size < least) | (t + h == t) | (at_edge & (size <= RESOLUTION * abs(t)))


def short_of(stop: Numbers, t: Numbers, h: Numbers) -> Numbers:
    """Mask of the rows whose next step h ends before the stop. Up to the stop any step is long
    enough."""
    return abs(h) < abs(stop - t)


def endings(
    over: Numbers,
    small: Numbers,
    broken: Numbers,
    below: Numbers,
    many: Numbers,
    overflown: Numbers | None = None,
    unsolved: Numbers | None = None,
    outside: Numbers | None = None,
) -> list[tuple[Numbers, Status]]:
    """(mask of the rows, status) for each end of a row. The first that applies to a row is its
    status.

    Masks of the rows, None where it cannot happen: over: at their ends; small: a step too short for
    floating point; below: a refused step below min_step; many: the limit of steps; overflown: fixed
    steps to a value that is not finite; broken, unsolved, outside: of the last attempt
    (methods/batched/base.PassResult).
    """
    reasons = [(over, Status.SUCCESS)]
    if overflown is not None:
        reasons.append((overflown, Status.DIVERGED))
    reasons.append((small & broken, Status.NONFINITE))
    if unsolved is not None:
        reasons.append((small & unsolved, Status.NEWTON))
    if outside is not None:
        reasons.append((small & outside, Status.DOMAIN))
    reasons.append((small, Status.STEP_TOO_SMALL))
    if outside is not None:
        reasons.append((below & outside, Status.DOMAIN))
    return [*reasons, (below, Status.MIN_STEP), (many, Status.MAX_STEPS)]
