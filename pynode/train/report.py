"""Plots of a training run: the fit and the loss. They need matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.drawing.figures import (
    entry,
    figure_with_panels,
    finish,
    headline,
    left_out,
    legend_below,
    whole_numbers,
)
from ..core.drawing.palette import GREY, Look, failed_end, look
from ..core.files import save_figure
from ..data import Dataset, Trajectory
from ..data.picture import deviations_in_legend, dots, draw_observations
from ..integrate import solve
from .accuracy import Solvable
from .inputs import for_run, start_of
from .times import spread_over_decades

POINTS = 300
# A plot with more states or trajectories than this is unreadable.
MOST_STATES = 24
MOST_RUNS = 6
HELD_OUT = (0, (4, 2))
# Above so many epochs the points of the loss would hide its line.
MANY_EPOCHS = 10


class _Course(NamedTuple):
    """What is drawn of one trajectory.

    t, y: (T,) times that the solve reached, and (T, n) its states. failed: whether it did not reach
    the end. fine: (F,) all times; low, high: (F, n) the members at them, None without. log: whether
    the axis of the times is logarithmic.
    """

    run: Trajectory
    own: Look
    t: Tensor
    y: Tensor
    failed: bool
    low: Tensor | None
    high: Tensor | None
    fine: Tensor
    log: bool


def plot_fit(
    path: str | PathLike[str],
    field: Solvable,
    data: Dataset,
    method: str = "fbdf",
    rtol: float = 1e-6,
    backend: str = "auto",
    title: str = "",
    members: Sequence[Solvable] = (),
    held_out: Sequence[bool] = (),
) -> Path:
    """Observations as symbols and the learned solution as a line, with a panel for each state, in
    the units of the data.

    The time axis is logarithmic if the times span more than three decades. At most MOST_RUNS
    trajectories and MOST_STATES states are drawn; the legend says how many are not. A cross at the
    end of a line says that the field could not be solved beyond it. It is at the edge of the panel
    where the line leaves the data by more than their range.

    backend: as for ``solve``. title: a sentence above, such as the verdict of the run. members:
    further fields, such as those of an ensemble; a band from the lowest to the highest of their
    solutions is drawn behind the line. held_out: for each trajectory whether training never saw it;
    its line is dashed. Returns the path. Raises ImportError without matplotlib.
    """
    runs = data.trajectories[:MOST_RUNS]
    figure, axes = figure_with_panels(min(len(data.columns), MOST_STATES))
    held_out = held_out or (False,) * len(runs)
    with_options = (method, rtol, backend)
    courses = [_course(field, members, run, look(k), with_options) for k, run in enumerate(runs)]
    for i, (axis, label) in enumerate(zip(axes, data.labels)):
        for course, held in zip(courses, held_out):
            _draw_course(axis, course, i, _dashes(held))
        _mark_failed(axis, courses, i)
        if any(course.log for course in courses):
            axis.set_xscale("log")
        finish(axis, data.time_label, label)
    handles = _handles(courses, held_out, len(members))
    handles += left_out(len(data.trajectories), len(runs), "trajectories")
    handles += left_out(len(data.columns), len(axes), "states")
    legend_below(figure, handles)
    if title:
        headline(figure, title)
    return save_figure(path, figure, 150)


def plot_loss(path: str | PathLike[str], history: list[dict[str, Any]], best: float) -> Path:
    """The loss against the epoch on a logarithmic axis, with the lowest so far. A line shows the
    loss of constant states, and a mark after the last epoch the loss of the saved model. history,
    best: as in ``Fit``. Returns the path. Raises ImportError without matplotlib."""
    figure, (axis,) = figure_with_panels(1)
    baseline = history[0]["loss"]
    epochs = history[1:]
    axis.axhline(baseline, color=GREY, ls="--", lw=1.2, label=f"constant states: {baseline:.2g}")
    if epochs:
        x = [record["epoch"] for record in epochs]
        loss = [record["loss"] for record in epochs]
        lowest = [min(loss[: k + 1]) for k in range(len(loss))]
        marker = ""
        if len(x) < MANY_EPOCHS:
            marker = "o"
        pale = look(5).colour
        axis.plot(x, loss, color=pale, lw=1.0, label="loss of the epoch", marker=marker, ms=4)
        axis.plot(x, lowest, color=look(0).colour, lw=1.8, label="lowest so far")
        axis.plot(
            x[-1] + 1, best, "D", color=look(1).colour, ms=6, label=f"saved model: {best:.3g}"
        )
    axis.set_yscale("log")
    whole_numbers(axis)
    finish(axis, "epoch", "loss of the scaled states")
    legend_below(figure, axis.get_legend_handles_labels()[0])
    return save_figure(path, figure, 150)


def fine_times(t: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Times for a smooth curve from t[0] to t[-1], and whether they are spaced logarithmically.

    They are if the times (T,), none of them negative, are spread over decades.
    """
    positive = t[t > 0]
    if float(t[0]) >= 0 and len(positive) > 1 and spread_over_decades(positive):
        fine = torch.logspace(
            math.log10(positive[0]), math.log10(positive[-1]), POINTS, dtype=torch.float64
        )
        fine[0] = positive[0]
        fine[-1] = positive[-1]
        if float(t[0]) == 0:
            fine = torch.cat((t[:1], fine))
        return fine, True
    return torch.linspace(float(t[0]), float(t[-1]), POINTS, dtype=torch.float64), False


