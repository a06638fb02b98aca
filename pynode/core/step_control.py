"""Step-size control: the first step, and the next one from the error of the last."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arithmetic import Floats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from .arithmetic import Arithmetic, Numbers
    from .norm import Tolerance
    from .vector_field import VectorField

# (beta1, beta2, beta3) of the digital filters, to be divided by the order of the error estimate. I:
# elementary control; PI: Gustafsson (1991); PID: Kennedy & Carpenter (2003), k_I = 0.25, k_P =
# 0.14, k_D = 0.10.
FILTERS = {"I": (1.0, 0.0, 0.0), "PI": (0.7, -0.4, 0.0), "PID": (0.49, -0.34, 0.10)}

# Rounding of t + h changes the size of a step. If the two sizes agree to this fraction of the step,
# the step keeps the planned size, so that equal steps stay equal and keep their factorisation.
# Otherwise it takes the rounded size.
ROUNDING = 1e-13
# As a fraction of |t|: a few units in its last place. A first step is at least this long.
RESOLUTION = 2e-15

# In steps. A step that ends this close to a stop is stretched to it. Fixed steps are stretched only
# by rounding.
STOP_TOLERANCE = 1e-3
FIXED_STOP_TOLERANCE = 1e-9

# Bounds of a scaled error. A larger or smaller error counts as the bound, and NaN as the largest.
LARGEST_RATIO = 1e30
SMALLEST_RATIO = 1e-10
# Added to |y''| where a rule divides by it.
SMALLEST = 1e-300


def next_step(
    xp: Arithmetic, t: Numbers, h: Numbers, stop: Numbers, stop_tolerance: float, direction: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """Return (h, t1, hits_stop) for a step planned as h from t: its size, its end, and whether the
    end is the next stop.

    A step that passes the stop, or ends within ``stop_tolerance`` steps of it, ends at the stop.
    Its size is the distance by which the rounded time moves. direction: 1 or -1, of the time.
    """
    t1 = t + h
    size = abs(h)
    hits_stop = direction * (t1 - stop) >= -stop_tolerance * size
    t1 = xp.where(hits_stop, stop, t1)
    moved = t1 - t
    return xp.where(abs(moved - h) <= ROUNDING * size, h, moved), t1, hits_stop


def shortened(h: float, t: float, t1: float, factor: float) -> float:
    """The step to try after a step of h, from t to t1, was refused.

    It is factor h, but at least one unit in the last place of t shorter: a step that is rounded to
    t1 would be the same step.
    """
    shorter = h * min(factor, 0.9)
    if t + shorter != t1:
        return shorter
    return math.nextafter(t1, t) - t


def vanishes(h: float, t: float, stop: float, least: float, at_edge: bool) -> bool:
    """Whether a step of h from t is too short for floating point, and the next stop is farther.

    least: the shortest step. at_edge: whether the last attempt left the domain, or the states where
    f has a value. There a step of some units in the last place of t may be allowed because y is
    rounded to itself: such steps continue for ever.
    """
    size = abs(h)
    gone = size < least or t + h == t
    if at_edge:
        gone = gone or size <= RESOLUTION * abs(t)
    return gone and size < abs(stop - t)


def planned(
    t: float,
    h: float,
    factor: float,
    proposed: float,
    fixed: bool,
    hits_stop: bool,
    direction: float,
    longest: float,
    end: float,
) -> float:
    """The next step to try after an accepted step of h, which ended at t.

    factor: of the controller; proposed: the size planned for the last step, before a stop changed
    it; fixed: whether all steps have one size; hits_stop: whether the last step ended at a stop;
    longest: the largest size; end: of the solve.
    """
    # A fixed step keeps its size, even if rounding moved the time by a little more or less.
    if fixed:
        following = proposed
    else:
        following = h * factor
    if hits_stop:
        # The step was shortened to end at a stop, not because of its error.
        following = direction * max(abs(following), abs(proposed))
    if abs(following) > longest:
        following = direction * longest
    if t + following == t:
        # After a step that was good enough, the shortest one that moves the time is tried.
        following = math.nextafter(t, end) - t
    return following


def stops_between(given: Iterable[float], t: float, end: float, least: float) -> list[float]:
    """The stops between t and the end, in order, and then the end. Of two stops that are closer
    than the least step, the later one stays."""
    if end > t:
        direction = 1.0
    else:
        direction = -1.0
    stops = [end]
    for stop in sorted(given, key=lambda s: -direction * s):
        if direction * (stops[-1] - stop) > least and direction * (stop - t) > least:
            stops.append(stop)
    stops.reverse()
    return stops


@dataclass(frozen=True)
class Controller:
    """factor = safety * r_n^(-beta1/k) r_(n-1)^(-beta2/k) r_(n-2)^(-beta3/k), within limits.
    Soederlind (2003).

    r: scaled error of a step (1 is the limit of acceptance); k: order of the error estimate plus
    one. After a rejection the elementary controller is used, and the step that follows does not
    grow.
    """

    kind: str = "PI"
    safety: float = 0.9
    smallest: float = 0.2
    largest: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in FILTERS:
            raise ValueError(
                f"unknown controller {self.kind!r}; choose one of {', '.join(FILTERS)}"
            )

    def __call__(self, ratio: float, past: tuple, order: int) -> tuple[float, tuple[float, float]]:
        """(factor for h, new past). past: the ratios of the two accepted steps before, (1.0, 1.0)
        at the start."""
        return self.control(Floats, ratio, past, order)

    def control(
        self, xp: Arithmetic, ratio: Numbers, past: tuple[Numbers, Numbers], order: int
    ) -> tuple[Numbers, tuple[Numbers, Numbers]]:
        """The same for floats, arrays or tensors. xp: their namespace (core/arithmetic.py)."""
        r1, r2 = past
        filters = FILTERS[self.kind]
        factor, r1, r2 = controlled(
            xp, ratio, r1, r2, order, filters, self.safety, self.smallest, self.largest
        )
        return factor, (r1, r2)


def controlled(
    xp: Arithmetic,
    ratio: Numbers,
    r1: Numbers,
    r2: Numbers,
    order: int,
    filters: tuple[float, float, float],
    safety: float,
    smallest: float,
    largest: float,
) -> tuple[Numbers, Numbers, Numbers]:
    """(factor for h, new r1, new r2): the rule of a Controller.

    ratio: scaled error of the step; r1, r2: those of the two accepted steps before. filters:
    (beta1, beta2, beta3).
    """
    b1, b2, b3 = filters
    r = xp.maximum(xp.where(ratio < LARGEST_RATIO, ratio, LARGEST_RATIO), SMALLEST_RATIO)
    accepted = r <= 1
    filtered = r ** (-b1 / order)
    # A power of a million rows takes as long as all else here.
    if b2 != 0.0:
        filtered = filtered * r1 ** (-b2 / order)
    if b3 != 0.0:
        filtered = filtered * r2 ** (-b3 / order)
    grown = xp.minimum(safety * filtered, largest)
    shrunk = xp.minimum(safety * r ** (-1 / order), 0.9)
    factor = xp.maximum(xp.where(accepted, grown, shrunk), smallest)
    return factor, xp.where(accepted, r, r1), xp.where(accepted, r1, r2)


def first_step(
    field: VectorField,
    t0: float,
    t1: float,
    y0: Tensor,
    f0: Tensor,
    order: int,
    tol: Tolerance,
    longest: float,
) -> float:
    """|h| of the first step, from the sizes of y, f and the change of f. Hairer, Norsett & Wanner
    I, sec. II.4.

    order: of the error estimate, plus one. The book compares y' and y'' with each other, so that
    another unit of time gives another step. Here they are measured in the time in which y' changes
    by its own size, T = |y'| / |y''|. In this unit the two are equal, and the book's formula holds.
    """
    span = abs(t1 - t0)
    scale = tol.scale(y0)
    d0 = tol.rms(y0, scale)
    d1 = tol.rms(f0, tol.scale_or_inf(scale))
    h0 = trial_step(Floats, d0, d1, span, longest)
    direction = math.copysign(1.0, t1 - t0)
    y1 = y0 + direction * h0 * f0
    f1 = field.dydt(t0 + direction * h0, y1)
    d2 = tol.rms(f1 - f0, tol.scale_or_inf(tol.grow_scale(scale, y1))) / h0
    return judged_step(Floats, d1, d2, h0, order, span, longest)


def trial_step(xp: Arithmetic, d0: float, d1: float, span: float, longest: float) -> float:
    """The step that first_step tries, to see how y' changes. d0, d1: the sizes of y and y'."""
    return min(step_of_size(xp, d0, d1, span), span, longest)


def judged_step(
    xp: Arithmetic, d1: float, d2: float, h0: float, order: int, span: float, longest: float
) -> float:
    """|h| of the first step after a trial step of h0. d1, d2: the sizes of y' and y''."""
    if not math.isfinite(d1 * h0 + d2 * h0 * h0):
        return min(h0, 1e-3 * h0 + 1e-12 * span)
    return min(100 * h0, step_of_slopes(xp, d1, d2, order), span, longest)


