"""Where f jumps or has a kink along the solution: refused steps are divided again and again."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core.status import RejectStep
from ..core.vector_field import VectorField
from .reference_solve import ReferenceSolve

PARTS = 16  # each round divides an interval into so many parts
INTERVALS = 60  # at most so many refused steps are examined
SAME = 1e-6  # of the span: jumps closer than this count as one
# A jump keeps its change of f in every round; a smooth f keeps 1/16 of it. An interval whose change
# falls below this part of the first one has no jump.
REMAINS = 0.05
KINK = 0.2  # the same for the change of slope, which varies more along a curve
GROWS = 3.0  # a change of slope that grows by more than this factor in a round is rounding
# Rounds: 16^-13 is rounding, which spoils second differences much earlier.
FEWEST = 4
DEEP = 13
KINK_ROUNDS = 4


@dataclass(frozen=True)
class Jump:
    """A jump or a kink of f.

    t: its time. width: how closely it was located.
    components: flat indices of the components of f that jump, the largest first.
    size: of the largest change of f, relative to the largest |f_i| nearby.
    timed: whether f also jumps in time at a fixed state.
    slope_discontinuity: a kink: f is continuous and its slope jumps.
    """

    t: float
    width: float
    components: tuple[int, ...]
    size: float
    timed: bool
    slope_discontinuity: bool


class _Path:
    """f along the dense solution, and the largest |f_i| of the whole reference solve."""

    def __init__(self, field, reference):
        self.field = field
        self.reference = reference
        steps = reference.times[:: max(1, len(reference.times) // 100)]
        rows = [row for row in map(self, steps) if row is not None]
        if rows:
            self.size = torch.stack(rows).abs().amax(0).clamp_min(1e-300)
        else:
            self.size = None

    def __call__(self, t):
        """(n,) float64, None if f rejects the state."""
        try:
            return self.field(t, self.reference.state(t)).to("cpu", torch.float64)
        except RejectStep:
            return None


def jumps(field: VectorField, reference: ReferenceSolve, points: int = INTERVALS) -> list[Jump]:
    """The jumps and kinks inside refused steps, in the order of their times. points: at most so
    many steps are examined."""
    located: list[Jump] = []
    if len(reference.times) < 2:
        return []
    with torch.no_grad():
        along = _Path(field, reference)
        if along.size is None:
            return []
        for a, b in _intervals(reference):
            if any(min(a, b) <= jump.t <= max(a, b) for jump in located):
                continue
            if points == 0:
                break
            points -= 1
            jump = _jump(along, a, b) or _kink(along, a, b)
            # If f chatters, in a sliding mode, one jump represents all.
            if jump is not None and not any(
                abs(jump.t - other.t) <= max(jump.width, SAME * reference.span) for other in located
            ):
                located.append(jump)
    if reference.times[-1] >= reference.times[0]:
        direction = 1.0
    else:
        direction = -1.0
    return sorted(located, key=lambda jump: direction * jump.t)


def _intervals(reference):
    """(a, b) of the refused steps, inside the part that was reached. The shortest comes first, so
    that close jumps are found separately. Steps so short that rounding of t hides a jump are left
    out."""
    if reference.times[-1] >= reference.times[0]:
        direction = 1.0
    else:
        direction = -1.0
    least = PARTS ** (FEWEST + 1) * torch.finfo(reference.states.dtype).eps
    intervals = []
    for attempt in sorted(reference.rejected, key=lambda attempt: abs(attempt.h)):
        a = attempt.t
        b = attempt.t + attempt.h
        if direction * (b - reference.reached) > 0:
            b = reference.reached
        if direction * (b - a) > least * max(abs(a), abs(b)):
            intervals.append((a, b))
    return intervals


def _samples(along, a, b):
    """(times, f (PARTS + 1, n) there); (None, None) if f is not finite or rejects a state."""
    times = [a + (b - a) * i / PARTS for i in range(PARTS + 1)]
    rows = [along(t) for t in times]
    if any(row is None or not bool(torch.isfinite(row).all()) for row in rows):
        return None, None
    return times, torch.stack(rows)


def _jump(along, a, b):
    """The jump between a and b, None if f is continuous there."""
    eps = torch.finfo(along.field.dtype).eps
    changes = []
    level = None
    for _ in range(DEEP):
        times, f = _samples(along, a, b)
        if f is None:
            return None
        # In units of the size of f here, so that small components count where they matter.
        if level is None:
            level = f.abs().amax(0).clamp_min(1e-6 * along.size)
        steps = ((f[1:] - f[:-1]) / level).abs().amax(1)
        k = int(steps.argmax())
        changes.append(float(steps[k]))
        if changes[-1] < REMAINS * changes[0]:
            return None
        a = times[k]
        b = times[k + 1]
        if abs(b - a) <= eps * max(32 * abs(a), 32 * abs(b), along.reference.span):
            break
    if len(changes) < FEWEST or changes[-1] < 1e3 * eps:
        return None  # t has too few digits to distinguish a jump from a steep slope
    change = (f[k + 1] - f[k]).abs() / level
    largest = change.sort(descending=True)
    components = tuple(
        int(i) for i, size in zip(largest.indices, largest.values) if size > 0.1 * change.max()
    )[:5]
    return Jump(
        _shortest(a, b),
        abs(b - a),
        components,
        changes[-1],
        _timed(along, a, b, change.max() * level),
        False,
    )


def _shortest(a, b) -> float:
    """The number with the fewest digits from a to b, or as close to them as they are to each other:
    2.7 instead of 2.6999999999999."""
    middle = 0.5 * (a + b)
    if abs(middle) <= abs(b - a):
        return 0.0
    for digits in range(1, 18):
        t = float(f"{middle:.{digits}g}")
        if abs(t - middle) <= abs(b - a):
            return t
    return middle


def _timed(along, a, b, change) -> bool:
    """Whether f jumps from a to b at a fixed state."""
    y = along.reference.state(a)
    try:
        fixed = (along.field(b, y) - along.field(a, y)).to("cpu", torch.float64).abs()
    except RejectStep:
        return False
    return bool((fixed > 0.5 * change).any())


def _kink(along, a, b):
    """The kink between a and b, None if the slope of f is continuous up to rounding."""
    changes = []
    level = None
    for _ in range(KINK_ROUNDS):
        times, f = _samples(along, a, b)
        if f is None:
            return None
        width = abs(times[1] - times[0])
        if level is None:
            level = (f.amax(0) - f.amin(0)).clamp_min(1e-6 * along.size)
        bends = ((f[2:] - 2 * f[1:-1] + f[:-2]) / level).abs().amax(1) / width
        k = int(bends.argmax())
        changes.append(float(bends[k]))
        # A jump of the slope stays the same, rounding grows as the width shrinks.
        if changes[-1] < KINK * max(changes) or (
            len(changes) > 1 and changes[-1] > GROWS * changes[-2]
        ):
            return None
        bend = ((f[k + 2] - 2 * f[k + 1] + f[k]) / level).abs()
        a = times[k]
        b = times[k + 2]
    return Jump(0.5 * (a + b), abs(b - a), (int(bend.argmax()),), float(bend.max()), False, True)
