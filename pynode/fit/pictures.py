"""Pictures of an estimation: all starts, the fit with its residuals, and profiles. They need
matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.files import save_figure
from ..core.parameter_info import ParameterInfo, from_scale
from .fisher import percent, quantile, rise
from .prediction_bands import Bands
from .profiles import Profile
from .protocol import Predictions
from .result import REACHED, Estimate

MOST_OBSERVABLES = 12
MOST_CONDITIONS = 8
DECADES = 3.0  # of the times: from here on the axis is logarithmic
LEAST_GAP = 1e-3  # objectives closer to the best one are drawn at this distance
DECADE = 10.0  # a profile that spans more has a logarithmic axis


def plot_waterfall(path: str | PathLike[str], found: Estimate) -> Path:
    """The objectives of all starts above the best one, in ascending order. Steps are local optima;
    a level line at the left are the starts that reached the best one. Returns the path. Raises
    ImportError without matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from ..core.drawing.palette import COLOURS

    values = np.array([start.objective for start in found.starts])
    finite = np.isfinite(values)
    gaps = np.maximum(values[finite] - found.objective, LEAST_GAP)
    rank = np.arange(1, len(values) + 1)[finite]
    reached = gaps <= REACHED
    figure = Figure(figsize=(6.4, 4.0))
    axis = figure.subplots()
    axis.plot(rank, gaps, color="0.7", lw=1.0, zorder=1)
    axis.plot(rank[reached], gaps[reached], "o", color=COLOURS[2], ms=6, label=_reached(found))
    if not reached.all():
        axis.plot(rank[~reached], gaps[~reached], "o", color=COLOURS[0], ms=6, label="other starts")
    lost = int((~finite).sum())
    if lost:
        axis.plot([], [], " ", label=f"{lost} could not be simulated")
    axis.set_yscale("log")
    axis.set_ylim(0.5 * LEAST_GAP, 2 * max(1.0, float(gaps.max())))
    axis.set_xlim(0.5, len(values) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("start, the best one first")
    axis.set_ylabel(f"objective above the best, {found.objective:.6g}")
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=9, framealpha=0.9)
    figure.tight_layout()
    return save_figure(path, figure, 150)


def plot_fit(
    path: str | PathLike[str],
    measured: Predictions,
    curves: Bands,
    level: float = 0.95,
    time: str = "time",
    labels: Mapping[str, str] | None = None,
) -> Path:
    """Measurements, curves and their bands, and below them the residuals in units of the noise.

    There is a column for each observable and a colour for each condition, at most MOST_OBSERVABLES
    and MOST_CONDITIONS of them. Where errors are relative, the axis is logarithmic. labels:
    observables with their units. Returns the path. Raises ImportError without matplotlib.
    """
    from matplotlib.figure import Figure

    observables = list(dict.fromkeys(measured.observable))[:MOST_OBSERVABLES]
    columns = min(4, len(observables))
    lines = math.ceil(len(observables) / columns)
    figure = Figure(figsize=(3.6 * columns, 4.0 * lines + 0.3), layout="constrained")
    grid = figure.add_gridspec(2 * lines, columns, height_ratios=[3, 1.2] * lines)
    log_time = _spans_decades(measured.time)
    for k, observable in enumerate(observables):
        line, column = divmod(k, columns)
        top = figure.add_subplot(grid[2 * line, column])
        bottom = figure.add_subplot(grid[2 * line + 1, column], sharex=top)
        _draw_fit(top, observable, measured, curves, log_time)
        _draw_residuals(bottom, observable, measured, log_time, level)
        top.set_title((labels or {}).get(observable, observable), fontsize=11)
        top.tick_params(labelbottom=False)
        bottom.set_xlabel(time)
        if column == 0:
            top.set_ylabel(f"value, {percent(level)} band")
            bottom.set_ylabel("residual / noise")
        if k == 0 and len(set(measured.condition)) > 1:
            top.legend(fontsize=7, framealpha=0.9)
    return save_figure(path, figure, 150)


