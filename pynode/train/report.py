"""Plots of a training run: the fit and the loss. They need matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..core.files import save_figure
from ..core.status import SolveError
from ..data import Dataset
from ..integrate import solve
from .accuracy import Solvable
from .inputs import for_run, start_of

POINTS = 300
# A plot with more states or trajectories than this is unreadable.
MOST_STATES = 24
MOST_RUNS = 6


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
    """Observations as dots and the learned solution as a line, with a subplot for each state, in
    the units of the data.

    The time axis is logarithmic if the times span more than three decades. At most MOST_RUNS
    trajectories and MOST_STATES states are drawn. backend: as for ``solve``. title: a sentence
    above, such as the verdict of the run. members: further fields, such as those of an ensemble; a
    band from the lowest to the highest of their solutions is drawn behind the line. held_out: for
    each trajectory whether training never saw it; its line is dashed. Returns the path.
    Raises ImportError without matplotlib, SolveError if the field fails.
    """
    from matplotlib.figure import Figure

    from ..core.colours import COLOURS

    runs = data.trajectories[:MOST_RUNS]
    names = data.columns[:MOST_STATES]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.4))
    axes = figure.subplots(rows, columns, squeeze=False)
    held_out = held_out or (False,) * len(runs)
    for k, run in enumerate(runs):
        t, log = fine_times(run.t)
        y = _solution(field, run, t, method, rtol, backend)
        band = _band(members, run, t, method, rtol, backend)
        if log:
            shown = t > 0
        else:
            shown = torch.ones_like(t, dtype=torch.bool)
        for i, axis in enumerate(axes.flat[: len(names)]):
            colour = COLOURS[k % len(COLOURS)]
            seen = run.seen[:, i]
            if log:
                seen = seen & (run.t > 0)
            if len(runs) > 1:
                model = run.name
            else:
                model = "model"
            style = "-"
            if held_out[k]:
                model += ", held out"
                style = "--"
            axis.plot(t[shown], y[shown, i], style, color=colour, lw=1.6, label=model, zorder=2)
            if band is not None:
                low, high = band
                spread = f"{len(members)} models" if k == len(runs) - 1 else None
                axis.fill_between(
                    t[shown], low[shown, i], high[shown, i], color=colour, alpha=0.25, label=spread
                )
            if k == len(runs) - 1:
                label = "data"
            else:
                label = None
            dots: dict[str, Any] = {"ms": 4.5, "mfc": "white", "mew": 1.1, "zorder": 3}
            axis.plot(run.t[seen], run.y[seen, i], "o", color=colour, label=label, **dots)
            if log:
                axis.set_xscale("log")
    for i, axis in enumerate(axes.flat):
        if i >= len(names):
            axis.remove()
            continue
        axis.set_title(names[i], fontsize=11)
        axis.grid(alpha=0.25)
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
        axis.set_xlabel(data.time)
    axes.flat[0].legend(fontsize=8, framealpha=0.9)
    if title:
        figure.suptitle(textwrap.fill(title, int(14 * figure.get_figwidth())), fontsize=9)
    figure.tight_layout()
    return save_figure(path, figure, 150)


def plot_loss(path: str | PathLike[str], history: list[dict[str, Any]], best: float) -> Path:
    """The loss against the epoch on a logarithmic axis, with the lowest so far. A line shows the
    loss of constant states, and a mark after the last epoch the loss of the saved model. history,
    best: as in ``Fit``. Returns the path. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    from ..core.colours import COLOURS

    figure = Figure(figsize=(6.4, 4.0))
    axis = figure.subplots()
    baseline = history[0]["loss"]
    epochs = history[1:]
    axis.axhline(baseline, color="0.5", ls="--", lw=1.2, label=f"constant states: {baseline:.2g}")
    if epochs:
        x = [record["epoch"] for record in epochs]
        loss = [record["loss"] for record in epochs]
        lowest = [min(loss[: k + 1]) for k in range(len(loss))]
        if len(x) < 10:
            marker = "o"
        else:
            marker = ""
        axis.plot(x, loss, color=COLOURS[5], lw=1.0, label="loss of the epoch", marker=marker, ms=3)
        axis.plot(x, lowest, color=COLOURS[0], lw=1.8, label="lowest so far")
        axis.plot(x[-1] + 1, best, "D", color=COLOURS[2], ms=5, label=f"saved model: {best:.3g}")
    axis.set_yscale("log")
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss of the scaled states")
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=9, framealpha=0.9)
    figure.tight_layout()
    return save_figure(path, figure, 150)


def fine_times(t: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Times for a smooth curve from t[0] to t[-1], and whether they are spaced logarithmically.

    They are if the times (T,) span more than three decades, counted from the first positive one.
    """
    positive = t[t > 0]
    if float(t[0]) >= 0 and len(positive) > 1 and float(positive[-1] / positive[0]) > 1e3:
        fine = torch.logspace(
            math.log10(positive[0]), math.log10(positive[-1]), POINTS, dtype=torch.float64
        )
        fine[0] = positive[0]
        fine[-1] = positive[-1]
        if float(t[0]) == 0:
            fine = torch.cat((t[:1], fine))
        return fine, True
    return torch.linspace(float(t[0]), float(t[-1]), POINTS, dtype=torch.float64), False


def _band(members, run, t, method, rtol, backend):
    """The lowest and the highest of the members' solutions, (T, n) each; None with fewer than
    two. Members that cannot be solved between the observations are left out."""
    found = []
    for member in members:
        try:
            found.append(_solution(member, run, t, method, rtol, backend))
        except SolveError:
            continue
    if len(found) < 2:
        return None
    every = torch.stack(found)
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
            **stops,
        ).y
