"""Step-size control: the first step, and the next one from the error of the last."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# (beta1, beta2, beta3) of the digital filters, to be divided by the order of the error estimate. I:
# elementary control; PI: Gustafsson (1991); PID: Kennedy & Carpenter (2003), k_I = 0.25, k_P =
# 0.14, k_D = 0.10.
FILTERS = {"I": (1.0, 0.0, 0.0), "PI": (0.7, -0.4, 0.0), "PID": (0.49, -0.34, 0.10)}

# A time is rounded, so that a step moves it by another amount than was planned. What the step takes
# is that amount; but where the two agree to this part of the step it is the plan, so that equal
# steps stay equal and keep their factorisation.
ROUNDING = 1e-13
# Of |t|, a few units in its last place: a first step is at least this long.
RESOLUTION = 2e-15


# A step that ends this near to a stop, in steps, is stretched to it. Steps of a fixed size are
# stretched by rounding only.
SLACK = 1e-3
FIXED_SLACK = 1e-9


def as_moved(h: float, t: float, t1: float) -> float:
    """The size of a step planned as h that moves the time from t to t1."""
    moved = t1 - t
    if abs(moved - h) <= ROUNDING * abs(h):
        return h
    return moved


def shortened(h: float, t: float, t1: float, factor: float) -> float:
    """The step to try where one of h, from t to t1, was refused.

    It is factor h, and at least one unit in the last place of t shorter: one that is rounded to t1
    would be the same.
    """
    shorter = h * min(factor, 0.9)
    if t + shorter != t1:
        return shorter
    return math.nextafter(t1, t) - t


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

    def __post_init__(self):
        if self.kind not in FILTERS:
            raise ValueError(
                f"unknown controller {self.kind!r}; choose one of {', '.join(FILTERS)}"
            )

    def __call__(self, ratio: float, past: tuple, order: int):
        """(factor for h, new past). past: the ratios of the two accepted steps before, (1.0, 1.0)
        at the start."""
        if not math.isfinite(ratio):
            return self.smallest, past
        ratio = max(ratio, 1e-10)
        if ratio > 1:
            return max(self.smallest, min(0.9, self.safety * ratio ** (-1 / order))), past
        b1, b2, b3 = FILTERS[self.kind]
        factor = (
            self.safety
            * ratio ** (-b1 / order)
            * past[0] ** (-b2 / order)
            * past[1] ** (-b3 / order)
        )
        return max(self.smallest, min(self.largest, factor)), (ratio, past[0])

    def rows(self, ratio, past, order: int):
        """The same for rows of a batch, in NumPy: ratio (m,), past (2, m); one that is not finite
        counts as very large."""
        ratio = np.maximum(np.where(ratio < 1e30, ratio, 1e30), 1e-10)
        b1, b2, b3 = FILTERS[self.kind]
        good = (
            self.safety
            * ratio ** (-b1 / order)
            * past[0] ** (-b2 / order)
            * past[1] ** (-b3 / order)
        )
        bad = np.minimum(self.safety * ratio ** (-1 / order), 0.9)
        accepted = ratio <= 1
        factor = np.maximum(np.where(accepted, np.minimum(good, self.largest), bad), self.smallest)
        return factor, np.where(accepted, np.stack((ratio, past[0])), past)


def first_step(field, t0: float, t1: float, y0, f0, order: int, tol, longest: float) -> float:
    """|h| of the first step, from the sizes of y, f and the change of f. Hairer, Norsett & Wanner
    I, sec. II.4.

    order: of the error estimate, plus one. The book compares y', y'' and the step with plain
    numbers, so that another unit of time gives another step. Here they are measured in the time in
    which y changes by its own size, T = |y| / |y'|.
    """
    span = abs(t1 - t0)
    scale = tol.scale(y0)
    d0 = tol.rms(y0, scale)
    d1 = tol.rms(f0, tol.scale_or_inf(scale))
    if d0 > 1e-5 and 1e-5 < d1 * span < math.inf:
        h0 = 0.01 * d0 / d1
    else:
        h0 = from_zero(span, d1)
    h0 = min(h0, span, longest)
    if t1 > t0:
        direction = 1.0
    else:
        direction = -1.0
    y1 = y0 + direction * h0 * f0
    f1 = field.dydt(t0 + direction * h0, y1)
    d2 = tol.rms(f1 - f0, tol.scale_or_inf(tol.grow_scale(scale, y1))) / h0
    unit = 100 * h0
    change = max(d1 * unit, d2 * unit * unit)
    if not math.isfinite(change):
        return min(h0, 1e-3 * h0 + 1e-12 * span)
    if change <= 1e-15:
        return h0
    return min(unit, unit * (0.01 / change) ** (1 / order), span, longest)


def from_zero(span, d1):
    """h0 where y is zero or does not move: a part of the span, and no more than 1e4 tolerances of
    the way, d1 h0."""
    return min(1e-6 * span, 1e4 / d1 if 0 < d1 < math.inf else math.inf)
