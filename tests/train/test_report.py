"""Pictures of training runs."""

import pytest
import torch

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from pynode.data import read
from pynode.train import plot_fit, plot_loss
from tests.support.pictures import check_legends, crosses, curves, words

TIMES = [0.1 * k for k in range(21)]


class Growth(torch.nn.Module):
    """dy/dt = y^power."""

    def __init__(self, power, factor=1.0):
        super().__init__()
        self.power = power
        self.factor = factor

    def atol(self, rtol):
        return 1e-3 * rtol * torch.ones(2, dtype=torch.float64)

    def forward(self, t, y):
        return self.factor * y**self.power


def runs(count):
    made = {}
    for k in range(count):
        y = [(1 + 0.1 * k) * (1 + t) for t in TIMES]
        made[f"run {k}"] = {"Time [h]": TIMES, "A [mM]": y, "B": [0.5 * x for x in y]}
    return read(made)


def test_axes_have_names_and_units_and_the_legend_lies_below(tmp_path, figures):
    held = (False, False, True, False, False, False)
    members = [Growth(1, 0.9), Growth(1, 1.1)]
    sentence = "Partly learned: " + "A misses its peaks. " * 8
    plot_fit(
        tmp_path / "fit.png",
        Growth(1),
        runs(8),
        "tsit5",
        title=sentence,
        members=members,
        held_out=held,
    )
    (figure,) = figures
    check_legends(figure)
    assert [axis.get_ylabel() for axis in figure.axes] == ["A (mM)", "B"]
    assert {axis.get_xlabel() for axis in figure.axes} == {"Time (h)"}
    told = words(figure)
    assert told[1:3] == ["run 1", "run 2, held out"]
    assert told[-2:] == ["range of 2 models", "2 more trajectories, not drawn"]
    assert figure.get_suptitle().replace("\n", " ") == sentence.strip()


def test_a_field_that_cannot_be_solved_is_drawn_up_to_a_cross(tmp_path, figures):
    """y' = y^2 is infinite before the last observation, also in the state that starts at 1/2."""
    plot_fit(tmp_path / "fit.png", Growth(2), runs(1), "tsit5")
    (figure,) = figures
    check_legends(figure)
    assert words(figure) == ["model", "data", "not solved beyond here"]
    for axis in figure.axes:
        ((t, y),) = crosses(axis)
        low, high = axis.get_ylim()
        # The axis shows the data: from 1 to 3, and half of that.
        assert 0.9 < t < 1.1 and low <= y <= high < 10
    solvable = plot_fit(tmp_path / "fit.png", Growth(1), runs(1), "tsit5")
    assert solvable.exists() and not crosses(figures[1].axes[0])
    assert words(figures[1]) == ["model", "data"]


def test_the_legend_of_the_loss_lies_below(tmp_path, figures):
    history = [{"epoch": k, "loss": 1.0 / (1 + k)} for k in range(40)]
    plot_loss(tmp_path / "loss.png", history, 0.01)
    (figure,) = figures
    check_legends(figure)
    assert list(curves(figure.axes[0])) == words(figure)
