"""Pictures of data sets: names and units on the axes, symbols and what they mean beside them."""

import math

import pytest
import torch

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from pynode.data import read
from pynode.data.names import time_label
from pynode.data.picture import plot_data
from tests.support.pictures import check_legends, words

LONG = "concentration of glucose in the venous blood plasma [mmol/L]"


def table(shift=0.0, gaps=False, **columns):
    t = [0.5 * k for k in range(20)]
    y = [math.sin(x + shift) for x in t]
    if gaps:
        y[3] = math.nan
    return {"time_h": t, LONG: y, "B": [math.cos(x + shift) for x in t], **columns}


@pytest.mark.parametrize(
    "name, unit, expected",
    [
        ("t", "", "t"),
        ("Time [h]", "h", "Time (h)"),
        ("time_h", "h", "time (h)"),
        ("hours", "h", "time (h)"),
        ("t", "s", "t (s)"),
        ("elapsed time (min)", "min", "elapsed time (min)"),
        ("date [d]", "d", "date (d)"),
    ],
)
def test_the_axis_of_the_time_has_its_unit(name, unit, expected):
    assert time_label(name, unit) == expected


def test_axes_have_names_and_units(tmp_path, figures):
    data = read(table())
    assert data.time_label == "time (h)" and data.labels[1] == "B"
    plot_data(tmp_path / "a.png", data)
    (figure,) = figures
    labels = [axis.get_ylabel().replace("\n", " ") for axis in figure.axes]
    assert labels == [LONG.replace("[", "(").replace("]", ")"), "B"]
    assert {axis.get_xlabel() for axis in figure.axes} == {"time (h)"}


def test_trajectories_have_symbols_and_a_legend_below(tmp_path, figures):
    runs = {f"patient {k}": table(0.1 * k, gaps=k == 0) for k in range(20)}
    plot_data(tmp_path / "a.png", read(runs))
    (figure,) = figures
    check_legends(figure)
    assert words(figure)[0] == "patient 0"
    assert words(figure)[-2:] == ["missing", "14 more trajectories, not drawn"]
    symbols = [
        line.get_marker() for line in figure.axes[0].lines if line.get_marker() not in ("None", "x")
    ]
    assert len(set(symbols)) == len(symbols) == 6


def test_bars_are_standard_deviations(tmp_path, figures):
    error = [0.1 + 0.01 * k for k in range(20)]
    plot_data(tmp_path / "a.png", read(table(B_sd=error), errors=["B_sd"]))
    (figure,) = figures
    check_legends(figure)
    assert words(figure) == ["standard deviation"]
    (bars,) = figure.axes[1].collections
    lengths = [float(part[1, 1] - part[0, 1]) for part in bars.get_segments()]
    assert lengths == pytest.approx([2 * one for one in error])


def test_times_at_zero_are_left_out_of_a_logarithmic_axis(tmp_path, figures):
    times = [0.0, *(10.0**k for k in range(-2, 4))]
    plot_data(tmp_path / "a.png", read({"t": times, "y": [float(k) for k in range(7)]}))
    (axis,) = figures[0].axes
    assert axis.get_xscale() == "log"
    points = next(line for line in axis.lines if line.get_marker() == "o")
    assert torch.as_tensor(points.get_xdata()).min() > 0
