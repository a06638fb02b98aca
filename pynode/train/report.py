"""Plots of a training run: the fit and the loss, for which matplotlib is needed."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ..core.files import save_figure
from ..solve import solve
from .data import Dataset

POINTS = 300
# More panels or trajectories than this make a plot that nobody can read.
MOST_PANELS = 24
MOST_RUNS = 6


def plot_fit(path, field, data: Dataset, method="fbdf", rtol=1e-6) -> Path:
    """Observations as dots and the learned solution as a line, one panel a state, in the units of
    the data.

    The time axis is logarithmic where the times span more than three decades. At most MOST_RUNS
    trajectories and MOST_PANELS states are drawn. Returns the path. ImportError without matplotlib,
    SolveError where the field fails.
    """
    from matplotlib.figure import Figure

    from ..compare.pictures import COLOURS

    runs = data.trajectories[:MOST_RUNS]
    names = data.columns[:MOST_PANELS]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.4))
    axes = figure.subplots(rows, columns, squeeze=False)
    for k, run in enumerate(runs):
        t, log = fine_times(run.t)
        y = _solution(field, run, t, method, rtol)
        if log:
            shown = t > 0
        else:
            shown = t == t
        for i, axis in enumerate(axes.flat[: len(names)]):
            colour = COLOURS[k % len(COLOURS)]
            seen = run.seen[:, i] & ((run.t > 0) if log else True)
            if len(runs) > 1:
                model = run.name
            else:
                model = "model"
            axis.plot(t[shown], y[shown, i], color=colour, lw=1.6, label=model, zorder=2)
            if k == len(runs) - 1:
                data_label = "data"
            else:
                data_label = None
            dots = {"ms": 4.5, "mfc": "white", "mew": 1.1, "zorder": 3, "label": data_label}
            axis.plot(run.t[seen], run.y[seen, i], "o", color=colour, **dots)
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
    figure.tight_layout()
    return save_figure(path, figure, 150)


def plot_loss(path, history: list, best: float) -> Path:
    """The loss against the epoch on a logarithmic axis, with the lowest so far; the loss of states
    that never move as a line above; that of the saved model behind the last epoch. history, best:
    as in ``Fit``. Returns the path. ImportError without matplotlib."""
    from matplotlib.figure import Figure

    from ..compare.pictures import COLOURS

    figure = Figure(figsize=(6.4, 4.0))
    axis = figure.subplots()
    baseline = history[0]["loss"]
    epochs = history[1:]
    axis.axhline(
        baseline, color="0.5", ls="--", lw=1.2, label=f"states that never move: {baseline:.2g}"
    )
    if epochs:
        x = [record["epoch"] for record in epochs]
        loss = [record["loss"] for record in epochs]
        lowest = [min(loss[: k + 1]) for k in range(len(loss))]
        marker = "o" if len(x) < 10 else ""
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
    """Times to draw a curve through, from t[0] to t[-1], and whether they are spaced
    logarithmically.

    They are where the times (T,) span more than three decades, counted from the first positive one.
    """
    positive = t[t > 0]
    if float(t[0]) >= 0 and len(positive) > 1 and float(positive[-1] / positive[0]) > 1e3:
        fine = torch.logspace(
            math.log10(positive[0]), math.log10(positive[-1]), POINTS, dtype=torch.float64
        )
        fine[0], fine[-1] = positive[0], positive[-1]
        return (torch.cat((t[:1], fine)) if float(t[0]) == 0 else fine), True
    return torch.linspace(float(t[0]), float(t[-1]), POINTS, dtype=torch.float64), False


def _solution(field, run, t, method, rtol):
    with torch.no_grad():
        return solve(field, run.y[0], t, method=method, rtol=rtol, atol=field.atol(rtol)).y
