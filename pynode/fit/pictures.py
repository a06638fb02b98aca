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

from ..core.drawing.figures import (
    entry,
    figure_with_panels,
    finish,
    left_out,
    legend_below,
    note,
    whole_numbers,
)
from ..core.drawing.palette import GREY, PALE, Look, look
from ..core.files import save_figure
from ..core.parameter_info import ParameterInfo, from_scale
from ..core.unit_names import with_unit
from ..data.names import time_label, time_unit
from ..data.picture import dots
from .fisher import percent, quantile, rise
from .prediction_bands import Bands
from .profiles import Profile
from .protocol import Predictions
from .result import REACHED, Estimate

MOST_OBSERVABLES = 12
MOST_CONDITIONS = 8  # of one observable
MOST_IN_LEGEND = 24
DECADES = 3.0  # of the times: from here on the axis is logarithmic
LEAST_GAP = 1e-3  # objectives closer to the best one are drawn at this distance
DECADE = 10.0  # a profile that spans more has a logarithmic axis


def plot_waterfall(path: str | PathLike[str], found: Estimate) -> Path:
    """The objectives of all starts above the best one, in ascending order.

    Steps are local optima; filled symbols on a level line at the left are the starts that reached
    the best one, open ones ended elsewhere, and crosses at the top could not be simulated. Returns
    the path. Raises ImportError without matplotlib.
    """
    values = np.array([start.objective for start in found.starts])
    finite = np.isfinite(values)
    gaps = np.maximum(values[finite] - found.objective, LEAST_GAP)
    rank = np.arange(1, len(values) + 1)
    known = rank[finite]
    reached = gaps <= REACHED
    figure, (axis,) = figure_with_panels(1)
    axis.plot(known, gaps, color="0.7", lw=1.0, zorder=1)
    points: dict[str, Any] = {"color": look(0).colour, "ls": "", "marker": "o", "ms": 6}
    handles = axis.plot(known[reached], gaps[reached], label=_reached(found), **points)
    if not reached.all():
        other: dict[str, Any] = {"label": "ended elsewhere", "mfc": "white", **points}
        handles += axis.plot(known[~reached], gaps[~reached], **other)
    lost = rank[~finite]
    top = 2 * max(1.0, float(gaps.max(initial=0.0)))
    if len(lost):
        top *= 3
        label = f"{len(lost)} could not be simulated"
        crosses: dict[str, Any] = {"color": GREY, "ls": "", "marker": "X", "ms": 7, "label": label}
        # At this part of the height of the axes.
        place = axis.get_xaxis_transform()
        handles += axis.plot(lost, [0.95] * len(lost), transform=place, **crosses)
    axis.set_yscale("log")
    axis.set_ylim(0.5 * LEAST_GAP, top)
    axis.set_xlim(0.5, len(values) + 0.5)
    whole_numbers(axis)
    finish(axis, "start, the best one first", f"objective above the best, {found.objective:.6g}")
    legend_below(figure, handles)
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

    There is a column for each observable, and a colour and a symbol for each condition, at most
    MOST_OBSERVABLES and MOST_CONDITIONS of them; the legend says how many are not drawn. Where
    errors are relative, the axis is logarithmic. time: the name of the time, and labels:
    observables, with their units. Returns the path. Raises ImportError without matplotlib.
    """
    from matplotlib.figure import Figure

    every = list(dict.fromkeys(measured.observable))
    observables = every[:MOST_OBSERVABLES]
    columns = min(4, len(observables))
    lines = math.ceil(len(observables) / columns)
    width = max(3.6 * columns, 5.6)
    figure = Figure(figsize=(width, 4.2 * lines + 0.2), layout="constrained")
    grid = figure.add_gridspec(2 * lines, columns, height_ratios=[3, 1.2] * lines)
    log_time = _spans_decades(measured.time)
    for k, observable in enumerate(observables):
        line, column = divmod(k, columns)
        top = figure.add_subplot(grid[2 * line, column])
        bottom = figure.add_subplot(grid[2 * line + 1, column], sharex=top)
        _draw_fit(top, observable, measured, curves, log_time)
        _draw_residuals(bottom, observable, measured, log_time, level)
        finish(top, "", with_unit((labels or {}).get(observable, observable)))
        finish(bottom, time_label(time, time_unit(time)), "residual / noise")
        top.tick_params(labelbottom=False)
    handles = _conditions_in_legend(measured, observables)
    handles += [
        entry(f"{percent(level)} band of the curve", color=GREY, lw=8, alpha=0.3),
        entry(f"{percent(level)} of normal residuals", color=PALE, lw=8),
    ]
    handles += left_out(len(every), len(observables), "observables")
    legend_below(figure, handles)
    return save_figure(path, figure, 150)


def plot_profiles(
    path: str | PathLike[str], profiles: Mapping[str, Profile], level: float = 0.95
) -> Path:
    """The profile of each parameter above the best objective, with the limit of its interval.
    Returns the path. Raises ImportError without matplotlib."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = figure_with_panels(len(profiles), columns=4, size=(3.4, 2.7))
    for axis, (name, one) in zip(axes, profiles.items()):
        limit = rise(level, one.freedom)
        values = _values(one.theta, one.info)
        heights = one.objective - one.best
        interval = one.interval(level)
        axis.plot(values, heights, "o-", color=look(0).colour, ms=3, lw=1.4)
        axis.axhline(limit, color=GREY, ls="--", lw=1.0)
        axis.axvspan(interval.lower, interval.upper, color=PALE, lw=0)
        axis.plot(values[one.middle], heights[one.middle], "D", color=look(1).colour, ms=6)
        if one.info.scale != "lin" and values[-1] > DECADE * values[0]:
            axis.set_xscale("log")
        else:
            axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_ylim(min(-0.1, 1.1 * float(heights.min())), 1.6 * limit)
        finish(axis, name, "objective above the best")
    handles = [
        entry("lowest objective for each value", color=look(0).colour, marker="o", ms=3),
        entry("best", color=look(1).colour, marker="D", ls=""),
        entry(f"limit of {percent(level)}", color=GREY, ls="--"),
        entry(f"{percent(level)} interval", color=PALE, lw=8),
    ]
    legend_below(figure, handles)
    return save_figure(path, figure, 150)


