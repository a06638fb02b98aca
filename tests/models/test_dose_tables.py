"""Doses as pharmacometricians write them."""

import math

import pytest
import torch

from pynode.models import Doses

LINES = """ID,TIME,DV,AMT,RATE,II,ADDL,CMT,EVID
1,0,.,100,0,12,4,1,1
1,3,2.5,.,.,.,.,2,0
2,0.5,.,80,40,0,0,2,1
2,24,.,80,0,0,0,1,1
pat,1,.,50,0,8,2,gut,1
"""


def test_a_file(tmp_path):
    path = tmp_path / "doses.csv"
    path.write_text(LINES)
    doses = Doses.from_table(path, states=("gut", "blood"))
    assert doses.groups == ("1", "2", "pat")
    assert doses.times.nan_to_num(-1.0).tolist() == [[0.0, -1.0], [0.5, 24.0], [1.0, -1.0]]
    assert doses.rate.tolist() == [[0.0, 0.0], [40.0, 0.0], [0.0, 0.0]]
    start = torch.zeros(3, 2, dtype=torch.float64)
    found = doses.solve(lambda t, y: 0 * y, start, [0.0, 72.0], batched=True)
    assert torch.allclose(
        found.y[-1], torch.tensor([[500.0, 0.0], [80.0, 80.0], [150.0, 0.0]]).double()
    )
    assert [len(records) for records in found.events] == [5, 1, 3]


def test_columns_and_data_frames():
    columns = {"id": [3.0, 3.0], "Time": [0.0, 2.0], "AMT": [1.0, float("nan")]}
    assert Doses.from_table(columns).groups == ("3",)
    pandas = pytest.importorskip("pandas", reason="a DataFrame is one of pandas")
    frame = Doses.from_table(pandas.DataFrame(columns), lag=0.5)
    assert frame.times.tolist() == [[0.0]] and float(frame.lag) == 0.5


@pytest.mark.parametrize(
    "change, message",
    [
        ({"amt": None}, "no 'amt'"),
        ({"ss": [1]}, "'ss'"),
        ({"rate": [-2]}, "negative rate"),
        ({"evid": [4]}, "evid 4"),
        ({"addl": [3]}, "no interval"),
        ({"time": ["x"]}, "'x' in column 'time'"),
        ({"time": ["."]}, "no time"),
        ({"amt": ["."]}, "a row with an amount"),
        ({"rate": [1], "dur": [1]}, "leave out one"),
        ({"addl": [1.5], "ii": [12]}, "addl 1.5: it counts further doses"),
        ({"addl": [-1], "ii": [12]}, "addl -1"),
        ({"ii": [12, 12]}, "one length, and here 'id' has 1, .* 'ii' has 2"),
        ({"AMT": [2.0]}, "'amt' and 'AMT', which count as one name"),
        ({"cmt": [0]}, "cmt 0, which means the default compartment .* from 1, or its name"),
        ({"cmt": [1.5]}, "cmt 1.5: states have the numbers 1, 2"),
        ({"id": [math.nan]}, "no id"),
        ({"time": [math.inf]}, "which is no number"),
    ],
)
def test_what_is_not_supported(change, message):
    table = {"id": [1], "time": [0.0], "amt": [1.0], **change}
    table = {name: values for name, values in table.items() if values is not None}
    with pytest.raises(ValueError, match=message):
        Doses.from_table(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,time,amt\n1,0,5,7\n", "row 1 of the doses has 4 values, and the table has 3 columns"),
        ("id,time,amt\n1,0\n", "row 1 of the doses has 2 values"),
        ("id,time,amt,amt\n1,0,5,6\n", "which count as one name"),
        ("", "is empty"),
    ],
)
def test_a_file_whose_rows_do_not_fit(tmp_path, text, message):
    path = tmp_path / "doses.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Doses.from_table(path)


def test_a_missing_compartment_is_the_first_state():
    doses = Doses.from_table({"id": [1, 1], "time": [0, 1], "amt": [3, 4], "cmt": [".", 2]})
    found = doses.solve(lambda t, y: 0 * y, torch.zeros(1, 2), [0.0, 2.0], batched=True)
    assert found.y[-1].tolist() == [[3.0, 4.0]]
