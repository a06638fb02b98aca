"""Many native solves at once, on all processors."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from .solve import integrate
from .trajectory import NativeTrajectory


def integrate_rows(
    field: Any,
    method: Any,
    starts: np.ndarray,
    times: Sequence[Sequence[float]],
    options: Any,
    atol: np.ndarray,
    threads: int | None = None,
    inputs: np.ndarray | None = None,
    attempts: np.ndarray | None = None,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    each_row: Callable[[int], dict[str, Any]] | None = None,
    **more: Any,
) -> list[NativeTrajectory]:
    """A solve for each row: the results of ``integrate``. They do not depend on the threads.

    starts: (B, n). times: of each row. atol: (B,) or (B, n). threads: by default those of torch.
    inputs: (B, k) int64 addresses of the parameters of each row; None for those of the field.
    attempts: (B,) steps that each row has tried before. bounds: (lowest, floor), (B, n) each.
    each_row(i): further arguments of ``integrate`` for row i. more: those that are the same for all
    rows.
    """
    stop = threading.Event()

    def solve(i: int) -> NativeTrajectory:
        own = None if inputs is None else inputs[i]
        counts = (0, 0)
        if attempts is not None:
            counts = (int(attempts[i]), 0)
        limits = None
        if bounds is not None:
            limits = (bounds[0][i], bounds[1][i])
        others = {} if each_row is None else each_row(i)
        return integrate(
            field,
            method,
            starts[i],
            times[i],
            options,
            atol[i],
            cancelled=stop.is_set,
            inputs=own,
            counts=counts,
            bounds=limits,
            **others,
            **more,
        )

    return each(solve, len(starts), threads, stop)


def each(
    task: Callable[[int], Any], count: int, threads: int | None, stop: threading.Event
) -> list[Any]:
    """[task(0), ..., task(count - 1)], by several threads. If one raises an error, or Ctrl-C
    interrupts, stop is set, and the other tasks end early."""
    workers = min(threads or torch.get_num_threads(), count)
    if workers < 2:
        return [task(i) for i in range(count)]
    results: list[Any] = [None] * count
    numbers = itertools.count()

    def work() -> None:
        for i in numbers:
            if i >= count or stop.is_set():
                return
            results[i] = task(i)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            raise
    return results
