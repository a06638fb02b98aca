"""Pictures of the comparisons: matplotlib Figures. This file imports matplotlib, therefore others
import it only in functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import ticker
from matplotlib.figure import Figure

from ..core.drawing.palette import COLOURS

if TYPE_CHECKING:
    from .work import Comparison

MARKERS = "osD^v<>P"


def work_precision(comparison: Comparison) -> Figure:
    """Error against evaluations and against seconds, log-log. Crosses at the top are solves that
    did not finish."""
    figure = Figure(figsize=(10.5, 4.8))
    axes = figure.subplots(1, 2, sharey=True)
    solved = [row.error for row in comparison.rows if row.finished and row.error > 0]
    top = 10 * max(solved, default=1.0)
    for k, method in enumerate(dict.fromkeys(row.method for row in comparison.rows)):
        rows = [row for row in comparison.rows if row.method == method]
        color = COLOURS[k % len(COLOURS)]
        style: dict[str, Any] = {"color": color, "marker": MARKERS[k % len(MARKERS)]}
        if rows[0].implicit:
            kind = "implicit"
            style |= {"ls": "-", "ms": 6}
        else:
            kind = "explicit"
            style |= {"ls": "--", "ms": 6, "mfc": "white"}
        finished = [row for row in rows if row.finished]
        unfinished = [row for row in rows if not row.finished]
        for axis, x in zip(axes, ("work", "seconds"), strict=True):
            axis.plot(
                [getattr(r, x) for r in finished],
                [r.error for r in finished],
                label=f"{method} ({kind})",
                **style,
            )
            # At different heights, because methods that reach the same limit end at the same x.
            height = top * 1.6 ** (k % len(COLOURS))
            axis.plot(
                [getattr(r, x) for r in unfinished],
                [height] * len(unfinished),
                "x",
                color=color,
                ms=8,
                mew=2,
            )
    for axis, label in zip(
        axes, ("evaluations of f (a Jacobian counts as n)", "seconds"), strict=True
    ):
        axis.set(xscale="log", yscale="log", xlabel=label)
        low, high = axis.get_xlim()
        # Below two decades the axis needs labels between the powers of ten.
        if high < 100 * low:
            locator = ticker.LogLocator(subs=(1, 2, 5))
        else:
            locator = ticker.LogLocator(subs=(1,))
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(
            ticker.FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
        )
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.grid(alpha=0.25, which="major")
    axes[0].set_ylabel("error relative to largest value")
    if any(not row.finished for row in comparison.rows):
        axes[1].plot([], [], "x", color="0.3", ms=8, mew=2, label="did not finish")
    figure.suptitle(comparison.name)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.legend(
        *axes[1].get_legend_handles_labels(), loc="lower center", ncols=5, fontsize=9, frameon=False
    )
    return figure


def bars(labels: Sequence[str], values: Sequence[float | None], title: str, unit: str) -> Figure:
    """Horizontal bars on a logarithmic axis, one for each label. A value None is a solve that did
    not finish."""
    known = [value for value in values if value]
    low = min(known, default=1.0) / 3
    high = 3 * max(known, default=1.0)
    figure = Figure(figsize=(8.5, 0.9 + 0.36 * len(labels)))
    axis = figure.subplots()
    for k, value in enumerate(values):
        text = "did not finish"
        end = high
        text_at = low
        colour = "0.85"
        if value is not None:
            text = f"{value:.1e}"
            end = max(value, low)
            text_at = end
            colour = COLOURS[0]
        axis.barh(k, end - low, left=low, color=colour, height=0.65)
        axis.annotate(
            text, (text_at, k), (5, 0), textcoords="offset points", va="center", fontsize=8
        )
    axis.set(xscale="log", xlim=(low, 5 * high), xlabel=unit, title=title)
    axis.set_yticks(range(len(labels)), labels, fontsize=9)
    axis.invert_yaxis()
    axis.grid(alpha=0.25, axis="x")
    figure.tight_layout()
    return figure


def lines(labels: Sequence[str], series: Mapping[str, Sequence[float]], title: str) -> Figure:
    """A line for each series over the labels, for instance epochs, on a logarithmic axis. series:
    {name: values}."""
    figure = Figure(figsize=(8.5, 4.2))
    axis = figure.subplots()
    for k, (name, values) in enumerate(series.items()):
        axis.plot(
            range(len(labels)),
            values,
            label=name,
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            ms=5,
        )
    axis.set(yscale="log", title=title)
    axis.set_xticks(range(len(labels)), labels, fontsize=9)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=9, frameon=False)
    figure.tight_layout()
    return figure
