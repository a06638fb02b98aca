"""What a series of observations shows without any model: its noise, its turning points, its
slopes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..data import Dataset, Trajectory
from .collocate import slopes
from .times import spread_over_decades

# Half widths of the windows whose polynomials predict the point in their middle.
HALF_WIDTHS = (1, 2, 3)
# The median of |x| of a normal variable with the standard deviation 1.
NORMAL_MEDIAN = 0.6745
# The root mean square of the smaller nine tenths of |x| of such a variable.
NORMAL_TRIMMED = 0.794
KEPT = 0.9
# A change by so many times the noise is not noise.
SUDDEN = 6.0
# Below this fraction of the range, noise does not matter.
CLEAN = 3e-3
# So many rows show what a data set is like.
MOST_ROWS = 100_000


def time_axis(t: torch.Tensor) -> torch.Tensor:
    """The axis on which a smooth solution looks smooth, (T,): the times, or the logarithm of the
    time since the first where they are spread over decades. The first time then stays in the same
    distance before the second as the third after it."""
    if not spread_over_decades(t):
        return t
    since = (t[1:] - t[0]).log()
    before = 2 * since[:1] - since[1:2]
    return torch.cat((before, since))


def prediction_errors(x: torch.Tensor, y: torch.Tensor, half: int) -> torch.Tensor:
    """What a polynomial through ``half`` neighbours on each side misses of the point between, in
    units of the noise of one observation.

    x: (T,), increasing. y: (T,). Returns (T - 2 half,), divided by the root of 1 + the sum of the
    squared Lagrange weights: the standard deviation of independent noise is then kept (Gasser,
    Sroka & Jennen-Steinmetz, Biometrika 73 (1986), with more neighbours).
    """
    count = 2 * half + 1
    if len(x) < count:
        return y.new_zeros(0)
    points = x.unfold(0, count, 1)
    values = y.unfold(0, count, 1)
    others = [k for k in range(count) if k != half]
    weights = []
    for k in others:
        rest = [j for j in others if j != k]
        numerator = points[:, [half]] - points[:, rest]
        denominator = points[:, [k]] - points[:, rest]
        weights.append((numerator / denominator).prod(1))
    weight = torch.stack(weights, 1)
    missed = values[:, half] - (weight * values[:, others]).sum(1)
    return missed / (1 + weight.square().sum(1)).sqrt()


def noise_level(series: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """The standard deviation of the noise in series of one state, in its unit; 0 if unknown.

    series: pairs of times and values, (T,) each. Smooth curves leave less the more neighbours
    predict a point, and noise leaves the same: the smallest of the estimates counts. It is the
    median, which the jumps of a relaxation do not disturb, if that is hardly noise; otherwise the
    trimmed mean square, which counts noise that grows with the value.
    """
    values = torch.cat([y for _, y in series])
    spread = float(values.max() - values.min())
    typical = []
    mean = []
    for half in HALF_WIDTHS:
        errors = [prediction_errors(time_axis(t), y, half) for t, y in series if len(t) > 2]
        missed = torch.cat([*errors, values.new_zeros(0)]).abs()
        if len(missed) < 4:
            continue
        typical.append(float(missed.quantile(0.5)) / NORMAL_MEDIAN)
        smaller = missed.sort().values[: max(1, int(KEPT * len(missed)))]
        mean.append(float(smaller.square().mean().sqrt()) / NORMAL_TRIMMED)
    if not typical:
        return 0.0
    if min(typical) < CLEAN * spread:
        return min(typical)
    return min(mean)


def turning_points(y: torch.Tensor, least: float) -> int:
    """How often the series (T,) turns by more than ``least`` in its unit."""
    turns = 0
    direction = 0.0
    extreme = float(y[0])
    for value in y.tolist():
        change = value - extreme
        if change * direction > 0:
            extreme = value
        elif abs(change) > least:
            if direction:
                turns += 1
            direction = math.copysign(1, change)
            extreme = value
    return turns


def representative(data: Dataset, rows: int = MOST_ROWS) -> Dataset:
    """The data set itself, or so many of its trajectories, spread evenly over it, that they have at
    most this number of rows; one at least."""
    total = sum(len(run.t) for run in data.trajectories)
    if total <= rows:
        return data
    count = len(data.trajectories)
    kept = max(1, rows * count // total)
    chosen = tuple(data.trajectories[(2 * k + 1) * count // (2 * kept)] for k in range(kept))
    return replace(data, trajectories=chosen)


def thinned(data: Dataset, rows: int) -> Dataset:
    """The data set itself, or every so manieth row of its trajectories, without replicates, so that
    it has about this number of rows. For long trajectories: a short one keeps its start only."""
    total = sum(len(run.t) for run in data.trajectories)
    if total <= rows:
        return data
    step = slice(None, None, math.ceil(total / rows))
    runs = [
        replace(
            run,
            t=run.t[step],
            y=run.y[step],
            seen=run.seen[step],
            u=_rows(run.u, step),
            sd=_rows(run.sd, step),
            repeats=None,
        )
        for run in data.trajectories
    ]
    return replace(data, trajectories=tuple(runs))


def _rows(values, step) -> torch.Tensor | None:
    """Some rows of values, None if there are none."""
    if values is None:
        return None
    return values[step]


def seen_series(data: Dataset, i: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The times and values at which state i was observed, for each trajectory."""
    return [(run.t[run.seen[:, i]], run.y[run.seen[:, i], i]) for run in data.trajectories]


def state_noise(data: Dataset, i: int) -> float:
    """The standard deviation of the noise of state i, in its unit: the root mean square of those
    that came with the observations, or an estimate without them."""
    given = [run.sd[run.seen[:, i], i] for run in data.trajectories if run.sd is not None]
    if given:
        known = torch.cat(given)
        known = known[known > 0]
        if len(known):
            return float(known.square().mean().sqrt())
    return noise_level(seen_series(data, i))


def fewest_seen(run: Trajectory) -> int:
    """The number of values after the start of the state that has the fewest."""
    return int(run.seen[1:].sum(0).min())


def fastest_change(run: Trajectory, scale: torch.Tensor, neighbours: int) -> float:
    """The largest |dy/dt| of smoothed observations, times the span, in units of ``scale``, (n,)."""
    near = min(neighbours, fewest_seen(run))
    if near < 3:
        return 0.0
    found = slopes(run.t, run.y, run.seen, near, log=False)
    return float((found.slope.abs() / scale).max() * (run.t[-1] - run.t[0]))


def first_change(run: Trajectory, scale: torch.Tensor, noise: torch.Tensor) -> float:
    """The largest |dy/dt| before the second observation, beyond what noise does; in the units of
    ``fastest_change``. noise: (n,), in units of ``scale``."""
    change = (run.y[1] - run.y[0]).abs() / scale - SUDDEN * noise
    change = change * (run.seen[0] & run.seen[1])
    return float(change.clamp(min=0).max() * (run.t[-1] - run.t[0]) / (run.t[1] - run.t[0]))
