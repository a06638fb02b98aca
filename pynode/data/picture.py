"""Draws a data set. It needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..core.drawing.figures import entry, figure_with_panels, finish, left_out, legend_below
from ..core.drawing.palette import GREY, Look, look
from ..core.files import save_figure
from ..core.unit_names import with_unit
from .dataset import Dataset, Trajectory

# A plot with more panels or trajectories than this is unreadable.
MOST_PANELS = 24
MOST_RUNS = 6
# A picture has at most so many points of one curve, and lines between more than so many.
MOST_POINTS = 5000
MANY = 60
DECADES = 1e3


def plot_data(path: str | PathLike[str], data: Dataset) -> Path:
    """Observations over time, a panel for each state and each input, with the names and the units
    of the data.

    Error bars are standard deviations; crosses at the lower edge are missing values. The time axis
    is logarithmic, and without the time 0, if the times span more than three decades. At most
    MOST_RUNS trajectories and MOST_PANELS panels are drawn; the legend says how many are not.
    Returns the path. Raises ImportError without matplotlib.
    """
    runs = data.trajectories[:MOST_RUNS]
    named = [(label, i, False) for i, label in enumerate(data.labels)]
    named += [(f"input {with_unit(name)}", j, True) for j, name in enumerate(data.inputs)]
    figure, axes = figure_with_panels(min(len(named), MOST_PANELS))
    log = _spans_decades(data)
    for axis, (label, i, is_input) in zip(axes, named):
        for k, run in enumerate(runs):
            if is_input:
                _draw_input(axis, run, i, look(k), data.held)
            else:
                draw_observations(axis, run, i, look(k), log)
                _draw_means_and_gaps(axis, run, i, look(k))
        if log:
            axis.set_xscale("log")
        axis.margins(y=0.12)
        finish(axis, data.time_label, label)
    handles = _handles(data, runs)
    handles += left_out(len(data.trajectories), len(runs), "trajectories")
    handles += left_out(len(named), len(axes), "states and inputs")
    legend_below(figure, handles)
    return save_figure(path, figure, 150)


def draw_observations(axis: Any, run: Trajectory, i: int, own: Look, log: bool = False) -> None:
    """The single observations of state i as symbols, with bars for their standard deviations.
    log: whether the axis of the times is logarithmic, and has no place for the time 0."""
    lines = run.lines
    t = run.t[lines.row]
    seen = lines.seen[:, i]
    if log:
        seen = seen & (t > 0)
    shown = seen.nonzero().flatten()
    shown = shown[:: max(1, len(t) // MOST_POINTS)]
    style = dots(own, len(shown) > MANY)
    y = lines.y[:, i]
    if lines.sd is not None and bool((lines.sd[:, i] > 0).any()):
        bars = lines.sd[shown, i]
        axis.errorbar(t[shown], y[shown], yerr=bars, elinewidth=0.9, capsize=1.5, **style)
    else:
        axis.plot(t[shown], y[shown], **style)


def dots(own: Look, many: bool = False) -> dict[str, Any]:
    """How observations look: open symbols, or small filled ones where there are many."""
    style = {"color": own.colour, "marker": own.marker, "ls": "", "zorder": 3}
    if many:
        return style | {"ms": 2.4, "mew": 0.0}
    return style | {"ms": 4.5, "mfc": "white", "mew": 1.1}


def _draw_means_and_gaps(axis, run: Trajectory, i: int, own: Look) -> None:
    """A thin line through the means, and crosses where values are missing."""
    step = max(1, len(run.t) // MOST_POINTS)
    mean = run.seen[:, i].nonzero().flatten()[::step]
    line = {"color": own.colour, "ls": own.dashes, "lw": 0.8, "alpha": 0.55, "zorder": 2}
    axis.plot(run.t[mean], run.y[mean, i], **line)
    gaps = (~run.seen[:, i]).nonzero().flatten()
    if len(gaps):
        bottom = torch.full((len(gaps),), 0.02)
        place = axis.get_xaxis_transform()
        axis.plot(run.t[gaps], bottom, "x", color=own.colour, ms=5, transform=place)


def _draw_input(axis, run: Trajectory, j: int, own: Look, held: bool) -> None:
    assert run.u is not None
    step = max(1, len(run.t) // MOST_POINTS)
    style = "default"
    if held:
        style = "steps-post"
    line = {"color": own.colour, "ls": own.dashes, "lw": 1.6, "drawstyle": style}
    axis.plot(run.t[::step], run.u[::step, j], **line)


def _handles(data: Dataset, runs: Sequence[Trajectory]) -> list[Any]:
    """The names of the trajectories, and what crosses and bars are."""
    handles = []
    if len(data.trajectories) > 1:
        for k, run in enumerate(runs):
            style = dots(look(k)) | {"ls": look(k).dashes, "lw": 0.8}
            handles.append(entry(run.name, **style))
    if any(not bool(run.seen.all()) for run in runs):
        handles.append(entry("missing", ls="", marker="x", color=GREY))
    return handles + deviations_in_legend(runs)


def deviations_in_legend(runs: Sequence[Trajectory]) -> list[Any]:
    """The line of a legend for error bars; an empty list if no trajectory has them."""
    if all(run.sd is None for run in runs):
        return []
    return [entry("standard deviation", ls="", marker="|", ms=11, color=GREY)]


def _spans_decades(data: Dataset) -> bool:
    """Whether all times are from zero on, and spread over more than three decades."""
    ratios = []
    for run in data.trajectories:
        positive = run.t[run.t > 0]
        if float(run.t[0]) < 0 or len(positive) < 2:
            return False
        ratios.append(float(positive[-1] / positive[0]))
    steps = torch.cat([run.t.diff() for run in data.trajectories])
    return max(ratios) > DECADES and float(steps.max()) > 10 * float(steps.min())
