"""Tables as people have them: each is read as a person would read it, and the notes say so."""

import pytest

from pynode.data import DataError, read

PREY = (2.0, 2.479, 2.841, 2.997, 2.909, 2.598)
PREDATOR = (1.5, 1.439, 1.27, 1.035, 0.792, 0.599)
TIMES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)


def rows(*columns, separator=",", mark="."):
    """Lines of text from columns of numbers."""
    lines = zip(*columns, strict=True)
    made = [separator.join(str(value).replace(".", mark) for value in line) for line in lines]
    return "\n".join(made) + "\n"


BODY = rows(TIMES, PREY, PREDATOR)


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def is_prey_and_predator(data):
    (run,) = data.trajectories
    assert run.t.tolist() == list(TIMES)
    assert run.y.tolist() == [list(pair) for pair in zip(PREY, PREDATOR, strict=True)]
    assert bool(run.seen.all())
    return True


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("time;prey;predator\n" + rows(TIMES, PREY, PREDATOR, separator=";", mark=","), "comma"),
        ("time\tprey\tpredator\n" + rows(TIMES, PREY, PREDATOR, separator="\t", mark=","), "comma"),
        ("t prey predator\n  " + rows(TIMES, PREY, PREDATOR, separator="    "), None),
        ("# t prey predator\n" + rows(TIMES, PREY, PREDATOR, separator=" "), None),
        (",time,prey,predator\n" + rows(range(6), TIMES, PREY, PREDATOR), "counts the rows"),
        ('"time","prey","predator"\n' + rows(range(1, 7), TIMES, PREY, PREDATOR), "counts the row"),
        ("time,prey,predator,\n" + BODY.replace("\n", ",\n"), "neither a name nor cells"),
        ("time,prey,predator\n" + BODY.replace("\n", ",\n"), "neither a name nor cells"),
        ("time,prey,predator\r\n" + BODY.replace("\n", "\r\n") + "\r\n", None),
        ("time,prey,predator\r" + BODY.replace("\n", "\r"), None),
    ],
)
def test_every_dialect_holds_the_same_data(write, text, note):
    data = read(write(text))
    assert data.columns == ("prey", "predator")
    assert is_prey_and_predator(data)
    assert note is None or any(note in sentence for sentence in data.notes)


def test_thousands_before_a_decimal_comma(write):
    data = read(write("t;a\n0;1.234,5\n1;12,25\n2;1.000.000,0\n3;7,5\n"))
    assert data.trajectories[0].y[:, 0].tolist() == [1234.5, 12.25, 1e6, 7.5]


