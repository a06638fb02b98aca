"""Jumps of f that the compiled loop crosses itself: a step ends just before a jump, and the next
one begins just behind it.

backends/torch/segments.py does the same between segments. A segment costs some calls of Python, and
an input with many knots has many jumps.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.step_control import stops_between
from ...methods.bdf.step import BDF
from .loop import SMALLEST_NORMAL

if TYPE_CHECKING:
    from ...methods.base import Method


def beside(times: np.ndarray, dtype: Any, direction: float, largest: float) -> np.ndarray:
    """The times next to these, float64, in the dtype in which f receives the time, as
    segments.SegmentedSolve._beside. largest: the largest time of the solve."""
    rounded = times.astype(dtype)
    spacing = np.spacing(rounded.dtype.type(largest))
    return (rounded + rounded.dtype.type(direction) * spacing).astype(np.float64)


def stops_and_restarts(
    given: Iterable[float], jumps: Sequence[float] | np.ndarray, t: float, end: float, dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(times at which steps must end, the last one is the end; where the solve goes on after each
    of them), float64.

    given: further times at which steps must end. jumps: of f, also outside of the span, or NaN.
    dtype: of the state.
    """
    times = np.asarray(jumps, dtype=np.float64)
    return _stops_and_restarts(
        tuple(map(float, given)), times[~np.isnan(times)].tobytes(), float(t), float(end), dtype
    )


# Solve after solve has the same times, and many small arrays take longer than a small solve.
@functools.lru_cache(maxsize=256)
def _stops_and_restarts(
    given: tuple[float, ...], jumps: bytes, t: float, end: float, dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The same for jumps as the bytes of float64 numbers. Nobody may change the arrays."""
    if not jumps:
        stops = np.array(stops_between(given, t, end, SMALLEST_NORMAL))
        return stops, stops
    direction = 1.0 if end > t else -1.0
    values = np.unique(direction * np.frombuffer(jumps)) * direction
    largest = max(abs(t), abs(end))
    before = beside(values, dtype, -direction, largest)
    behind = beside(values, dtype, direction, largest)
    # NaN is never inside.
    inside = (direction * (before - t) > 0) & (direction * (end - behind) > 0)
    before = before[inside]
    behind = behind[inside]
    apart = np.ones(len(before), dtype=bool)
    apart[1:] = direction * (before[1:] - behind[:-1]) > 0
    before = before[apart]
    behind = behind[apart]
    gap = np.searchsorted(direction * before, direction * np.asarray([*given]), "right") - 1
    free = [
        stop for stop, k in zip(given, gap.tolist()) if k < 0 or direction * (stop - behind[k]) > 0
    ]
    stops = np.array(stops_between([*free, *before.tolist()], t, end, SMALLEST_NORMAL))
    restarts = stops.copy()
    at = np.searchsorted(direction * stops, direction * before)
    restarts[at] = behind
    return stops, restarts


def crossed_inside(
    jumps: np.ndarray, others: Iterable[np.ndarray], first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Which jumps, (..., k), the loop can cross itself: those inside the span at which nothing else
    happens. others: the times of presets, (k,) or with the same rows. first, last: of the span,
    (..., 1)."""
    inside = (jumps > np.minimum(first, last)) & (jumps < np.maximum(first, last))
    for times in others:
        for i in range(times.shape[-1]):
            inside &= jumps != times[..., i : i + 1]
    return inside


def serves(method: Method, gradient: bool, by_steps: bool) -> bool:
    """Whether the loop can cross jumps itself under a method. gradient: whether its steps are
    recorded for one; by_steps: whether its adjoint looks at each step of a one-step method by
    itself."""
    return not gradient or (by_steps and not isinstance(method, BDF))
