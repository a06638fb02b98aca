"""The style of pictures: colours that colour-blind people tell apart, units on axes, legends beside
the data."""

from itertools import combinations

import numpy as np
import pytest

from pynode.core.drawing.palette import COLOURS, look
from pynode.core.unit_names import unit_of, with_unit
from tests.support.pictures import check_legends, words

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from pynode.core.drawing.figures import (
    entry,
    figure_with_panels,
    finish,
    headline,
    left_out,
    legend_below,
    legend_beside,
)

# Linear RGB as people without one kind of cones see it. Machado, Oliveira & Fernandes, IEEE Trans.
# Vis. Comput. Graph. 15 (2009) 1291, table 1, severity 1.
SEEN_BY = {
    "all cones": np.eye(3),
    "no M cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no L cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = TO_XYZ.sum(1)
# Of CIELAB. A difference of 2.3 is just noticeable.
LEAST_DIFFERENCE = 15.0


def lab(colour, seen):
    """A colour '#RRGGBB' in CIELAB, as someone sees it."""
    codes = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(seen @ linear, 0, 1) / WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_colours_differ_for_everybody(eyes):
    seen = np.array(SEEN_BY[eyes])
    for one, other in combinations(COLOURS, 2):
        assert np.linalg.norm(lab(one, seen) - lab(other, seen)) > LEAST_DIFFERENCE
    # On white paper.
    assert all(lab(colour, seen)[0] < 80 for colour in COLOURS)


def test_lines_and_symbols_differ_without_colours():
    looks = [look(number) for number in range(35)]
    assert len(set(looks)) == 35
    assert len({one.dashes for one in looks[:5]}) == 5
    assert len({one.marker for one in looks[:8]}) == 8


@pytest.mark.parametrize(
    "name, unit, expected",
    [
        ("A", "", "A"),
        ("A", "mM", "A (mM)"),
        ("A [mM]", "", "A (mM)"),
        ("A (mM)", "", "A (mM)"),
        ("Rate in mol/s", "", "Rate (mol/s)"),
        ("A [mM]", "uM", "A (uM)"),
        ("y[2]", "", "y[2]"),
        ("y[1, 2]", "", "y[1, 2]"),
        ("y(1)", "", "y(1)"),
    ],
)
def test_labels_have_the_unit_that_is_known(name, unit, expected):
    assert with_unit(name, unit) == expected


def test_an_index_is_no_unit():
    assert unit_of("y[2]") == "" and unit_of("A [mM]") == "mM"


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("entries", [1, 9])
def test_a_legend_below_lies_over_no_panel(count, entries):
    figure, axes = figure_with_panels(count)
    for axis in axes:
        axis.plot([0, 1], [0, 1e6])
        finish(axis, "time (h)", "a long name of a quantity in many words (mmol/L)")
    headline(figure, "a sentence that goes on and on " * 5)
    handles = [entry(f"trajectory {number} of the patients", lw=1) for number in range(entries)]
    legend_below(figure, [*handles, *left_out(20, entries, "trajectories")])
    check_legends(figure)
    assert words(figure)[-1] == f"{20 - entries} more trajectories, not drawn"


@pytest.mark.parametrize("entries", [2, 40])
def test_a_legend_beside_lies_within_the_picture(entries):
    figure, (axis,) = figure_with_panels(1)
    axis.plot([0, 1], [0, 1])
    legend_beside(axis, [entry(f"quantity {number}", lw=1) for number in range(entries)])
    check_legends(figure)
    assert len(words(figure)) == entries


def test_nothing_is_said_where_all_is_drawn():
    assert left_out(3, 3, "states") == []


def test_a_long_label_is_folded():
    _, (axis, _) = figure_with_panels(2)
    finish(axis, "time", "the concentration of glucose in the blood plasma (mmol/L)")
    lines = axis.get_ylabel().splitlines()
    assert len(lines) > 1 and max(map(len, lines)) < 40
