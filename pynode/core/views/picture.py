"""Pictures of solutions with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..drawing.palette import COLOURS
from ..events import RowRecords
from ..in_kind import as_arrays
from ..layout import joined
from ..suggestions import suggestion
from .tables import components

# More lines than this are unreadable.
MOST = 12
MOST_ROWS = 50
FINE = 400
# A logarithmic axis of time begins where the gaps between outputs grow by this factor.
GROWTH = 1000
LINES = ("-", "--", ":", "-.")


class Curves(NamedTuple):
    """What is drawn. t: (m, R) times of R rows; y: (m, R, n)."""

    t: np.ndarray
    y: np.ndarray


def plot(
    solution: Any,
    names: Sequence[str] | None,
    x: str,
    scales: tuple[str, str],
    panels: bool,
    events: bool,
    ax: Any,
    style: dict[str, Any],
) -> Any:
    """See ``Viewable.plot``. scales: of x and y."""
    chosen = _chosen(solution, names, x)
    if x != "t":
        _place(solution, x)
    axes = _axes(ax, len(chosen), panels)
    logarithmic = scales[0] == "log" or (scales[0] == "auto" and x == "t" and _grows(solution))
    curves = _curves(solution, logarithmic)
    for number, name in enumerate(chosen):
        axis = axes[number % len(axes)]
        if panels:
            colour = COLOURS[0]
            line = LINES[0]
        else:
            colour = COLOURS[number % len(COLOURS)]
            line = LINES[number // len(COLOURS) % len(LINES)]
        _draw(axis, solution, curves, x, name, {"color": colour, "ls": line, **style})
    for number, axis in enumerate(axes):
        if events:
            _mark(axis, solution, x, chosen[number], number == 0)
        _finish(axis, x, chosen, number, panels, logarithmic, scales)
    if panels:
        return axes
    return axes[0]


def thumbnail(solution: Any) -> str:
    """A small picture as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.4), layout="constrained")
    axis = figure.subplots()
    plot(solution, None, "t", ("auto", "linear"), False, True, axis, {"lw": 1.2})
    axis.tick_params(labelsize=8)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def _chosen(solution, names, x):
    """The names of the components to draw. Raise KeyError for unknown ones."""
    if names is None:
        return [name for name in solution.names[: MOST + 1] if name != x][:MOST]
    if isinstance(names, str):
        names = [names]
    for name in names:
        _place(solution, name)
    return list(names)


def _place(solution, name):
    """The number of a component. Raise KeyError if there is none of this name."""
    if name not in solution.names:
        raise KeyError(f"there is no component {name!r}: {suggestion(name, solution.names)}")
    return solution.names.index(name)


def _axes(ax, count, panels):
    """A list of Axes: one, or one for each component."""
    wanted = 1
    if panels:
        wanted = count
    if ax is not None:
        axes = list(np.ravel(ax))
        if len(axes) < wanted:
            raise ValueError(f"ax has {len(axes)} Axes: give {wanted}, one for each component")
        return axes[:wanted]
    from matplotlib import pyplot

    # pyplot, because a notebook shows its figures.
    columns = min(3, wanted)
    rows = -(-wanted // columns)
    if panels:
        size = (3.6 * columns, 2.5 * rows)
    else:
        size = (7.0, 4.2)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", sharex=panels
    )
    axes = list(grid.flat)
    for unused in axes[wanted:]:
        figure.delaxes(unused)
    return axes[:wanted]


def _grows(solution):
    """Whether the gaps between the output times grow so much that their axis is logarithmic."""
    t = solution.to_numpy().t
    if t.ndim == 2:
        t = t[:, 0]
    gaps = np.abs(np.diff(t))
    return len(gaps) > 1 and t[0] >= 0 and gaps[-1] > GROWTH * gaps[0]


def _curves(solution, logarithmic):
    """The points of the lines: fine ones with dense output, otherwise the outputs."""
    t, y = components(solution)
    if t.ndim == 2:
        return Curves(t[:, :MOST_ROWS], y[:, :MOST_ROWS])
    if getattr(solution, "has_dense_output", False) and len(t) > 1 and len(t) < FINE:
        if logarithmic:
            fine = np.geomspace(t[0] or t[1], t[-1], FINE)
        else:
            fine = np.linspace(t[0], t[-1], FINE)
        t = np.union1d(fine.clip(min(t[0], t[-1]), max(t[0], t[-1])), t)
        y = _dense(solution, t)
    return Curves(t[:, None], y[:, None])


def _dense(solution, t):
    """The states, (m, n), at times within the span."""
    with torch.no_grad():
        return joined(as_arrays(solution(t)), 1)


def _draw(axis, solution, curves, x, name, style):
    """The lines of one component, one for each row."""
    values = curves.y[..., _place(solution, name)]
    if x == "t":
        positions = curves.t
    else:
        positions = curves.y[..., _place(solution, x)]
    count = values.shape[1]
    if count > 1:
        style = {"lw": 1.0, "alpha": max(0.15, min(1.0, 8 / count)), **style}
    lines = axis.plot(positions, values, **style)
    lines[0].set_label(name)


def _mark(axis, solution, x, name, labelled):
    """The events: lines over the time, points in a phase plane."""
    records = [record for record in _records(solution) if record.name]
    seen: set[str] = set()
    for record in records:
        label = None
        if labelled and record.name not in seen:
            label = record.name
        seen.add(record.name)
        shade = {"color": "0.45", "zorder": 1}
        if x == "t":
            axis.axvline(
                float(torch.as_tensor(record.t).detach()),
                ls=(0, (2, 2)),
                lw=1.0,
                label=label,
                **shade,
            )
            continue
        state = joined(as_arrays(record.y), 0)
        at = state[_place(solution, x)], state[_place(solution, name)]
        axis.plot(*at, "o", ms=6, mfc="white", label=label, **{**shade, "zorder": 4})


def _records(solution):
    """The events of a solution; of a batch, those of its rows."""
    if isinstance(solution.events, RowRecords):
        return []
    return solution.events


def _finish(axis, x, chosen, number, panels, logarithmic, scales):
    """Scales, labels and the legend, beside the lines where there are several."""
    if logarithmic:
        axis.set_xscale("log")
    elif scales[0] == "symlog":
        axis.set_xscale("symlog")
    if scales[1] != "linear":
        axis.set_yscale(scales[1])
    axis.set_xlabel(x)
    axis.grid(alpha=0.25)
    if panels:
        axis.set_title(chosen[number], fontsize=10)
        return
    if len(chosen) == 1:
        axis.set_ylabel(chosen[0])
    handles, _ = axis.get_legend_handles_labels()
    if len(handles) > 1:
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False)
