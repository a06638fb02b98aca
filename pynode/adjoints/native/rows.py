"""The gradients of many native solves at once, on all processors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.native.rows import each
from ...backends.native.trajectory import NativeTrajectory
from .pullback import NativeGradient, pullback


def pullback_rows(
    field: Any,
    trajectories: Sequence[NativeTrajectory],
    times: Sequence[Sequence[float]],
    grads: Sequence[np.ndarray],
    threads: int | None = None,
    inputs: np.ndarray | None = None,
) -> list[NativeGradient]:
    """The ``pullback`` of every row. times, grads, inputs: of each row. The results
    do not depend on the threads."""

    def task(i: int) -> NativeGradient:
        own = None if inputs is None else inputs[i]
        return pullback(field, trajectories[i], times[i], grads[i], inputs=own)

    return each(task, len(trajectories), threads, threading.Event())
