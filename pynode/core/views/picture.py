"""Pictures of solutions with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..drawing.figures import (
    MOST_COLUMNS,
    PANEL,
    entry,
    figure_with_panels,
    finish,
    left_out,
    legend_below,
    legend_beside,
    visible,
)
from ..drawing.palette import GREY, MARKERS, failed_end, look
from ..events import RowRecords
from ..in_kind import as_arrays
from ..layout import joined
from ..suggestions import suggestion
from ..unit_names import with_unit
from .tables import components

# More lines than this are unreadable.
MOST = 12
MOST_ROWS = 50
FINE = 400
# A logarithmic axis of time begins where the gaps between outputs grow by this factor.
GROWTH = 1000
# A small picture has room for fewer lines, and for short names.
MOST_SMALL = 6
SMALL_WIDTH = 18
SMALL_LETTERS = 8
ALONE = (7.0, 4.2)
# Dashes of the lines that mark events, one for each kind of event.
EVENT_DASHES = ((0, (2, 2)), (0, (6, 2)), (0, (5, 2, 1, 2)), (0, (1, 1)))


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
    _draw_all(axes, solution, chosen, x, scales, (panels, events), style)
    more = _failure(solution)
    if names is None:
        more += left_out(len(set(solution.names) - {x}), len(chosen), "components")
    _legend(axes, panels, more, ax is None)
    if panels:
        return axes
    return axes[0]


def _draw_all(axes, solution, chosen, x, scales, what, style):
    """The lines, marks, labels and scales. what: (whether each component has axes of its own,
    whether events are marked)."""
    panels, events = what
    logarithmic = scales[0] == "log" or (scales[0] == "auto" and x == "t" and _grows(solution))
    curves = _curves(solution, logarithmic)
    for number, name in enumerate(chosen):
        own = look(number)
        if panels:
            own = look(0)
        _draw(axes[number % len(axes)], solution, curves, x, name, own, style)
    for number, axis in enumerate(axes):
        if events:
            _mark(axis, solution, x, chosen[number])
        if logarithmic:
            axis.set_xscale("log")
        elif scales[0] == "symlog":
            axis.set_xscale("symlog")
        if scales[1] != "linear":
            axis.set_yscale(scales[1])
        y = ""
        if panels or len(chosen) == 1:
            y = _label(solution, chosen[number])
        finish(axis, _label_of_x(solution, x), y)


def separate_figure(solution: Any, panels: bool) -> Any:
    """A Figure of all components, at most MOST of them, which pyplot knows nothing of. panels:
    whether each has axes of its own."""
    chosen = _chosen(solution, None, "t")
    count = 1
    if panels:
        count = len(chosen)
    figure, axes = figure_with_panels(count)
    _draw_all(axes, solution, chosen, "t", ("auto", "linear"), (panels, True), {})
    more = _failure(solution) + left_out(len(solution.names), len(chosen), "components")
    _legend(axes, panels, more, True)
    return figure


def thumbnail(solution: Any) -> str:
    """A small picture as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    axis = figure.subplots()
    chosen = list(solution.names[:MOST_SMALL])
    _draw_all([axis], solution, chosen, "t", ("auto", "linear"), (False, True), {"lw": 1.2})
    handles, _ = axis.get_legend_handles_labels()
    handles += _failure(solution)
    handles += left_out(len(solution.names), len(chosen), "components")
    if len(handles) > 1:
        legend_beside(axis, handles, SMALL_LETTERS, SMALL_WIDTH)
    axis.tick_params(labelsize=SMALL_LETTERS)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def _label_of_x(solution, x):
    """What the axis of x says."""
    if x == "t":
        return with_unit("t", solution.time_unit)
    return _label(solution, x)


def _label(solution, name):
    """What axes and legends say of a component."""
    return with_unit(name, solution.units.get(name, ""))


def _legend(axes, panels, more, own):
    """The legend, beside the lines where there are several, or below all panels. more: its further
    lines. own: whether the figure is ours, with a layout that has room for a legend below."""
    handles, _ = axes[0].get_legend_handles_labels()
    if panels:
        # Its own axis names a component.
        handles = handles[1:] + more
        if own:
            legend_below(axes[0].figure, handles)
        else:
            legend_beside(axes[-1], handles)
        return
    handles += more
    if len(handles) > 1:
        legend_beside(axes[0], handles)


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
    columns = min(MOST_COLUMNS, wanted)
    rows = -(-wanted // columns)
    size = ALONE
    if panels:
        size = (max(PANEL[0] * columns, ALONE[0]), PANEL[1] * rows)
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


def _draw(axis, solution, curves, x, name, own, style):
    """The lines of one component, one for each row, and a cross at the end of a failed solve. own:
    how they look, unless ``style`` says something else."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    values = curves.y[..., _place(solution, name)]
    positions = curves.t
    if x != "t":
        positions = curves.y[..., _place(solution, x)]
    count = values.shape[1]
    look_of_lines = {"color": own.colour, "linestyle": own.dashes}
    if count > 1:
        look_of_lines |= {"linewidth": 1.0, "alpha": max(0.15, min(1.0, 8 / count))}
    look_of_lines |= normalize_kwargs(style, Line2D)
    lines = axis.plot(positions, values, **look_of_lines)
    lines[0].set_label(visible(_label(solution, name)))
    for row in _failed(solution):
        if row >= count:
            continue  # not drawn
        known = np.flatnonzero(np.isfinite(values[:, row]) & np.isfinite(positions[:, row]))
        if len(known):
            end = known[-1:]
            axis.plot(positions[end, row], values[end, row], **failed_end(lines[0].get_color()))


def _failed(solution):
    """The numbers of the rows whose solve failed; [0] for a single solve that failed."""
    if hasattr(solution, "statuses"):
        return np.flatnonzero(~np.asarray(solution.statuses.good())).tolist()
    if solution.success:
        return []
    return [0]


def _failure(solution):
    """The line of the legend for crosses, in a list; an empty list if no solve failed."""
    failed = _failed(solution)
    if not failed:
        return []
    if hasattr(solution, "statuses"):
        label = f"failed: {len(failed)} of {len(solution.statuses)} rows"
    else:
        label = f"failed at t = {solution.reached:.4g}"
    return [entry(label, **failed_end(GREY))]


def _mark(axis, solution, x, name):
    """The events: lines over the time, points in a phase plane. Each kind has its own dashes or
    symbols, and a line in the legend."""
    kinds: dict[str, int] = {}
    for record in _records(solution):
        if not record.name:
            continue
        label = None
        if record.name not in kinds:
            label = visible(record.name)
        kind = kinds.setdefault(record.name, len(kinds))
        if x == "t":
            at = float(torch.as_tensor(record.t).detach())
            dashes = EVENT_DASHES[kind % len(EVENT_DASHES)]
            axis.axvline(at, ls=dashes, lw=1.0, color=GREY, label=label, zorder=1)
            continue
        state = joined(as_arrays(record.y), 0)
        point = {"marker": MARKERS[kind % len(MARKERS)], "ms": 6, "mfc": "white", "color": GREY}
        place = state[_place(solution, x)], state[_place(solution, name)]
        axis.plot(*place, ls="", label=label, zorder=4, **point)


def _records(solution):
    """The events of a solution; of a batch, those of its rows."""
    if isinstance(solution.events, RowRecords):
        return []
    return solution.events
