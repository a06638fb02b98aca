"""States in other coordinates, in which a trajectory that spans decades is a smooth curve.

A state that is positive and spans decades is learned as its logarithm. A state of both signs with
rare high peaks is learned as the inverse hyperbolic sine of y / size, which is linear near zero and
logarithmic far from it. A pulse of a relaxation oscillator is a hundred times as high as what comes
between; in these coordinates both count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..data import Dataset, Trajectory

PLAIN = "plain"
LOG = "log"
ARCSINH = "arcsinh"
# A positive state that spans so many decades is learned as its logarithm.
DECADES = 2.0
# A state of both signs is learned as an arcsinh if its largest magnitude is so many times the
# median of its magnitudes.
PEAK = 20.0


@dataclass(frozen=True)
class Warp:
    """z = g(y) for each of n states.

    kinds: 'plain' (z = y), 'log' (z = log(y / size)) or 'arcsinh' (z = arcsinh(y / size)).
    sizes: in the units of y.
    """

    kinds: tuple[str, ...]
    sizes: tuple[float, ...]

    @classmethod
    def of(cls, data: Dataset) -> Warp | None:
        """The Warp for a data set, None if all states are best learned as they are."""
        kinds = []
        sizes = []
        for i in range(len(data.columns)):
            y = torch.cat([run.y[run.seen[:, i], i] for run in data.trajectories])
            kind, size = _kind(y)
            kinds.append(kind)
            sizes.append(size)
        if all(kind == PLAIN for kind in kinds):
            return None
        return cls(tuple(kinds), tuple(sizes))

    def forward(self, y: Tensor) -> Tensor:
        """z, (..., n), of states y, (..., n). Values that a logarithm does not have become a
        millionth of the smallest observed one."""
        columns = []
        for kind, size, x in zip(self.kinds, self.sizes, y.unbind(-1), strict=True):
            if kind == LOG:
                x = (x / size).clamp(min=1e-6).log()
            elif kind == ARCSINH:
                x = torch.asinh(x / size)
            columns.append(x)
        return torch.stack(columns, -1)

    def inverse(self, z: Tensor) -> Tensor:
        """y, (..., n), of z, (..., n)."""
        columns = []
        for kind, size, x in zip(self.kinds, self.sizes, z.unbind(-1), strict=True):
            if kind == LOG:
                x = size * x.exp()
            elif kind == ARCSINH:
                x = size * torch.sinh(x)
            columns.append(x)
        return torch.stack(columns, -1)

    def stretch(self, y: Tensor) -> Tensor:
        """dy/dz, (..., n), at states y, (..., n)."""
        columns = []
        for kind, size, x in zip(self.kinds, self.sizes, y.unbind(-1), strict=True):
            if kind == LOG:
                x = x.clamp(min=1e-6 * size)
            elif kind == ARCSINH:
                x = (x * x + size * size).sqrt()
            else:
                x = torch.ones_like(x)
            columns.append(x)
        return torch.stack(columns, -1)

    def warped(self, data: Dataset) -> Dataset:
        """The data set of z. Standard deviations are those of small errors."""
        return replace(
            data,
            trajectories=tuple(self._run(run, self.forward, True) for run in data.trajectories),
        )

    def restored(self, data: Dataset) -> Dataset:
        """The data set of y, of that of z."""
        return replace(
            data,
            trajectories=tuple(self._run(run, self.inverse, False) for run in data.trajectories),
        )

    def _run(self, run: Trajectory, change, forward) -> Trajectory:
        """A trajectory whose states are changed; missing ones stay zero."""
        y = change(run.y) * run.seen
        sd = self._deviations(run.y, y, run.sd, forward)
        repeats = run.repeats
        if repeats is not None:
            lines = change(repeats.y) * repeats.seen
            repeats = replace(
                repeats, y=lines, sd=self._deviations(repeats.y, lines, repeats.sd, forward)
            )
        return replace(run, y=y, sd=sd, repeats=repeats)

    def _deviations(self, before, after, sd, forward):
        if sd is None:
            return None
        if forward:
            return sd / self.stretch(before)
        return sd * self.stretch(after)

    def padded(self, count: int) -> Warp:
        """With ``count`` more states, which are as they are."""
        return Warp((*self.kinds, *(PLAIN,) * count), (*self.sizes, *(1.0,) * count))

    def small(self, y_scale: tuple[float, ...]) -> tuple[float, ...]:
        """For each state the size, in the units of y, of errors that matter as much as the range of
        a plain state, y_scale. A logarithm resolves its smallest values."""
        return tuple(
            scale if kind == PLAIN else size
            for kind, size, scale in zip(self.kinds, self.sizes, y_scale, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"kinds": list(self.kinds), "sizes": list(self.sizes)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Warp:
        """The inverse of as_dict."""
        return cls(tuple(plain["kinds"]), tuple(plain["sizes"]))


def _kind(y) -> tuple[str, float]:
    """The kind of a state with these values, and its size."""
    low = float(y.min())
    high = float(y.max())
    if low > 0:
        if math.log10(high / low) > DECADES:
            return LOG, low
        return PLAIN, 1.0
    size = float(y.abs().median())
    if low < 0 < high and 0 < size < max(-low, high) / PEAK:
        return ARCSINH, size
    return PLAIN, 1.0
