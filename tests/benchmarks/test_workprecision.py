"""The work-precision table: what it holds, and that slow contestants are stopped and told."""

import csv

import pytest

from benchmarks import workprecision

ALL = {"SciPy LSODA", "SciPy BDF", "SciPy Radau", "Tsit5", "QNDF"}


def run(folder, *options):
    """Rows of the points table of a small run with SciPy as the only peer."""
    workprecision.main(
        [
            "--quick",
            "--problems",
            "lotka_volterra",
            "--peers",
            "--methods",
            "tsit5",
            "qndf",
            "--seconds",
            "0.05",
            "--out",
            str(folder),
            *options,
        ]
    )
    with open(folder / "workprecision.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["table"] == "points"]


def test_table_and_plot(tmp_path, capsys, figures):
    rows = run(tmp_path)
    text = capsys.readouterr().out
    assert (
        "points: lotka_volterra" in text
        and "at error: lotka_volterra" in text
        and "stopped" not in text
    )
    assert (tmp_path / "workprecision.png").exists()
    lines = [line.get_xydata() for line in figures[0].axes[0].lines]
    drawn = sorted(float(error) for line in lines for error, _ in line)
    assert drawn == pytest.approx(sorted(float(row["error"]) for row in rows), rel=1e-3)
    found = {(row["contestant"], float(row["rtol"])): row for row in rows}
    assert set(found) == {(name, rtol) for name in ALL for rtol in (1e-3, 1e-5)}
    for row in rows:
        assert (
            float(row["ms"]) > 0
            and int(row["nfe"]) > 50
            and int(row["rounds"]) >= 1
            and float(row["ratio"]) > 0
        )
    for name in ALL:
        loose, tight = (float(found[name, rtol]["error"]) for rtol in (1e-3, 1e-5))
        assert 0 < tight < 0.3 * loose and loose < 0.3
        assert int(found[name, 1e-5]["nfe"]) > int(found[name, 1e-3]["nfe"])
    base = [row for row in rows if row["contestant"] == "SciPy LSODA"]
    assert [float(row["ratio"]) for row in base] == [1.0, 1.0]


def test_who_takes_too_long_is_stopped(tmp_path, capsys):
    """At the loosest tolerance, and left out at the tighter ones."""
    rows = run(tmp_path, "--limit", "0.0005")
    assert {row["contestant"] for row in rows} == ALL and len(rows) == len(ALL)
    assert {row["note"] for row in rows} == {"longer than 0.0005 s"}
    assert "stopped" in capsys.readouterr().out


def test_least_time_at_an_error():
    rows = [
        {"problem": "p", "contestant": "m", "rtol": rtol, "error": error, "ms": ms}
        for rtol, error, ms in ((1e-3, 5e-3, 1.0), (1e-5, 5e-5, 3.0), (1e-7, 5e-5, 2.0))
    ]
    rows.append({"problem": "p", "contestant": "m", "rtol": 1e-9, "note": "longer than 1 s"})
    (line,) = workprecision.at_error(rows)
    assert [line[f"ms {target:.0e}"] for target in (1e-2, 1e-4, 1e-6)] == [1.0, 2.0, None]


def test_an_unknown_problem_is_refused(capsys):
    with pytest.raises(SystemExit):
        workprecision.main(["--problems", "heat"])
    assert "invalid choice" in capsys.readouterr().err
