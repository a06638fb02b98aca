"""The gradients of many native solves at once, on all processors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.native.rows import each
from ...backends.native.solve import NativeTrajectory
from .pullback import NativeGradient, pullback


def pullback_rows(
    fields: Sequence[Any],
    trajectories: Sequence[NativeTrajectory],
    times: Sequence[Sequence[float]],
    grads: Sequence[np.ndarray],
    threads: int | None = None,
) -> list[NativeGradient]:
    """The ``pullback`` of every row. fields, times, grads: of each row. The results do not depend on the
    threads."""

    def task(i: int) -> NativeGradient:
        return pullback(fields[i], trajectories[i], times[i], grads[i])

    return each(task, len(trajectories), threads, threading.Event())
