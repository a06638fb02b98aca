"""Pictures of solutions, by what is drawn on their axes."""

import numpy as np
import pytest
import torch

from pynode import Event, ODEProblem, load, problems, solve
from tests.support.cases import tensor
from tests.support.pictures import check_legends, crosses, words

Figure = pytest.importorskip("matplotlib.figure").Figure


LONG = "Glucose concentration in the venous blood plasma [mmol/L]"


def axes(rows=1, columns=1):
    return Figure(layout="constrained").subplots(rows, columns, squeeze=False)


def decay(n, names=None, time_unit="", **options):
    """n components that decay, some faster than others."""
    start = torch.ones(n, dtype=torch.float64)
    rates = torch.arange(1, n + 1) / n
    problem = ODEProblem(
        lambda t, y: -rates * y, start, [0.0, 1.0], (), None, None, names, time_unit
    )
    return solve(problem, method="tsit5", **options)


def blow_up(**options):
    """y' = y^2, which is infinite at t = 1 and at t = 2."""
    times = torch.linspace(0, 3, 31)
    return solve(
        lambda t, y: y * y, tensor(1.0, 0.5), times, names=["u", "v"], throw=False, **options
    )


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


def test_units_are_on_the_axes(tmp_path):
    solution = decay(2, [LONG, "B"], "h")
    assert solution.plot("B", ax=axes()).get_xlabel() == "t (h)"
    one = solution.plot(LONG, ax=axes())
    assert one.get_ylabel().replace("\n", " ") == LONG.replace("[", "(").replace("]", ")")
    assert solution.plot("B", x=LONG, ax=axes()).get_xlabel().endswith("(mmol/L)")
    assert decay(2).plot("y[1]", ax=axes()).get_ylabel() == "y[1]"
    again = load(solution.save(tmp_path / "a.npz"))
    assert again.time_unit == "h" and again.units == {LONG: "mmol/L"}


def test_a_field_knows_its_units():
    solution = solve(problems.get("pollution"), method="qndf")
    assert solution.plot("NO2", ax=axes()).get_xlabel() == "t (min)"
    assert solution.plot("NO2", ax=axes()).get_ylabel() == "NO2 (ppm)"


def test_tables_of_xarray_have_the_units():
    pytest.importorskip("xarray")
    found = decay(2, [LONG, "B"], "h").to_xarray()
    assert found["t"].attrs["units"] == "h" and found[LONG].attrs["units"] == "mmol/L"
    assert "units" not in found["B"].attrs


def test_a_failed_solve_ends_with_a_cross():
    solution = blow_up()
    axis = solution.plot(ax=axes())
    last = float(solution.t[-1])
    assert crosses(axis) == [(last, float(solution["u"][-1])), (last, float(solution["v"][-1]))]
    assert words(axis.figure) == ["u", "v", "failed at t = 1"]
    assert not crosses(cycles().plot(ax=axes()))
    assert "failed at t = 1" in solution._repr_html_()


def test_rows_that_failed_end_with_a_cross():
    start = torch.tensor([[1.0], [0.1], [0.5]], dtype=torch.float64)
    times = torch.linspace(0, 3, 31)
    solution = solve(lambda t, y: y * y, start, times, batched=True, throw=False)
    axis = solution.plot(ax=axes())
    assert [round(t, 1) for t, _ in crosses(axis)] == [0.9, 1.9]
    assert words(axis.figure) == ["y[0]", "failed: 2 of 3 rows"]


@pytest.mark.parametrize("n", [3, 12, 20])
@pytest.mark.parametrize("panels", [False, True])
def test_legends_lie_over_no_data(n, panels):
    pytest.importorskip("matplotlib").use("Agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    names = [LONG, *(f"quantity {number}" for number in range(1, n))]
    crossing = Event(lambda t, y: y[-1] - 0.9, name="the last one is below nine tenths")
    drawn = decay(n, names, events=crossing).plot(panels=panels)
    figure = np.ravel(drawn)[0].figure
    check_legends(figure)
    assert (words(figure)[-1] == "8 more components, not drawn") == (n == 20)
    pyplot.close(figure)


def test_events_of_different_kinds_look_different():
    events = [
        Event(lambda t, y: y[0] - 1.0, name="prey = 1"),
        Event(lambda t, y: y[1] - 1.0, name="predator = 1"),
    ]
    axis = cycles(events=events).plot("predator", x="prey", ax=axes())
    assert words(axis.figure) == ["predator", "predator = 1", "prey = 1"]
    symbols = {line.get_label(): line.get_marker() for line in axis.lines}
    assert symbols["prey = 1"] != symbols["predator = 1"]


def test_the_style_of_the_caller_counts():
    axis = cycles().plot("prey", ax=axes(), c="red", linestyle=":", lw=3)
    (line,) = axis.lines
    assert (line.get_color(), line.get_linestyle(), line.get_linewidth()) == ("red", ":", 3)


def test_names_with_an_underscore_are_in_the_legend():
    axis = decay(2, ["_hidden", "x_1"]).plot(ax=axes())
    assert [text.strip() for text in words(axis.figure)] == ["_hidden", "x_1"]


@pytest.mark.parametrize("n", [2, 12])
def test_the_small_picture_has_room_for_its_legend(n, figures):
    decay(n, [LONG, *(f"quantity {number}" for number in range(1, n))])._repr_html_()
    (figure,) = figures
    check_legends(figure)
    assert (words(figure)[-1] == "6 more components, not drawn") == (n == 12)
