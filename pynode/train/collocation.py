"""Collocation: a field fitted to the slopes of smoothed observations, without a single solve.

G. Roesch, C. Rackauckas, M. P. H. Stumpf, Collocation based training of neural ordinary
differential equations, Stat. Appl. Genet. Mol. Biol. 20 (2021): the observations are smoothed, and
f(t, y) is made equal to the slopes of the smooth curves, which is ordinary regression. What it
finds is where training through the solver starts. The smoother here is a local quadratic over the
nearest neighbours (Cleveland & Devlin, J. Am. Stat. Assoc. 83 (1988)), in the logarithm of time
where the observations are spread over decades. ``warm_start`` does better where neighbouring
observations are far apart: it weighs what a wrong slope does to the solution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

# A span this many times its first interval is looked at in the logarithm of time.
DECADES = 1e3
# The kernel ends this many times as far away as the last neighbour, so that this one counts, too.
REACH = 1.5


@dataclass(frozen=True)
class Slopes:
    """Smoothed states and slopes at K times. t: (K,); y: (K, n); slope: dy/dt, (K, n); unit: (K,),
    the time over which a slope tells: the time since the start where the times are spread over
    decades, else the whole span."""

    t: torch.Tensor
    y: torch.Tensor
    slope: torch.Tensor
    unit: torch.Tensor

    @classmethod
    def joined(cls, parts) -> Slopes:
        """Those of several trajectories as one."""
        return cls(
            *(
                torch.cat(rows)
                for rows in zip(*((p.t, p.y, p.slope, p.unit) for p in parts), strict=True)
            )
        )


def slopes(t, y, seen=None, neighbours: int = 5, log: bool | None = None) -> Slopes:
    """Smoothed observations y, (T, n), at the times t, (T,), increasing, and their slopes.

    seen: (T, n), False where a value is missing. neighbours: observations that a local quadratic is
    fitted to; 3 interpolate, more smooth. log: whether the quadratics are in the logarithm of the
    time since t[0]; None decides by the span. There the start itself gets the slope of its first
    chord.
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
        log = bool(since[-1] > DECADES * since[1])
    if log:
        s = since.log()
    else:
        s = since
    if log:
        used = slice(1, None)
    else:
        used = slice(None)
    found = [_quadratics(s[used], y[used, i], seen[used, i], neighbours) for i in range(y.shape[1])]
    smooth, slope = (torch.stack(parts, 1) for parts in zip(*found, strict=True))
    if log:
        unit = since[1:]
    else:
        unit = since[-1].expand(len(t))
    if log:
        slope = slope / since[1:, None]
        chord = (smooth[:1] - y[:1]) / since[1]
        smooth = torch.cat((y[:1], smooth))
        slope = torch.cat((chord, slope))
        unit = torch.cat((unit[:1], unit))
    return Slopes(t, smooth, slope, unit)


def _quadratics(s, y, seen, neighbours):
    """Values and slopes, (T,), at all s of local quadratics through the seen (s, y)."""
    at = s[seen]
    values = y[seen]
    distance = (s[:, None] - at).abs()
    reach, near = distance.topk(neighbours, largest=False)
    reach = REACH * reach[:, -1:]
    x = (at[near] - s[:, None]) / reach
    root = (1 - x.abs() ** 3).clamp(min=0) ** 1.5  # of the tricube kernel
    design = torch.stack((root, root * x, root * x * x), -1)
    fit = torch.linalg.lstsq(design, (root * values[near]).unsqueeze(-1)).solution
    return fit[:, 0, 0], fit[:, 1, 0] / reach[:, 0]


def collocation(
    f, points: Slopes, iterations: int = 1000, lr: float = 1e-2, scale=None, report=None
) -> float:
    """Move the parameters of the module f(t, y) so that it has these slopes; returns the last loss.

    f is called with all K states at once, t (K,). The loss is the mean of |f - slope| unit / scale,
    and Adam's rate falls as a cosine. scale: (n,), the unit of each state, by default its range.
    report(done, of, loss): called each iteration.
    """
    if scale is None:
        scale = points.y.amax(0) - points.y.amin(0)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    weights = [p for p in f.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=lr)
    weight = points.unit[:, None] / scale
    last = math.inf
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = (
            lr * 0.5 * (1 + math.cos(math.pi * iteration / iterations))
        )
        optimizer.zero_grad()
        loss = ((f(points.t, points.y) - points.slope) * weight).abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        last = float(loss.detach())
        if report:
            report(iteration + 1, iterations, last)
    return last