def _course(field, members, run, own, with_options) -> _Course:
    """The solution of one trajectory, and the band of the members around it. with_options: method,
    rtol and backend of the solves."""
    fine, log = fine_times(run.t)
    found = _solution(field, run, fine, *with_options)
    low, high = _band(members, run, fine, with_options)
    return _Course(run, own, found.t, found.y, not found.success, low, high, fine, log)


def _draw_course(axis, course: _Course, i: int, dashes) -> None:
    """State i of one trajectory: its observations, its line and its band."""
    own = course.own
    shown = _shown(course.t, course.log)
    t = course.t[shown]
    y = course.y[shown, i]
    axis.plot(t, y, ls=dashes, color=own.colour, lw=1.6, zorder=2)
    if course.low is not None and course.high is not None:
        shown = _shown(course.fine, course.log)
        low = course.low[shown, i]
        high = course.high[shown, i]
        axis.fill_between(course.fine[shown], low, high, color=own.colour, alpha=0.22, lw=0)
    draw_observations(axis, course.run, i, own, course.log)


def _mark_failed(axis, courses: Sequence[_Course], i: int) -> None:
    """Crosses where solves failed. What goes to infinity would leave no room for the data: then the
    axis shows the range of the observations, and as much again below and above."""
    failed = [course for course in courses if course.failed]
    if not failed:
        return
    seen = torch.cat([course.run.y[course.run.seen[:, i], i] for course in courses])
    low = float(seen.min())
    high = float(seen.max())
    shown = axis.get_ylim()
    bottom = max(shown[0], 2 * low - high)
    top = min(shown[1], 2 * high - low)
    if top > bottom:
        axis.set_ylim(bottom, top)
    for course in failed:
        end = min(max(float(course.y[-1, i]), bottom), top)
        axis.plot(course.t[-1:], [end], clip_on=False, **failed_end(course.own.colour))


def _shown(t: Tensor, log: bool) -> Tensor:
    """Which times have a place on the axis."""
    if log:
        return t > 0
    return torch.ones_like(t, dtype=torch.bool)


def _handles(courses: Sequence[_Course], held_out: Sequence[bool], members: int) -> list[Any]:
    """The lines of the legend."""
    handles = []
    if len(courses) == 1:
        handles.append(entry("model", color=courses[0].own.colour, lw=1.6))
        handles.append(entry("data", **dots(courses[0].own)))
    else:
        for course, held in zip(courses, held_out):
            label = course.run.name
            if held:
                label += ", held out"
            style = dots(course.own) | {"ls": _dashes(held), "lw": 1.6}
            handles.append(entry(label, **style))
        handles.append(entry("data", **dots(courses[0].own) | {"color": GREY}))
        handles.append(entry("model", color=GREY, lw=1.6))
    handles += deviations_in_legend([course.run for course in courses])
    if any(course.low is not None for course in courses):
        handles.append(entry(f"range of {members} models", color=GREY, lw=8, alpha=0.3))
    if any(course.failed for course in courses):
        handles.append(entry("not solved beyond here", **failed_end(GREY)))
    return handles


def _dashes(held):
    if held:
        return HELD_OUT
    return "-"


def _band(members, run, t, with_options):
    """The lowest and the highest of the members' solutions, (T, n) each; None with fewer than
    two. Members that cannot be solved between the observations are left out."""
    found = [_solution(member, run, t, *with_options) for member in members]
    solved = [one.y for one in found if one.success]
    if len(solved) < 2:
        return None, None
    every = torch.stack(solved)
    return every.amin(0), every.amax(0)


def _solution(field, run, t, method, rtol, backend):
    atol = field.atol(rtol)
    own, stops = for_run(field, run)
    with torch.no_grad():
        return solve(
            own,
            start_of(field, run),
            t,
            method=method,
            rtol=rtol,
            atol=atol,
            backend=backend,
            throw=False,
            **stops,
        )