def _draw_fit(axis: Any, observable: str, measured: Predictions, curves: Bands, log: bool) -> None:
    for condition in _conditions(measured, observable):
        own = _own(measured, condition)
        drawn = _rows(curves.curves, observable, condition)
        order = drawn[torch.argsort(curves.curves.time[drawn])]
        t = curves.curves.time[order]
        order = order[(t > 0) | (not log)]
        t = curves.curves.time[order]
        lower = curves.lower[order]
        upper = curves.upper[order]
        axis.fill_between(
            t.numpy(), lower.numpy(), upper.numpy(), color=own.colour, alpha=0.2, lw=0
        )
        axis.plot(t, curves.curves.simulated[order], color=own.colour, lw=1.5)
        shown = _rows(measured, observable, condition)
        shown = shown[(measured.time[shown] > 0) | (not log)]
        axis.plot(measured.time[shown], measured.measured[shown], **dots(own))
    if log:
        axis.set_xscale("log")
    if bool(measured.logarithmic[_rows(measured, observable, None)].any()):
        axis.set_yscale("log")


def _draw_residuals(axis, observable, measured, log, level):
    z = quantile(level)
    axis.axhspan(-z, z, color=PALE, lw=0)
    axis.axhline(0.0, color="0.6", lw=0.8)
    scaled = residuals(measured)
    for condition in _conditions(measured, observable):
        own = _own(measured, condition)
        shown = _rows(measured, observable, condition)
        shown = shown[(measured.time[shown] > 0) | (not log)]
        style = {"color": own.colour, "marker": own.marker, "ls": "", "ms": 3}
        axis.plot(measured.time[shown], scaled[shown], **style)


def _conditions_in_legend(measured: Predictions, observables: Sequence[str]) -> list[Any]:
    """The lines of the legend for the conditions that are drawn."""
    every = list(dict.fromkeys(measured.condition))
    if len(every) == 1:
        return [
            entry("model", color=look(0).colour, lw=1.5),
            entry("measured", **dots(look(0))),
        ]
    drawn = {one for observable in observables for one in _conditions(measured, observable)}
    named = [condition for condition in every if condition in drawn]
    handles = [
        entry(condition or "model", **dots(_own(measured, condition)) | {"ls": "-", "lw": 1.5})
        for condition in named[:MOST_IN_LEGEND]
    ]
    if len(named) > MOST_IN_LEGEND:
        handles.append(note(f"and {len(named) - MOST_IN_LEGEND} more conditions"))
    return handles + left_out(len(every), len(named), "conditions")


def _own(measured: Predictions, condition: str) -> Look:
    """The look of a condition, the same for all observables."""
    return look(list(dict.fromkeys(measured.condition)).index(condition))


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