def plot_profiles(
    path: str | PathLike[str], profiles: Mapping[str, Profile], level: float = 0.95
) -> Path:
    """The profile of each parameter above the best objective, with the limit of its interval.
    Returns the path. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from ..core.drawing.palette import COLOURS

    columns = min(4, len(profiles))
    lines = math.ceil(len(profiles) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * lines + 0.3))
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(profiles) :]:
        axis.remove()
    for axis, (name, one) in zip(axes.flat, profiles.items()):
        limit = rise(level, one.freedom)
        values = _values(one.theta, one.info)
        heights = one.objective - one.best
        interval = one.interval(level)
        axis.plot(values, heights, "o-", color=COLOURS[0], ms=3, lw=1.4)
        axis.axhline(limit, color="0.4", ls="--", lw=1.0, label=percent(level))
        axis.axvspan(interval.lower, interval.upper, color=COLOURS[2], alpha=0.15, lw=0)
        axis.plot(values[one.middle], heights[one.middle], "D", color=COLOURS[5], ms=5)
        if one.info.scale != "lin" and values[-1] > DECADE * values[0]:
            axis.set_xscale("log")
        else:
            axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_ylim(min(-0.1, 1.1 * float(heights.min())), 1.6 * limit)
        axis.set_title(name, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
    for line in axes:
        line[0].set_ylabel("objective - best")
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    return save_figure(path, figure, 150)


def _draw_fit(axis: Any, observable: str, measured: Predictions, curves: Bands, log: bool) -> None:
    from ..core.drawing.palette import COLOURS

    for k, condition in enumerate(_conditions(measured, observable)):
        colour = COLOURS[k % len(COLOURS)]
        drawn = _rows(curves.curves, observable, condition)
        order = drawn[torch.argsort(curves.curves.time[drawn])]
        t = curves.curves.time[order]
        order = order[(t > 0) | (not log)]
        t = curves.curves.time[order]
        axis.fill_between(
            t.numpy(),
            curves.lower[order].numpy(),
            curves.upper[order].numpy(),
            color=colour,
            alpha=0.2,
            lw=0,
        )
        label = condition or "model"
        axis.plot(t, curves.curves.simulated[order], color=colour, lw=1.5, label=label)
        dots = _rows(measured, observable, condition)
        dots = dots[(measured.time[dots] > 0) | (not log)]
        axis.plot(
            measured.time[dots],
            measured.measured[dots],
            "o",
            color=colour,
            ms=3.5,
            mfc="white",
            mew=0.9,
        )
    if log:
        axis.set_xscale("log")
    if bool(measured.logarithmic[_rows(measured, observable, None)].any()):
        axis.set_yscale("log")
    else:
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=8)


def _draw_residuals(axis, observable, measured, log, level):
    from ..core.drawing.palette import COLOURS

    z = quantile(level)
    axis.axhspan(-z, z, color="0.92", lw=0)
    axis.axhline(0.0, color="0.6", lw=0.8)
    scaled = residuals(measured)
    for k, condition in enumerate(_conditions(measured, observable)):
        dots = _rows(measured, observable, condition)
        dots = dots[(measured.time[dots] > 0) | (not log)]
        axis.plot(measured.time[dots], scaled[dots], "o", color=COLOURS[k % len(COLOURS)], ms=2.5)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=8)


def residuals(table: Predictions) -> torch.Tensor:
    """Measured minus simulated values in units of their noise, (m,); of logarithms where errors are
    relative. Where the noise is not known, its unit is the standard deviation of all of them."""
    relative = table.logarithmic
    ratio = torch.where(relative, table.measured / table.simulated, 1.0)
    difference = torch.where(relative, ratio.log(), table.measured - table.simulated)
    noise = torch.where(table.noise.isnan(), difference.std(), table.noise)
    return difference / noise


def _reached(found):
    return f"{found.reached} of {len(found.starts)} starts within {REACHED:g} of the best"


def _conditions(measured, observable):
    pairs = zip(measured.observable, measured.condition, strict=True)
    names = dict.fromkeys(c for o, c in pairs if o == observable)
    return list(names)[:MOST_CONDITIONS]


def _rows(table: Predictions, observable: str, condition: str | None) -> torch.Tensor:
    """The places of an observable, in one condition or in all."""
    times = table.time.tolist()  # infinite where a steady state was measured
    pairs: Sequence[tuple[str, str]] = list(zip(table.observable, table.condition, strict=True))
    found = [
        i
        for i, (o, c) in enumerate(pairs)
        if o == observable and condition in (None, c) and math.isfinite(times[i])
    ]
    return torch.tensor(found, dtype=torch.long)


def _spans_decades(t):
    positive = t[(t > 0) & torch.isfinite(t)]
    if not len(positive) or float(t.min()) < 0:
        return False
    return float(positive.max() / positive.min()) > 10**DECADES


def _values(theta, info: ParameterInfo):
    return np.array([from_scale(float(x), info.scale) for x in theta])
