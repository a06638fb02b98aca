"""Figures with panels, axes with labels, and legends that lie over no data. matplotlib is imported
inside the functions, because pynode works without it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sizes of letters in points.
LABEL = 10
TICK = 8.5
LEGEND = 9
TITLE = 11
# Inches. One panel alone is larger than one of many.
ALONE = (6.4, 4.2)
PANEL = (3.9, 2.9)
MOST_COLUMNS = 3
# A letter of LABEL points is about so many inches wide.
LETTER = 0.074
# The same in a legend, and its symbol before the text.
LEGEND_LETTER = 0.066
SYMBOL = 0.56
# The height of a line in a legend, in inches.
LEGEND_LINE = 0.2
LEAST_SYMBOL = 4.5
# Letters of a line in a legend.
LEGEND_WIDTH = 30
# A legend beside an axis has at most so many lines in a column.
LEGEND_LINES = 14


def figure_with_panels(
    count: int, columns: int = MOST_COLUMNS, size: tuple[float, float] = PANEL
) -> tuple[Figure, list[Axes]]:
    """A figure with this number of axes, at most ``columns`` beside each other. size: of one of
    several panels, in inches."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    if count == 1:
        figure = Figure(figsize=ALONE, layout="constrained")
    else:
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def finish(axis: Axes, x: str, y: str) -> None:
    """Labels, ticks and a grid. x, y: what the axes show, with units. Large and small numbers of a
    linear axis have a common power of ten."""
    from matplotlib.ticker import ScalarFormatter

    axis.set_xlabel(_folded(axis, x, 0), fontsize=LABEL)
    axis.set_ylabel(_folded(axis, y, 1), fontsize=LABEL)
    axis.tick_params(labelsize=TICK)
    axis.grid(alpha=0.25)
    axis.yaxis.get_offset_text().set_fontsize(TICK)
    if isinstance(axis.yaxis.get_major_formatter(), ScalarFormatter):
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)


def whole_numbers(axis: Axes) -> None:
    """Ticks of the axis of x at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def headline(figure: Figure, text: str) -> None:
    """A sentence above everything, in lines that are no longer than the figure is wide."""
    letters = int(figure.get_figwidth() / LETTER)
    figure.suptitle(textwrap.fill(text, letters), fontsize=TITLE - 1)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend below all panels, as wide as the figure. handles: artists with labels. The figure
    needs a constrained layout. Without handles there is no legend."""
    if not handles:
        return
    texts = [_in_lines(handle.get_label(), 2 * LEGEND_WIDTH) for handle in handles]
    longest = max(len(line) for text in texts for line in text.splitlines())
    columns = int(figure.get_figwidth() / (LEGEND_LETTER * longest + SYMBOL))
    columns = max(1, min(columns, len(handles)))
    lines = math.ceil(sum(text.count("\n") + 1 for text in texts) / columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * lines)
    figure.legend(
        handles,
        texts,
        loc="outside lower center",
        ncols=columns,
        fontsize=LEGEND,
        frameon=False,
        handlelength=2.6,
    )


def legend_beside(
    axis: Axes, handles: Sequence[Any], fontsize: float = LEGEND, width: int = LEGEND_WIDTH
) -> None:
    """A legend at the right of the axes. handles: artists with labels; without them there is no
    legend. width: letters of a line."""
    if not handles:
        return
    texts = [_in_lines(handle.get_label(), width) for handle in handles]
    legend = axis.legend(
        handles,
        texts,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=fontsize,
        handlelength=2.6,
        ncols=math.ceil(sum(text.count("\n") + 1 for text in texts) / LEGEND_LINES),
    )
    # Many lines of one kind are pale, and many points small; those in the legend are not.
    for line in legend.get_lines():
        line.set_alpha(None)
        line.set_markersize(max(line.get_markersize(), LEAST_SYMBOL))


def visible(label: str) -> str:
    """A label that matplotlib shows in legends. It leaves out those that begin with an underscore,
    as the name of a state can."""
    if label.startswith("_"):
        return f" {label}"
    return label


def entry(label: str, **style: Any) -> Any:
    """A line of a legend that stands for several things on the axes. style: as for matplotlib's
    Line2D."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=visible(label), **style)


def note(label: str) -> Any:
    """A line of a legend without a symbol."""
    return entry(label, ls="")


def left_out(count: int, drawn: int, what: str) -> list[Any]:
    """The lines of a legend that say how many of ``count`` things are not drawn: one or none."""
    if count <= drawn:
        return []
    return [note(f"{count - drawn} more {what}, not drawn")]


def _in_lines(label, width):
    """The text of a legend, in lines of so many letters."""
    return visible(textwrap.fill(label, width))


def _folded(axis, text, side):
    """A label in lines that are no longer than the side of the axes, 0 for the width."""
    box = axis.get_window_extent()
    inches = (box.width, box.height)[side] / axis.figure.dpi
    return textwrap.fill(text, max(12, int(inches / LETTER)))
