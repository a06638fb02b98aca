"""Draws a data set. It needs matplotlib."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..core.colours import COLOURS
from ..core.files import save_figure
from .dataset import Dataset, Trajectory

# A plot with more panels or trajectories than this is unreadable.
MOST_PANELS = 24
MOST_RUNS = 6
# A picture has at most so many points of one curve, and lines between more than so many.
MOST_POINTS = 5000
MANY = 60
DECADES = 1e3


def plot_data(path: str | PathLike[str], data: Dataset) -> Path:
    """Observations over time, a panel for each state and each input, in the units of the data.

    Error bars are standard deviations; crosses at the lower edge are missing values. The time axis
    is logarithmic, and without the time 0, if the times span more than three decades. At most
    MOST_RUNS trajectories and MOST_PANELS panels are drawn. Returns the path. Raises ImportError
    without matplotlib.
    """
    from matplotlib.figure import Figure

    runs = data.trajectories[:MOST_RUNS]
    panels = [(name, i, False) for i, name in enumerate(data.columns)]
    panels += [(name, j, True) for j, name in enumerate(data.inputs)]
    panels = panels[:MOST_PANELS]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    # One panel would be narrower than the legend.
    figure = Figure(figsize=(max(4.2 * columns, 6.0), 2.9 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    log = _spans_decades(data)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (name, i, is_input) in zip(axes.flat, panels):
        title = name
        if is_input:
            title = f"input {name}"
        for k, run in enumerate(runs):
            colour = COLOURS[k % len(COLOURS)]
            if is_input:
                _draw_input(axis, run, i, colour, data.held)
            else:
                _draw_state(axis, run, i, colour)
        if log:
            axis.set_xscale("log")
        axis.set_title(title, fontsize=11)
        axis.set_xlabel(data.time, fontsize=9)
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
        axis.margins(y=0.12)
        axis.grid(alpha=0.25)
    _legend(figure, data, runs)
    return save_figure(path, figure, 150)


def _draw_state(axis, run: Trajectory, i: int, colour: str) -> None:
    """Dots for single observations, a thin line through their means."""
    lines = run.lines
    seen = lines.seen[:, i]
    t = run.t[lines.row]
    step = max(1, len(t) // MOST_POINTS)
    shown = seen.nonzero().flatten()[::step]
    many = len(shown) > MANY
    dots: dict[str, Any] = {"color": colour, "mfc": "white", "ms": 4.5, "mew": 1.1, "ls": ""}
    if many:
        dots = {"color": colour, "ms": 2.0, "mew": 0.0, "ls": ""}
    y = lines.y[:, i]
    if lines.sd is not None and bool((lines.sd[:, i] > 0).any()):
        axis.errorbar(
            t[shown], y[shown], yerr=lines.sd[shown, i], fmt="o", elinewidth=0.9, **dots, zorder=3
        )
    else:
        axis.plot(t[shown], y[shown], "o", **dots, zorder=3)
    mean = run.seen[:, i].nonzero().flatten()[::step]
    axis.plot(run.t[mean], run.y[mean, i], color=colour, lw=0.8, alpha=0.55, zorder=2)
    gaps = (~run.seen[:, i]).nonzero().flatten()
    if len(gaps):
        bottom = torch.full((len(gaps),), 0.02)
        axis.plot(
            run.t[gaps], bottom, "x", color=colour, ms=5, transform=axis.get_xaxis_transform()
        )


def _draw_input(axis, run: Trajectory, j: int, colour: str, held: bool) -> None:
    assert run.u is not None
    step = max(1, len(run.t) // MOST_POINTS)
    style = "default"
    if held:
        style = "steps-post"
    axis.plot(run.t[::step], run.u[::step, j], color=colour, lw=1.6, drawstyle=style)


def _legend(figure, data: Dataset, runs) -> None:
    """The names of trajectories above the panels, and what crosses are."""
    from matplotlib.lines import Line2D

    handles = []
    if len(data.trajectories) > 1:
        for k, run in enumerate(runs):
            colour = COLOURS[k % len(COLOURS)]
            handles.append(Line2D([], [], color=colour, marker="o", mfc="white", label=run.name))
        more = len(data.trajectories) - len(runs)
        if more:
            handles.append(Line2D([], [], ls="", label=f"and {more} more, not drawn"))
    if any(not bool(run.seen.all()) for run in runs):
        handles.append(Line2D([], [], ls="", marker="x", color="0.3", label="missing"))
    if any(run.sd is not None for run in runs):
        handles.append(Line2D([], [], marker="|", color="0.3", label="standard deviation"))
    if handles:
        figure.legend(
            handles=handles, loc="outside upper center", ncols=min(4, len(handles)), fontsize=8
        )


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
