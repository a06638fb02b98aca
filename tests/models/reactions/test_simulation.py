"""The views of a simulation: tables, files, pictures."""

import pytest
import torch

from pynode import load
from tests.support.sbml_texts import antimony

TIMES = torch.linspace(0, 4, 41, dtype=torch.float64)
TEXT = """
model doses
  unit time_unit = 60 second
  S -> P; k*S
  S = 1; P = 0; k = 1
  dose: at (S < 0.3): S = 1
end
"""


@pytest.fixture(scope="module")
def course():
    return antimony(TEXT).simulate(TIMES, rtol=1e-9, atol=1e-12)


def test_a_simulation_says_how_it_went(course):
    assert course.names == ("S", "P") and course.time_unit == "min"
    assert course.success and course.message.endswith("with 3 events.")
    # One solve for each piece between two events.
    assert course.stats.accepted > 4 and course.stats.nfe > course.stats.accepted
    page = course._repr_html_()
    assert course.method in page and "with 3 events" in page


def test_tables_have_the_states(course):
    pytest.importorskip("pandas")
    table = course.to_pandas()
    assert list(table.columns) == ["S", "P"]
    assert table["S"].tolist() == course["S"].tolist()
    assert course.to_numpy().y.tolist() == course.y.tolist()


def test_a_saved_simulation_is_a_solution(course, tmp_path):
    again = load(course.save(tmp_path / "course.npz"))
    assert torch.equal(again.t, course.t) and torch.equal(again["P"], course.y[:, 1])
    assert again.names == course.names and again.time_unit == "min"
    assert [event.name for event in again.events] == ["dose"] * 3
    for found, event in zip(again.events, course.events, strict=True):
        assert torch.equal(found.y, event.before) and torch.equal(found.after, event.after)
        assert float(found.t) == float(event.t)


def test_a_picture_has_units_and_events(course):
    figure = pytest.importorskip("matplotlib.figure", reason="pictures need matplotlib").Figure
    axis = course.plot(ax=figure().subplots())
    assert axis.get_xlabel() == "t (min)"
    marked = [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 2]
    assert marked == [float(event.t) for event in course.events]


@pytest.mark.parametrize(
    "unit, expected",
    [
        ("unit time_unit = second", "s"),
        ("unit time_unit = 3600 second", "h"),
        ("unit time_unit = 7 second", ""),
        ("", ""),
    ],
)
def test_the_unit_of_the_time_is_the_one_of_the_file(unit, expected):
    assert antimony(f"model m; {unit}; S' = -S; S = 1; end").time_unit == expected
