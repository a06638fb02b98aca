"""Pictures of solutions, by what is drawn on their axes."""

import numpy as np
import pytest
import torch

from pynode import Event, problems, solve

Figure = pytest.importorskip("matplotlib.figure").Figure


def axes(rows=1, columns=1):
    return Figure().subplots(rows, columns, squeeze=False)


def cycles(**options):
    return solve(problems.get("lotka_volterra"), method="tsit5", **options)


def drawn(axis):
    return {line.get_label(): line for line in axis.lines}


def test_lines_have_the_names_of_the_states():
    axis = cycles().plot(ax=axes())
    assert list(drawn(axis)) == ["prey", "predator"]
    assert axis.get_xlabel() == "t"


def test_dense_output_is_drawn_smoothly():
    few = solve(problems.get("lotka_volterra"), t=[0.0, 5.0, 10.0], dense=True, method="tsit5")
    axis = few.plot("prey", ax=axes())
    assert len(drawn(axis)["prey"].get_xdata()) > 100
    assert axis.get_ylabel() == "prey"


def test_a_phase_plane_has_states_on_both_axes():
    solution = cycles()
    axis = solution.plot("predator", x="prey", ax=axes())
    line = drawn(axis)["predator"]
    assert np.array_equal(line.get_xdata(), solution["prey"].detach())
    assert np.array_equal(line.get_ydata(), solution["predator"].detach())
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("prey", "predator")


def test_events_are_marked_once_in_the_legend():
    crossing = Event(lambda t, y: y[0] - 1.0, name="prey = 1")
    solution = cycles(events=crossing)
    axis = solution.plot(ax=axes())
    assert len(axis.lines) == 2 + len(solution.events)
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["prey", "predator", "prey = 1"]
    assert len(solution.plot(events=False, ax=axes()).lines) == 2


def test_events_are_points_of_a_phase_plane():
    solution = cycles(events=Event(lambda t, y: y[0] - 1.0, name="prey = 1"))
    axis = solution.plot("predator", x="prey", ax=axes())
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert len(points) == len(solution.events)
    assert all(abs(line.get_xdata()[0] - 1.0) < 1e-6 for line in points)


def test_times_over_decades_have_a_logarithmic_axis():
    axis = solve(problems.get("robertson"), method="rodas5p").plot(ax=axes())
    assert axis.get_xscale() == "log"
    assert cycles().plot(ax=axes()).get_xscale() == "linear"


def test_the_axis_of_a_panel_names_its_component():
    drawn_on = cycles().plot(panels=True, ax=axes(1, 2))
    assert [axis.get_ylabel() for axis in drawn_on] == ["prey", "predator"]


def test_rows_have_a_line_each():
    start = torch.ones(4, 2, dtype=torch.float64)
    solution = solve(lambda t, y: -y, start, [0.0, 1.0], batched=True)
    assert len(solution.plot(ax=axes()).lines) == 8


def test_unknown_components_get_a_suggestion():
    with pytest.raises(KeyError, match="did you mean 'prey'"):
        cycles().plot("pray", ax=axes())
    with pytest.raises(KeyError, match="did you mean 'prey'"):
        cycles().plot("prey", x="pray", ax=axes())


def test_a_notebook_shows_how_the_solve_ended_and_a_picture():
    page = cycles()._repr_html_()
    assert "reached the end" in page
    assert "<svg" in page
    assert "prey, predator" in page
