"""Tables with more than one line of names: titles above them, units below them."""

import pandas as pd
import pytest

from pynode.data import DataError, read

BODY = [("V1", 0, 1.5, 0.1), ("V1", 10, 1.25, 0.3), ("V2", 0, 2.5, 0.2), ("V2", 10, 2.25, 0.5)]
NAMES = ["Run", "Time", "Acid", "Ester"]
UNITS = ["", "min", "mol/L", "[mM]"]


def lines(*rows, separator=",", mark="."):
    said = [
        separator.join(
            str(cell).replace(".", mark) if isinstance(cell, float) else str(cell) for cell in row
        )
        for row in rows
    ]
    return "\n".join(said) + "\n"


def is_the_table(data, units=("", "")):
    assert [run.name for run in data.trajectories] == ["V1", "V2"]
    assert [run.t.tolist() for run in data.trajectories] == [[0, 10], [0, 10]]
    assert data.trajectories[1].y.tolist() == [[2.5, 0.2], [2.25, 0.5]]
    assert data.units == units
    return True


@pytest.mark.parametrize(
    "title",
    [
        "Run 14",
        "Run 14, reactor R2, J. Meier",
        "Esterification at 60 °C;;;",
        "Operator;Meier\nTemperature;60\n\nbatch no;14",
    ],
)
@pytest.mark.parametrize(("separator", "mark"), [(",", "."), (";", ","), ("\t", ".")])
def test_titles_are_no_names(tmp_path, title, separator, mark):
    path = tmp_path / "run.csv"
    table = lines(NAMES, *BODY, separator=separator, mark=mark)
    path.write_text(f"{title}\n{table}", encoding="utf-8")
    data = read(path)
    assert is_the_table(data)
    assert any("above the names" in note for note in data.notes)


@pytest.mark.parametrize("title", ["", "Esterification\n\n"])
def test_units_below_the_names_become_a_part_of_them(tmp_path, title):
    path = tmp_path / "run.csv"
    table = lines(NAMES, UNITS, *BODY, separator=";", mark=",")
    path.write_text(title + table, encoding="utf-8")
    data = read(path)
    assert is_the_table(data, ("mol/L", "mM"))
    assert data.columns == ("Acid [mol/L]", "Ester [mM]")
    assert data.time_unit == "min"


def test_lines_of_messages_count_titles(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text(
        "Run 14\n\n" + lines(NAMES, UNITS, *BODY).replace("1.25", "x"), encoding="utf-8"
    )
    with pytest.raises(DataError, match="line 6, column 'Acid"):
        read(path)


def test_remarks_below_the_units_are_left_out(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text(lines(NAMES, UNITS, ["", "clock", "HPLC", "HPLC"], *BODY), encoding="utf-8")
    assert is_the_table(read(path), ("mol/L", "mM"))


def test_a_limit_of_detection_is_no_value(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("t,a\n0,1\n1,<0.2\n2,1\n3,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3, column 'a': '<0.2'.* a limit is no value"):
        read(path)


def test_a_sheet_of_notes_is_left_out(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Notes"], ["Please read"]):
        book.active.append(row)
    sheet = book.create_sheet("Run")
    for row in ([], [None, *NAMES], *([None, *row] for row in BODY)):
        sheet.append(row)
    path = tmp_path / "run.xlsx"
    book.save(path)
    data = read(path)
    assert is_the_table(data)
    assert any("Sheet" in note for note in data.notes)


def test_a_sheet_with_titles_and_units(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Run 14", None], [], NAMES, UNITS, *map(list, BODY)):
        book.active.append(row)
    path = tmp_path / "run.xlsx"
    book.save(path)
    assert is_the_table(read(path), ("mol/L", "mM"))
    book.active["C6"] = "x"
    book.save(path)
    with pytest.raises(DataError, match="row 6, column 'Acid"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        "t,a\n0,1\n1,2\n2,3\n3,4\n",
        "t a\n0 1,5\n1 2,5\n2 3,5\n3 4,5\n",
        "t,K,Na\n0,1,2\n1,2,2\n2,3,3\n3,4,3\n",
        "date,a\n2024-01-01,1\n2024-01-02,\n2024-01-03,2\n2024-01-04,1\n",
    ],
)
def test_plain_tables_have_neither(tmp_path, text):
    path = tmp_path / "run.csv"
    path.write_text(text, encoding="utf-8")
    data = read(path)
    assert not any("names of the columns" in note for note in data.notes)
    assert sum(len(run.t) for run in data.trajectories) == 4


def test_other_files_of_a_folder_are_left_out(tmp_path):
    for k in (1, 2):
        frame = pd.DataFrame({"t/h": [0, 1, 2, 3], "S/mM": [3.0, 2.0, 1.5, k]})
        frame.to_csv(tmp_path / f"run{k}.csv", index=False)
    (tmp_path / "notes.txt").write_text("Enzyme lot 7, see the book.\n", encoding="utf-8")
    data = read(tmp_path)
    assert [run.name for run in data.trajectories] == ["run1", "run2"]
    assert data.time_unit == "h"
    assert any("notes.txt" in note for note in data.notes)


def test_columns_that_may_be_no_states_are_named_together():
    t = [0, 1, 2, 3]
    table = {
        "t": t,
        "T [K]": [300, 310, 320, 330],
        "A": t,
        "A_sd": [1] * 4,
        "B": t,
        "B_sd": [1] * 4,
    }
    notes = " ".join(read(table, keep_constant=True).notes)
    assert "--error A_sd,B_sd" in notes
    assert '--input "T [K]"' in notes
