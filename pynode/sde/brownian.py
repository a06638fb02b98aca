"""One Brownian path. It gives its value at any time, in any order, and always the same answer
each time.

The tree of Brownian bridges of Li, Wong, Chen & Duvenaud, Scalable gradients for SDEs, AISTATS
2020, sec. 4 (Lévy's construction), with a counter-based generator at its nodes, so that nothing is
stored but the last way down.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

# Below 2^-DEPTH of an interval of the grid the path is straight: far below the steps that anybody
# takes.
DEPTH = 24


class _Node(NamedTuple):
    """The path between two times, (a, wa) and (b, wb). part: the number of this part among the
    2^level parts of its interval."""

    a: float
    b: float
    wa: torch.Tensor
    wb: torch.Tensor
    part: int


class BrownianPath:
    """W(t), with W(times[0]) = 0: independent components with variance t - times[0].

    shape: of the states, so that every component of every row has its own noise.
    times: at least two, increasing. The values there are drawn at once. Values between them are
        drawn by bridges when they are asked for. Two times are enough; a solver is faster if they
        are its grid. The path depends on them.
    seed: an integer. The same seed, times and shape give the same path on every device and in both
        dtypes, up to rounding.

    ``path(t)`` is the value at t, and ``path.increment(a, b)`` the value at b minus that at a.
    Raises ValueError outside of the times.
    """

    def __init__(
        self,
        shape: Sequence[int],
        times: Sequence[float] = (0.0, 1.0),
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        self.times = [float(t) for t in times]
        steps = np.diff(self.times)
        if (
            len(self.times) < 2
            or not (steps > 0).all()
            or not math.isfinite(self.times[0] + self.times[-1])
        ):
            raise ValueError(
                "a Brownian path needs at least two times, finite and strictly increasing"
            )
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
            raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, not {seed!r}")
        self.shape = tuple(shape)
        self.seed = seed
        self.dtype = dtype
        self.device = device
        scales = np.sqrt(steps).reshape(-1, *(1,) * len(self.shape))
        drawn = self._draw((len(steps), *self.shape), 0, 0, 0) * scales
        # float64, because increments of small steps are small differences of these values.
        self.values = torch.from_numpy(
            np.concatenate((np.zeros((1, *self.shape)), drawn.cumsum(0)))
        ).to(device)
        self._way: list[_Node] = []
        self._interval = -1

    def __call__(self, t: float) -> torch.Tensor:
        """W(t) for t a float."""
        return self._at(t).to(self.dtype)

    def increment(self, a: float, b: float) -> torch.Tensor:
        """W(b) - W(a), normal with variance b - a."""
        return (self._at(b) - self._at(a)).to(self.dtype)

    def _at(self, t):
        if not self.times[0] <= t <= self.times[-1]:
            raise ValueError(
                f"the Brownian path runs from {self.times[0]:.6g} to {self.times[-1]:.6g}, not to"
                f" {t:.6g}"
            )
        i = bisect_right(self.times, t) - 1
        if self.times[i] == t:
            return self.values[i]
        if i != self._interval:
            self._interval = i
            self._way = [
                _Node(self.times[i], self.times[i + 1], self.values[i], self.values[i + 1], 0)
            ]
        while not self._way[-1].a <= t <= self._way[-1].b:
            self._way.pop()
        return self._descend(t, i)

    def _descend(self, t, interval):
        """The value at t, inside the last node of the way. Extends the way down to it."""
        close = 2 * math.ulp(t) + 1e-14 * (self.times[interval + 1] - self.times[interval])
        while True:
            a, b, wa, wb, part = self._way[-1]
            if t - a <= close:
                return wa
            if b - t <= close:
                return wb
            level = len(self._way)
            if level > DEPTH:
                return wa + (wb - wa) * ((t - a) / (b - a))
            middle = 0.5 * (a + b)
            noise = torch.from_numpy(self._draw(self.shape, level, part, interval + 1)).to(
                self.device
            )
            w = 0.5 * (wa + wb) + math.sqrt(b - a) / 2 * noise
            if t <= middle:
                self._way.append(_Node(a, middle, wa, w, 2 * part))
            else:
                self._way.append(_Node(middle, b, w, wb, 2 * part + 1))

    def _draw(self, shape, level, index, interval):
        """Standard normal numbers of one node in the tree of one interval. Interval 0 is the grid
        itself."""
        # Philox counts in its first word; the others name the node. The second key keeps these
        # streams apart from NumPy's own.
        bits = np.random.Philox(
            key=np.array([self.seed, 0x70794E4F4445], dtype=np.uint64),
            counter=np.array([0, level, index, interval], dtype=np.uint64),
        )
        return np.asarray(np.random.Generator(bits).standard_normal(shape))
