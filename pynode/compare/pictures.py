"""Pictures of the comparisons: matplotlib Figures. This file imports matplotlib, therefore others
import it only in functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..core.drawing.figures import TICK, entry, figure_with_panels, finish, headline, legend_below
from ..core.drawing.palette import GREY, PALE, Look, failed_end, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .work import Comparison, Row

WORK = "evaluations of f (a Jacobian counts as n)"
SECONDS = "time (s)"
# Solves that did not finish have no error: they are in a strip above the others, from this part of
# the height of the axes on.
STRIP = 0.87
MOST_TICKS = 8
FINISHED = "finished"
UNFINISHED = "did not finish"


def work_precision(comparison: Comparison) -> Figure:
    """Error against evaluations and against seconds, log-log. Filled symbols are solves that
    finished; open symbols in the strip at the top are solves that did not."""
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    methods = list(dict.fromkeys(row.method for row in comparison.rows))
    lost = list(dict.fromkeys(row.method for row in comparison.rows if not row.finished))
    for axis, x, label in zip(axes, ("work", "seconds"), (WORK, SECONDS), strict=True):
        axis.set(xscale="log", yscale="log")
        for k, method in enumerate(methods):
            rows = [row for row in comparison.rows if row.method == method]
            _draw_method(axis, rows, x, look(k), _height(method, lost))
        _readable(axis)
        finish(axis, label, "")
    _limits(axes[0], comparison.rows)
    finish(axes[0], WORK, "error relative to largest value")
    if lost:
        for axis in axes:
            strip = Rectangle((0, STRIP), 1, 1 - STRIP, transform=axis.transAxes, color=PALE)
            axis.add_patch(strip).set_zorder(0)
    handles, _ = axes[0].get_legend_handles_labels()
    if lost:
        handles += _finished_or_not({"marker": "o", "mfc": "white", "ms": 6})
    headline(figure, comparison.name)
    legend_below(figure, handles)
    return figure


def deviations(
    labels: Sequence[str], values: Sequence[float | None], title: str, unit: str
) -> Figure:
    """A dot for each label on a logarithmic axis. A value None is a solve that did not finish, and
    has a cross. unit: what the values are."""
    known = [value for value in values if value]
    low = min(known, default=1.0) / 3
    high = 3 * max(known, default=1.0)
    figure = Figure(figsize=(8.5, 1.1 + 0.34 * len(labels)), layout="constrained")
    axis = figure.subplots()
    for k, value in enumerate(values):
        if value is None:
            axis.plot(low, k, clip_on=False, **failed_end(GREY))
            text = UNFINISHED
        else:
            text = f"{value:.1e}"
            points = [low, max(value, low)]
            axis.plot(points, [k, k], color=look(0).colour, lw=1.2, marker="o", markevery=[1])
        place = (max(value or low, low), k)
        axis.annotate(text, place, (9, 0), textcoords="offset points", va="center", fontsize=TICK)
    axis.set(xscale="log", xlim=(low / 1.2, 5 * high))
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    finish(axis, unit, "")
    axis.grid(visible=False, axis="y")
    headline(figure, title)
    if None in values:
        legend_below(figure, _finished_or_not(failed_end(GREY)))
    return figure


def lines(
    labels: Sequence[str], series: Mapping[str, Sequence[float]], title: str, unit: str
) -> Figure:
    """A line for each series over the labels, for instance epochs, on a logarithmic axis. series:
    {name: values}. unit: what the values are."""
    figure, (axis,) = figure_with_panels(1)
    figure.set_figwidth(8.5)
    for k, (name, values) in enumerate(series.items()):
        own = look(k)
        style: dict[str, Any] = {"color": own.colour, "ls": own.dashes, "marker": own.marker}
        axis.plot(range(len(labels)), values, label=name, ms=5, **style)
    axis.set(yscale="log")
    axis.set_xticks(range(len(labels)), labels)
    finish(axis, "", unit)
    headline(figure, title)
    legend_below(figure, axis.get_legend_handles_labels()[0])
    return figure


def _draw_method(axis: Axes, rows: Sequence[Row], x: str, own: Look, height: float) -> None:
    """The solves of one method. x: the attribute that is drawn to the right. height: in the strip,
    for solves that did not finish."""
    kind = "explicit"
    dashes = "--"
    if rows[0].implicit:
        kind = "implicit"
        dashes = "-"
    style: dict[str, Any] = {"color": own.colour, "marker": own.marker, "ms": 6}
    finished = [row for row in rows if row.finished]
    errors = [row.error for row in finished]
    label = f"{rows[0].method} ({kind})"
    axis.plot([getattr(row, x) for row in finished], errors, ls=dashes, label=label, **style)
    others = [getattr(row, x) for row in rows if not row.finished]
    heights = [height] * len(others)
    place = axis.get_xaxis_transform()
    axis.plot(others, heights, ls="", mfc="white", transform=place, **style)


def _height(method: str, lost: Sequence[str]) -> float:
    """The height of a method in the strip, as a part of the height of the axes. Each of the methods
    ``lost`` has its own, because those that reach the same limit end at the same x."""
    middle = (1 + STRIP) / 2
    if method not in lost or len(lost) == 1:
        return middle
    room = 0.7 * (1 - STRIP)
    return middle + room * (lost.index(method) / (len(lost) - 1) - 0.5)


def _finished_or_not(unfinished: dict[str, Any]) -> list[Any]:
    """The lines of the legend for symbols. unfinished: how those look that did not finish."""
    return [
        entry(FINISHED, color=GREY, marker="o", ls="", ms=6),
        entry(UNFINISHED, **{"color": GREY, "ls": "", **unfinished}),
    ]


def _limits(axis: Axes, rows: Sequence[Row]) -> None:
    """Room for the strip, and ticks only below it."""
    errors = [row.error for row in rows if row.finished and row.error > 0]
    if not errors:
        axis.set_yticks([])
        axis.set_yticks([], minor=True)
        return
    low = math.log10(min(errors)) - 0.4
    high = math.log10(max(errors)) + 0.4
    top = high
    if any(not row.finished for row in rows):
        top = low + (high - low) / STRIP
    axis.set_ylim(10**low, 10**top)
    powers = range(math.ceil(low), math.floor(high) + 1)
    step = math.ceil(max(1, len(powers)) / MOST_TICKS)
    axis.yaxis.set_major_locator(ticker.FixedLocator([10.0**power for power in powers[::step]]))
    axis.yaxis.set_minor_locator(ticker.NullLocator())


def _readable(axis: Axes) -> None:
    """Labels of a logarithmic axis of x as numbers. Below two decades it needs labels between the
    powers of ten."""
    low, high = axis.get_xlim()
    subs: tuple[float, ...] = (1,)
    if high < 100 * low:
        subs = (1, 2, 5)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: _plain(x)))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def _plain(x):
    if x >= 1:
        return f"{x:,.0f}"
    return f"{x:g}"