def bounded_step(
    h: float, t: float, end: float, longest: float, fixed: bool, direction: float
) -> float:
    """The first step with its sign, inside its bounds. h: as chosen; fixed: whether all steps have
    this size."""
    size = abs(h)
    if not fixed:
        size = max(size, RESOLUTION * abs(t))
    return direction * min(size, longest, abs(end - t))


def step_of_slopes(xp: Arithmetic, d1: Numbers, d2: Numbers, order: int) -> Numbers:
    """The step whose error is a hundredth of the tolerance, judged by the sizes d1 of y' and d2 of
    y''.

    In the unit of time d1 / d2 it is the book's (0.01 / d1)^(1 / order). If y' is small compared
    with y'', the step of a method of order 2 is longer. It does not depend on y'.
    """
    by_curvature = 0.1 / (d2 + SMALLEST) ** 0.5
    return by_curvature * xp.maximum(100 * d1 * by_curvature, 1.0) ** (1 - 2 / order)


def step_of_size(xp: Arithmetic, d0: Numbers, d1: Numbers, span: Numbers) -> Numbers:
    """The step that moves y by a hundredth of its size d0, judged by the size d1 of y'.

    If y is zero or does not move, it is a fraction of the span, in which y moves by at most 1e4
    tolerances.
    """
    moving = (d1 > 0) & (d1 < math.inf)
    slope = xp.where(moving, d1, 1.0)
    from_zero = xp.minimum(1e-6 * span, xp.where(moving, 1e4 / slope, math.inf))
    known = moving & (d0 > 1e-5) & (d1 * span > 1e-5)
    return xp.where(known, 0.01 * d0 / slope, from_zero)
