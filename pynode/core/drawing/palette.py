"""Colours, lines and symbols that tell one thing from another, also without colours."""

from __future__ import annotations

from typing import Any, NamedTuple

# Colours that colour-blind people can distinguish (Okabe & Ito, Color universal design, 2008),
# without the yellow, which is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Printed in grey, the first colours are alike: lines and symbols must differ as well. There are
# five of the one and eight of the other, so that they do not repeat together with the colours.
DASHES = ("-", (0, (6, 2)), (0, (7, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "<", "X")
# Everything that is no data: limits, events, what was left out.
GREY = "0.45"
PALE = "0.92"


class Look(NamedTuple):
    """How one of several things is drawn: its colour, the dashes of its lines, the symbol of its
    points."""

    colour: str
    dashes: str | tuple[float, tuple[float, ...]]
    marker: str


def look(number: int) -> Look:
    """The look of the thing of this number."""
    return Look(
        COLOURS[number % len(COLOURS)],
        DASHES[number % len(DASHES)],
        MARKERS[number % len(MARKERS)],
    )


def failed_end(colour: str) -> dict[str, Any]:
    """How the end of a solve looks that did not reach its goal: a cross. For matplotlib's
    ``plot``."""
    return {
        "color": colour,
        "marker": "X",
        "ms": 9,
        "mec": "white",
        "mew": 0.8,
        "ls": "",
        "zorder": 5,
    }