@pytest.mark.parametrize(
    ("encoding", "note"),
    [("latin-1", "Latin-1"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-8-sig", None)],
)
def test_encodings(write, encoding, note):
    data = read(write("time,Temperatur_°C\n" + rows(TIMES, PREY), encoding=encoding))
    assert data.columns == ("Temperatur_°C",) and data.units == ("°C",)
    assert [note in sentence for sentence in data.notes] == [True] * (note is not None)


@pytest.mark.parametrize("mark", ["--", "?", "#N/A", "", "NULL", "n/a", " NA ", "."])
def test_marks_of_missing_values(write, mark):
    data = read(write(f"time,a,b\n0,1,1\n1,{mark},2\n2,3,{mark}\n3,4,4\n"))
    assert data.trajectories[0].seen.tolist() == [[1, 1], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        ("Time [h]", "h"),
        ("hours", "h"),
        ("time (min)", "min"),
        ("t_s", "s"),
        ("Zeit / d", "d"),
        ("elapsed time", ""),
        ("Year", "years"),
    ],
)
def test_names_of_times(write, time, unit):
    data = read(write(f"{time},Glucose [mmol/L],level\n" + BODY))
    assert (data.time, data.time_unit) == (time, unit)
    assert data.units == ("mmol/L", "") and data.names == ("Glucose", "level")
    assert data.columns == ("Glucose [mmol/L]", "level")
    short = read(write(f"{time},Glucose [mmol/L],level\n" + BODY), drop=("Glucose",))
    assert short.columns == ("level",)


@pytest.mark.parametrize(
    ("cells", "times", "unit"),
    [
        (["2024-01-01T00:00:00", "2024-01-01T01:00:00", "2024-01-01T02:30:00"], [0, 1, 2.5], "h"),
        (["2024-02-28", "2024-02-29", "2024-03-02"], [0, 1, 3], "d"),
        (["31.12.2023 23:59", "01.01.2024 00:00", "01.01.2024 00:01"], [0, 1, 2], "min"),
        (["1/30/2024", "1/31/2024", "2/1/2024"], [0, 1, 2], "d"),
        (["2024-01-01 00:00:00.25Z", "2024-01-01 00:00:00.50Z", "2024-01-01 00:00:01Z"],)
        + ([0, 250, 750], "ms"),
        (["23:58", "23:59", "00:01"], [0, 1, 3], "min"),
        (["0:00:05", "0:00:06.5", "0:00:08"], [0, 1.5, 3], "s"),
    ],
)
def test_dates_and_times_of_day_become_time(write, cells, times, unit):
    (data,) = [read(write("date,a\n" + rows([*cells, *more(cells)], range(4))))]
    assert data.time_unit == unit and data.time == f"date [{unit}]"
    assert data.trajectories[0].t.tolist()[:3] == pytest.approx(times)
    assert any(f"became times in {unit}" in note for note in data.notes)


def more(cells):
    """A fourth cell after three, in their form."""
    return (
        {
            "2": ["2024-03-05T00:00:00"] if "T" in cells[0] else ["2024-03-05 00:00:00Z"],
            "3": ["01.01.2024 00:02"],
            "1": ["2/2/2024"],
            "0": ["0:00:09"],
        }[cells[0][0]]
        if cells[0] != "23:58"
        else ["00:02"]
    )


def test_a_column_of_dates_and_one_of_times_are_one_time(write):
    text = "date,time,a\n2024-01-01,23:00,1\n2024-01-02,00:00,2\n2024-01-02,01:00,3\n"
    data = read(write(text + "2024-01-02,03:00,4\n"))
    assert data.trajectories[0].t.tolist() == [0, 1, 2, 4] and data.columns == ("a",)


def test_dates_begin_with_zero_in_each_trajectory(write):
    text = "run,date,a\nx,2024-01-01,1\nx,2024-01-02,2\ny,2024-05-01,3\ny,2024-05-04,4\n"
    runs = read(write(text)).trajectories
    assert [run.t.tolist() for run in runs] == [[0, 1], [0, 3]]


def test_replicates_are_several_observations_at_one_time(write):
    data = read(write("time,y\n0,1\n0,3\n1,4\n1,\n1,8\n2,5\n2,7\n3,1\n"))
    (run,) = data.trajectories
    assert run.t.tolist() == [0, 1, 2, 3] and run.y[:, 0].tolist() == [2, 6, 6, 1]
    assert run.count[:, 0].tolist() == [2, 2, 2, 1] and data.observations == 5
    assert run.lines.row.tolist() == [0, 0, 1, 1, 1, 2, 2, 3]
    assert run.lines.y[:, 0].tolist() == [1, 3, 4, 0, 8, 5, 7, 1]
    assert run.lines.seen[:, 0].tolist() == [1, 1, 1, 0, 1, 1, 1, 1]
    assert any("replicates" in note for note in data.notes)


def test_inputs_and_errors_are_no_states(write):
    text = "time,u_flow,level,level_sd\n0,1,2.0,0\n0.5,,2.4,0.1\n1,0.2,,\n1.5,0.2,3,0.4\n"
    data = read(write(text), inputs=("u_flow",), errors=("level_sd",))
    (run,) = data.trajectories
    assert data.columns == ("level",) and data.inputs == ("u_flow",)
    assert data.errors == ("level_sd",) and data.held
    assert run.u.tolist() == [[1], [1], [0.2], [0.2]]
    assert run.sd.nan_to_num(-1)[:, 0].tolist() == [0, 0.1, -1, 0.4]
    plain = read(write(text), keep_constant=True)
    assert plain.columns == ("u_flow", "level", "level_sd")
    assert any("--error level_sd" in note for note in plain.notes)
    assert any("--input u_flow" in note for note in plain.notes)


def test_replicates_with_errors_have_a_weighted_mean(write):
    text = "t,a,s\n0,1,1\n1,2,0.5\n1,5,1\n2,1,1\n3,1.5,1\n"
    (run,) = read(write(text), errors=("a=s",)).trajectories
    assert float(run.y[1, 0]) == pytest.approx((4 * 2 + 5) / 5)
    assert float(run.sd[1, 0]) == pytest.approx(5**-0.5)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("t,a,b_sd\n0,1,1\n1,2,1\n2,3,1\n3,4,1\n", {"errors": ("b_sd",)}, "--error a=b_sd"),
        (
            "t,a,a_sd\n0,1,0\n1,2,1\n2,3,0\n3,4,1\n",
            {"errors": ("a_sd",)},
            "line 4, column 'a_sd': 0 is no standard deviation",
        ),
        (
            "t,a,a_sd\n0,1,1\n1,2,1\n2,3,\n3,4,1\n",
            {"errors": ("a_sd",)},
            "line 4, column 'a_sd': the standard deviation is missing",
        ),
        ("t,a,u\n0,1,\n1,2,\n2,3,\n3,4,\n", {"inputs": ("u",)}, "the input has no value"),
        ("t,a,u\n0,1,2\n1,2,3\n", {"inputs": ("v",)}, "no column 'v' for an input"),
        ("t,a,u\n0,1,2\n1,2,3\n", {"inputs": ("u",), "group": "u"}, "cannot be two things"),
        ("date,a\n1/2/2024,1\n2/2/2024,2\n3/2/2024,3\n", {}, "day or the month first"),
        (
            "date,a\n2024-01-01,1\nyesterday,2\n2024-01-03,3\n2024-01-04,4\n",
            {},
            "line 3, column 'date'",
        ),
        ("date,hours,time,x,days\n0,1,2,3,4\n", {}, "too few"),
        ("date,timestamp,x\n0,1,2\n", {}, "more than one column could be the time"),
    ],
)
def test_what_is_wrong_is_said(write, text, options, sentence):
    with pytest.raises(DataError) as error:
        read(write(text), **options)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("level", "held"),
    [
        ([0, 0, 0, 1, 1, 1, 0, 0], True),
        ([0, 1, 1, 1, 0, 0, 1, 1], True),
        ([300, 310, 320, 330, 330, 330, 330, 330], False),
        ([0, 1, 4, 9, 16, 25, 36, 49], False),
    ],
)
def test_inputs_on_ramps_are_not_held(level, held):
    table = {"t": list(range(8)), "a": list(range(8)), "T": level}
    assert read(table, time="t", inputs=("T",)).held is held
