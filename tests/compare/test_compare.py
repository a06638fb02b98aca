"""Implicit against explicit: the rows, the limit on evaluations, the table and the plot."""

import csv
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from pynode.compare import compare, work
from pynode.compare.runs import deviation
from pynode.methods import registry
from pynode.problems import Problem
from tests.support.pictures import check_legends, curves, words


class Relaxation(nn.Module):
    """y1 follows the decaying y2 at a rate of 1000: mildly stiff, with smooth solutions."""

    def forward(self, t, y):
        return torch.stack((1000 * (y[1] - y[0]), -y[1]))


@pytest.fixture
def problem():
    y0 = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return Problem(
        "relaxation", Relaxation(), y0, (0.0, 2.0), 1e-6, 1e-9, stiff=True, source="test"
    )


def test_rows_tell_cost_and_accuracy(problem):
    seen = []
    result = compare(problem, ["fbdf", "rodas5p", "tsit5"], [1e-3, 1e-5], report=seen.append)
    assert list(result.rows) == seen and len(seen) == 6
    rows = {(row.method, row.rtol): row for row in result.rows}
    assert all(row.finished and row.reached == 1 for row in result.rows)
    for method in ("FBDF", "Rodas5P", "Tsit5"):
        assert rows[method, 1e-5].error < rows[method, 1e-3].error < 1e-2
    assert rows["Tsit5", 1e-5].nfe > 3 * rows["FBDF", 1e-5].nfe
    bdf, explicit = rows["FBDF", 1e-5], rows["Tsit5", 1e-5]
    assert (
        bdf.implicit and bdf.njac > 0 and bdf.nlu >= bdf.njac and bdf.work == bdf.nfe + 2 * bdf.njac
    )
    assert (
        not explicit.implicit
        and explicit.njac == explicit.nlu == 0
        and explicit.work == explicit.nfe
    )


def test_a_method_that_meets_the_limit_is_a_row(problem, tmp_path, figures):
    result = compare(problem, ["tsit5", "fbdf"], 1e-4, max_nfe=400)
    lost, done = result.rows
    assert not lost.finished and 0 <= lost.reached < 1 and "limit on evaluations" in lost.status
    assert done.finished
    text = str(result)
    assert "Not finished: the limit on evaluations" in text and "at most 400 evaluations" in text
    assert re.search(r"to [\d.]+ %$", text.splitlines()[2])
    assert max(map(len, text.splitlines())) <= 80
    assert result.plot(tmp_path / "plot.png").exists()
    work, seconds = figures[0].axes
    assert curves(work)["FBDF (implicit)"] == [(done.work, done.error)]
    assert curves(seconds)["FBDF (implicit)"] == [(done.seconds, done.error)]
    check_legends(figures[0])
    assert words(figures[0])[-2:] == ["finished", "did not finish"]
    assert work.get_xlabel().startswith("evaluations") and seconds.get_xlabel() == "time (s)"
    opened = [line for line in work.lines if line.get_mfc() == "white" and len(line.get_xydata())]
    assert [line.get_xydata()[0][0] for line in opened] == [lost.work]


def test_table_and_csv_agree(problem, tmp_path):
    result = compare(problem, ["fbdf"], [1e-4])
    with open(result.to_csv(tmp_path / "rows.csv"), newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["method"] == "FBDF" and int(row["nfe"]) == result.rows[0].nfe
    head, _, line, *_ = str(result).splitlines()
    assert head.split()[:5] == ["method", "rtol", "steps", "refused", "evals"]
    assert line.split()[0] == "FBDF" and line.split()[4] == row["nfe"]


@pytest.mark.parametrize("start", [0.0, 8.0])
def test_times_of_the_problem_are_used(problem, start):
    """How far a solve got is told by the last of the problem's own output times."""
    times = torch.tensor([0.25, 0.5, 2.0], dtype=torch.float64) + start
    problem = replace(problem, tspan=(start, start + 2.0), t_eval=times)
    (row,) = compare(problem, ["tsit5"], 1e-4, max_nfe=800).rows
    assert row.reached == 0.125


def test_deviations_are_relative_to_each_component():
    exact = torch.tensor([[0.0, 1.0], [2.0, -1000.0], [1.0, 0.0]], dtype=torch.float64)
    assert deviation(exact[:2] + torch.tensor([0.02, 1.0]), exact) == pytest.approx(0.01)
    assert deviation(exact + torch.tensor([0.0, 30.0]), exact) == pytest.approx(0.03)


def test_julia_compiles_before_it_is_timed(problem, monkeypatch):
    """One more solve of a method of Julia's; the torch engine's stands for it here."""
    spans, real = [], work.solve_problem

    def spied(problem, times, *more, **options):
        spans.append(len(times))
        return real(problem, times, *more, **options)

    monkeypatch.setattr(work, "solve_problem", spied)
    monkeypatch.setattr(work.algorithms, "get", registry.get)
    (row,) = compare(problem, ["julia:fbdf"], 1e-3).rows
    assert row.method == "julia:FBDF" and spans == [2, 101]


def test_mistakes():
    with pytest.raises(ValueError, match="unknown method"):
        compare("robertson", ["fdbf"])
    with pytest.raises(ValueError, match="no problem named"):
        compare("robertsen")
    with pytest.raises(ValueError, match="at least one method"):
        compare("robertson", [])
    with pytest.raises(ValueError, match=r"rtol must be positive, not -0\.001"):
        compare("robertson", rtols=-1e-3)
