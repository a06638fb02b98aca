"""The gradient of a native solve that kept restart points: it repeats the steps in pieces, and goes
back over each piece before the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.native.rows import each
from .stability import sampled


def pull_pieces(
    way: Any, grads: Sequence[np.ndarray], threads: int | None
) -> list[tuple[np.ndarray, np.ndarray, dict[str, int]]]:
    """What ``way.pull`` gives for each of the cotangents, (T, n). way: a WayBack.

    All cotangents go back over a piece, by several threads, before the next one is repeated.
    """
    restarts = way.trajectory.restarts
    sweeps = [_Sweep(way, cotangents) for cotangents in grads]
    before = dict(restarts.counts)
    chosen = sampled(way.trajectory.accepted)
    for first, steps in restarts.backwards(max((sweep.steps for sweep in sweeps), default=0)):
        if chosen is not None:
            seen = chosen[(chosen >= first) & (chosen < first + len(steps.starts))]
            way.seen.update((int(k), steps.states[k - first].copy()) for k in seen)

        def back(i: int, first: int = first, steps: Any = steps) -> None:
            sweeps[i].back(first, steps)

        each(back, len(sweeps), threads)
    results = [sweep.result() for sweep in sweeps]
    for _, _, work in results[:1]:
        for name, count in restarts.counts.items():
            work[name] = work.get(name, 0) + count - before[name]
    return results


class _Sweep:
    """One cotangent on its way back. steps: the number of steps that it needs."""

    def __init__(self, way: Any, grads: np.ndarray) -> None:
        self.way = way
        self.grads = grads
        self.outputs, self.steps, self.cotangents = way.needed(grads)
        self.blocks: Any = None
        self.counts: dict[str, int] = {"nvjp": 0}
        self.slot = 0

    def back(self, first: int, steps: Any) -> None:
        """Over a piece of the steps, whose first one has this number."""
        count = min(self.steps - first, len(steps.starts))
        if count <= 0:
            return
        way = self.way
        low = int(np.searchsorted(way.steps[: self.outputs], first))
        self.blocks = way.blocks_of(
            steps, slice(low, self.outputs), self.cotangents, self.blocks, first
        )
        found, self.slot = way.sweep(self.blocks, count, self.outputs - low, first == 0, self.slot)
        self.outputs = low
        for name, work in found.items():
            self.counts[name] = self.counts.get(name, 0) + work

    def result(self) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """(cotangent of y0 (n,), those of all targets, counts)."""
        y0 = self.way.at_start(self.grads)
        if self.blocks is None:
            return y0, np.zeros(self.way.size, y0.dtype), self.counts
        return self.blocks.of("ybar") + y0, self.blocks.of("grads"), self.counts
