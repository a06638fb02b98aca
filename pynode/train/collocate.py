"""Collocation: fits a field to the slopes of smoothed observations, without any solve.

G. Roesch, C. Rackauckas, M. P. H. Stumpf, Collocation based training of neural ordinary
differential equations, Stat. Appl. Genet. Mol. Biol. 20 (2021): the observations are smoothed, and
f(t, y) is fitted to the slopes of the smooth curves, which is ordinary regression. Training through
the solver then starts from the result. The smoother here is a local quadratic over the nearest
neighbours (Cleveland & Devlin, J. Am. Stat. Assoc. 83 (1988)). It works in the logarithm of time if
the observations are spread over decades. If neighbouring observations are far apart, ``warm_start``
is better: it weighs the effect of a wrong slope on the solution.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch

from ..data import Trajectory
from .adam import Adam
from .inputs import AtRows
from .scaling import Scaling
from .times import part_done, spread_over_decades

# The kernel ends at so many times the distance of the last neighbour, so that this one counts.
REACH = 1.5


@dataclass(frozen=True)
class Slopes:
    """Smoothed states and slopes at K times.

    t: (K,). y: (K, n). slope: dy/dt, (K, n).
    unit: (K,), the time over which a slope counts: the time since the start if the times are spread
        over decades, otherwise the whole span.
    w: (K, m) scaled inputs, None without any.
    """

    t: torch.Tensor
    y: torch.Tensor
    slope: torch.Tensor
    unit: torch.Tensor
    w: torch.Tensor | None = None

    @classmethod
    def joined(cls, parts: Iterable[Slopes]) -> Slopes:
        """The Slopes of several trajectories as one."""
        parts = list(parts)
        inputs = [part.w for part in parts if part.w is not None]
        return cls(
            t=torch.cat([part.t for part in parts]),
            y=torch.cat([part.y for part in parts]),
            slope=torch.cat([part.slope for part in parts]),
            unit=torch.cat([part.unit for part in parts]),
            w=torch.cat(inputs) if inputs else None,
        )

    def thinned(self, most: int) -> Slopes:
        """Every so manieth of them, at most this number."""
        step = math.ceil(len(self.t) / most)
        w = None
        if self.w is not None:
            w = self.w[::step]
        return Slopes(self.t[::step], self.y[::step], self.slope[::step], self.unit[::step], w)


def slopes(
    t: torch.Tensor,
    y: torch.Tensor,
    seen: torch.Tensor | None = None,
    neighbours: int = 5,
    log: bool | None = None,
) -> Slopes:
    """Smoothed observations y, (T, n), at the times t, (T,), increasing, and their slopes.

    seen: (T, n), False where a value is missing.
    neighbours: the number of observations to which a local quadratic is fitted. 3 interpolate, more
        smooth.
    log: whether the quadratics use the logarithm of the time since t[0]. None decides by the span.
        The start itself then gets the slope of its first chord.
    """
    if len(t) != len(y) or y.dim() != 2:
        raise ValueError(
            f"y must have a row for each time, not the shapes {tuple(y.shape)} and {tuple(t.shape)}"
        )
    if seen is None:
        seen = torch.ones_like(y, dtype=torch.bool)
    fewest = int(seen[1:].sum(0).min())
    if not 3 <= neighbours <= fewest:
        raise ValueError(
            f"neighbours must be from 3 to {fewest}, the fewest values of a state, not"
            f" {neighbours!r}"
        )
    since = (t - t[0]).to(y.dtype)
    if log is None:
        log = spread_over_decades(t)
    if log:
        s = since.log()
    else:
        s = since
    used = slice(1 if log else 0, None)
    fits = [_quadratics(s[used], y[used, i], seen[used, i], neighbours) for i in range(y.shape[1])]
    smooth, slope = (torch.stack(parts, 1) for parts in zip(*fits, strict=True))
    unit = since[-1].expand(len(t))
    if log:
        unit = since[1:]
        slope = slope / since[1:, None]
        chord = (smooth[:1] - y[:1]) / since[1]
        smooth = torch.cat((y[:1], smooth))
        slope = torch.cat((chord, slope))
        unit = torch.cat((unit[:1], unit))
    return Slopes(t, smooth, slope, unit)


def trajectory_slopes(run: Trajectory, scaling: Scaling, neighbours: int = 5) -> Slopes:
    """The slopes of the scaled states of a trajectory, with its scaled inputs."""
    found = slopes(run.t, scaling.scaled(run.y), run.seen, neighbours)
    if scaling.inputs is None or run.u is None:
        return found
    return replace(found, w=scaling.inputs.scaled(run.u))


def _quadratics(s, y, seen, neighbours):
    """Values and slopes, (T,), at all s, of local quadratics through the seen (s, y)."""
    points = s[seen]
    values = y[seen]
    # The nearest of increasing points are neighbours of each other. The first of them moves on
    # where s passes the middle between it and the one after the last.
    middles = (points[:-neighbours] + points[neighbours:]) / 2
    near = torch.searchsorted(middles, s)[:, None] + torch.arange(neighbours)
    reach = REACH * (s[:, None] - points[near]).abs().amax(1, keepdim=True)
    x = (points[near] - s[:, None]) / reach
    root = (1 - x.abs() ** 3).clamp(min=0) ** 1.5  # of the tricube kernel
    design = torch.stack((root, root * x, root * x * x), -1)
    fit = torch.linalg.lstsq(design, (root * values[near]).unsqueeze(-1)).solution
    return fit[:, 0, 0], fit[:, 1, 0] / reach[:, 0]


def collocation(
    f: torch.nn.Module,
    points: Slopes,
    iterations: int = 1000,
    lr: float = 1e-2,
    scale: torch.Tensor | None = None,
    report: Callable[[int, int, float], None] | None = None,
    seconds: float = math.inf,
) -> float:
    """Change the parameters of the module f(t, y) so that it has these slopes; returns the last
    loss.

    f: called with all K states at once, t (K,); also with their inputs w, if points have them.
    lr: Adam's first rate; it falls as a cosine.
    scale: (n,), the unit of each state, by default its range.
    report: report(done, of, loss) is called in each iteration.
    seconds: the fit ends early after this time; the rate falls with it.

    The loss is the mean of |f - slope| unit / scale.
    """
    if scale is None:
        scale = points.y.amax(0) - points.y.amin(0)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    weights = [p for p in f.parameters() if p.requires_grad]
    optimizer = Adam(weights, lr)
    weight = points.unit[:, None] / scale
    last = math.inf
    if points.w is not None:
        f = AtRows(f, points.w)
    began = time.monotonic()
    for iteration in range(iterations):
        elapsed = (time.monotonic() - began) / seconds
        if elapsed >= 1:
            break
        done = part_done(iteration, iterations, elapsed)
        optimizer.rate = lr * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        loss = ((f(points.t, points.y) - points.slope) * weight).abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        last = float(loss.detach())
        if report:
            report(iteration + 1, iterations, last)
    return last
