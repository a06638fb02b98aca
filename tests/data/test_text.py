"""Reading a CSV file: what is understood, and the sentence for each thing that is wrong."""

import math

import pytest
import torch

from pynode.data import DataError, read
from pynode.train import Scaling

GOOD = "time,a,b\n0,1,0\n1,0.5,0.1\n2.5,0.25,\n3,0.2,0.3\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_reads_irregular_times_and_missing_values(write):
    data = read(write(GOOD))
    (run,) = data.trajectories
    assert data.columns == ("a", "b") and data.time == "time" and data.observations == 5
    assert run.t.tolist() == [0, 1, 2.5, 3] and run.t.dtype == torch.float64
    assert run.seen.tolist() == [[True, True], [True, True], [True, False], [True, True]]
    assert run.y[:, 0].tolist() == [1, 0.5, 0.25, 0.2]


@pytest.mark.parametrize("gap", ["nan", "NA", " ", "null", "-"])
def test_ways_to_write_a_missing_value(write, gap):
    assert not read(write(GOOD.replace("0.25,", f"0.25,{gap}"))).trajectories[0].seen[2, 1]


def test_groups_comments_and_semicolons(write):
    text = "# two runs\nrun;hours;a\nx;0;1\ny;5;2\nx;1;0.5\n\ny;7;1\n"
    data = read(write(text), time="hours", group="run")
    assert [run.name for run in data.trajectories] == ["x", "y"]
    assert [run.t.tolist() for run in data.trajectories] == [[0, 1], [5, 7]]
    assert data.columns == ("a",)


def test_dropped_columns_are_not_read(write):
    assert read(write("t,a,note\n0,1,x\n1,2,y\n2,3,z\n3,4,w\n"), drop=("note",)).columns == ("a",)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("", {}, "is empty"),
        ("# only a comment\n", {}, "is empty"),
        ("0,1,0\n1,2,3\n", {}, "put a header"),
        (
            "a,b\n0,1\n",
            {},
            "no column is called t or time; say which with --time COLUMN, one of: a, b",
        ),
        ("t,time,a\n0,0,1\n", {}, "more than one column could be the time"),
        (GOOD, {"time": "hour"}, "no column 'hour' for the time: its columns are time, a, b"),
        (GOOD, {"group": "run"}, "no column 'run': its columns are time, a, b"),
        (GOOD, {"drop": ("a", "b")}, "no column of states"),
        ("t,a,a\n0,1,1\n", {}, "two columns are called 'a'"),
        ("t,a,\n0,1,1\n", {}, "a column has no name"),
        ("t,a\n0,1\n1,2\n", {}, "has 2 lines of data, too few"),
        ("t,a\n0,1\n1,x2\n2,3\n3,4\n", {}, "line 3, column 'a': 'x2' is not a finite number"),
        ("t,a\n0,1\n1,inf\n2,3\n3,4\n", {}, "line 3, column 'a': 'inf' is not a finite number"),
        (
            "t,a\n0,1\n1," + "2" * 140_000 + "\n2,3\n3,4\n",
            {},
            "is not CSV (field larger than",
        ),
        ("t,a\n0,1\n1,2,9\n2,3\n3,4\n", {}, "line 3: 3 cells, but the header names 2 columns"),
        ("t,a\n0,1\n,2\n2,3\n3,4\n", {}, "line 3, column 't': no time"),
        (
            "t,a\n0,1\n2,2\n1,3\n3,4\n",
            {},
            "line 4, column 't': time 1 comes after 2; sort the lines by time",
        ),
        (
            "t,a,b\n0,1,\n1,2,1\n2,3,2\n3,4,3\n",
            {},
            "line 2, column 'b': the first line is the initial state, with",
        ),
        ("t,a,b\n0,1,5\n1,2,5\n2,3,5\n3,4,5\n", {}, "column 'b': the value is 5 throughout"),
        ("t,a,b\n0,1,5\n1,2,\n2,3,\n3,4,\n", {}, "column 'b': no value after the start"),
        (
            "r,t,a\nx,0,1\nx,1,2\ny,0,3\nx,2,4\n",
            {"group": "r"},
            "line 4: the only line of trajectory 'y'",
        ),
        (
            "r,t,a\nx,0,1\n,1,2\nx,2,3\nx,3,4\n",
            {"group": "r"},
            "line 3, column 'r': the trajectory has no name",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write, text, options, sentence):
    path = write(text)
    with pytest.raises(DataError) as error:
        read(path, **options)
    assert sentence in str(error.value) and str(path) in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x81\x07\x08")
    with pytest.raises(DataError, match="cannot be read as text"):
        read(tmp_path / "binary.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is a folder without tables"):
        read(tmp_path / "empty")


def test_constant_column_may_be_kept(write):
    data = read(write("t,a,b\n0,1,5\n1,2,5\n2,3,5\n3,5,5\n"), keep_constant=True)
    scaling = Scaling.of(data)
    assert scaling.y_scale == (4.0, 5.0)
    assert scaling.t_scale == (2.0, 3.0)


def test_scaling_of_the_paper_and_of_decades(write):
    """Range of each state; one time scale, the span, or one a state: its range at the fastest rate
    observed."""
    data = read(write("t,a,b\n0,0,1\n1,2,1.5\n11,4,\n101,0,3\n"))
    paper, own = Scaling.of(data, "kim"), Scaling.of(data)
    assert paper.y_min == own.y_min == (0.0, 1.0) and paper.y_scale == own.y_scale == (4.0, 2.0)
    assert paper.t_scale == (101.0, 101.0)
    assert own.t_scale == pytest.approx((2.0, 4.0))
    assert Scaling.of(read(write(GOOD, "falls.csv"))).t_scale == pytest.approx(
        (0.8 / 0.5, 0.3 / 0.1)
    )
    y = data.trajectories[0].y
    assert torch.allclose(own.physical(own.scaled(y)), y)
    assert Scaling.from_dict(own.as_dict()) == own
    with pytest.raises(ValueError, match="unknown scaling 'log'"):
        Scaling.of(data, "log")


def test_fingerprint_sees_a_changed_number(write):
    first, second = (
        read(write(GOOD)),
        read(write(GOOD.replace("0.25", "0.26"), "other.csv")),
    )
    assert first.fingerprint == read(write(GOOD, "copy.csv")).fingerprint != second.fingerprint
    assert not math.isnan(float(first.trajectories[0].y.sum()))
