"""Dependence on the solver, gradients by adjoint, stiffness from field to field, and the page that
holds all of it."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from torch import nn

from pynode import problems, solve
from pynode.cli import main
from pynode.compare import (
    compare,
    compare_gradients,
    crosscheck,
    runs,
    solver_dependence,
    stiffness_over,
)
from pynode.compare.page import Section, write_page
from pynode.compare.pictures import deviations
from pynode.compare.report_page import report
from pynode.problems import Problem
from tests.support.pictures import curves

PARTS = ("diagnosis", "accuracy against work", "dependence on the solver", "gradients by adjoint")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Relaxation(nn.Module):
    """y1 follows the decaying y2 at a given rate."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, t, y):
        return torch.stack((self.rate * (y[..., 1] - y[..., 0]), -y[..., 1]), -1)


def problem(rate=1000.0):
    y0 = torch.tensor([0.0, 1.0], dtype=torch.float64)
    times = torch.linspace(0, 2, 4, dtype=torch.float64)
    return Problem(
        f"relaxation{rate:g}",
        Relaxation(rate),
        y0,
        (0.0, 2.0),
        1e-6,
        1e-9,
        stiff=True,
        source="test",
        t_eval=times,
    )


NEAR = (1e-8,)  # a reference that is good enough here, and quickly made


def test_dependence_on_the_solver():
    """Euler's method leaves all bounds with steps beyond its stability, and comes to the same
    solution with short ones."""
    found = solver_dependence(
        problem(),
        fixed=("euler", "rk4"),
        steps=(100, 4000),
        adaptive=("fbdf",),
        rtols=(1e-3, 1e-6),
        reference_rtols=NEAR,
    )
    rows = {(row.method, row.setting): row for row in found.rows}
    assert (
        rows["Euler", "100 steps"].deviation is None
        and rows["Euler", "100 steps"].status == "left all bounds"
    )
    assert (
        rows["RK4", "4,000 steps"].deviation < 1e-6 < rows["Euler", "4,000 steps"].deviation < 1e-2
    )
    assert (
        rows["RK4", "4,000 steps"].nfe // 4 == 4000
        and rows["Euler", "4,000 steps"].nfe // 10 == 400
    )
    assert rows["FBDF", "rtol 1e-06"].deviation < rows["FBDF", "rtol 0.001"].deviation
    assert "left all bounds" in str(found) and "deviation from Rodas5P" in str(found)


def test_gradients_by_adjoint():
    """Those that are right agree; the one that is refused is a row with the reason."""
    found = compare_gradients(problem(), ("discrete", "forward", "gauss", "backsolve"), rtol=1e-6)
    rows = {row.adjoint: row for row in found.rows}
    for name in ("discrete", "forward", "gauss"):
        assert rows[name].deviation < 1e-4 and rows[name].work > 0, name
        assert rows[name].deviation > 0, name  # from those of another method, and tighter
    given, start = problem(), problem().y0.requires_grad_()
    solution = runs.solve_problem(
        given, runs.output_times(given), "fbdf", 1e-6, start=start, adjoint="discrete"
    )
    runs.weighted_gradients(solution.y, [start])
    s = solution.stats
    # A Jacobian of two states counts as two evaluations.
    assert (
        s.backward_njac > 0
        and rows["discrete"].work == s.backward_nfe + s.backward_nvjp + 2 * s.backward_njac
    )
    assert rows["discrete"].deviation == pytest.approx(rows["forward"].deviation, rel=1e-3)
    assert rows["backsolve"].deviation is None and "refused" in rows["backsolve"].status
    assert "deviation from the discrete adjoint of rodas5p" in " ".join(str(found).split())


class Kinked(Relaxation):
    """The same values, without a derivative in the rate."""

    def forward(self, t, y):
        return super().forward(t, y) + 0.0 * (0.0 * self.rate).sqrt()


def test_a_gradient_that_is_not_a_number_is_told():
    """Also where that of the start is right."""
    field = Kinked(10.0)
    (row,) = compare_gradients(replace(problem(), field=field), ("discrete",)).rows
    assert row.deviation is None and row.status == "the gradient is not finite"
    start = problem().y0.requires_grad_()
    solution = solve(field, start, (0.0, 2.0))
    at_start, rate = torch.autograd.grad(solution.y[-1].sum(), (start, field.rate))
    assert torch.isfinite(at_start).all() and torch.isnan(rate)


def test_weighted_gradients_see_every_component_alike():
    """Of any size, one that is zero throughout included; zero for what plays no part."""
    a, unused = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    found, none = runs.weighted_gradients(
        torch.stack([a * torch.tensor([1e-20, 1e5, 0.0])] * 4), [a, unused]
    )
    assert none.tolist() == [0, 0] and found[2] == 0
    assert all(0.1 < abs(x) < 10 for x in found[:2].tolist())


def test_both_engines():
    """Start, times and tolerances are those of the problem. The torch engine serves for Julia's
    here, at its tolerance and at a looser one."""
    calls, looser = [], []

    def served(asked, *, backend, adjoint, rtol, atol, **options):
        calls.append((backend, adjoint, rtol, atol, list(asked.tspan)))
        rtol = rtol if backend == "torch" or not looser else 1e3 * rtol
        return solve(asked, rtol=rtol, atol=atol, adjoint="discrete", **options)

    found = crosscheck("robertson", method="rodas5p", rtol=1e-5, solver=served)
    own = problems.get("robertson")
    assert found.ok and "agree" in str(found) and found.bound == pytest.approx(1e-2)
    assert [(row.quantity, row.difference) for row in found.rows] == [
        ("y", 0),
        ("gradient in y0", 0),
        ("gradient in k", 0),
    ]
    assert [call[:3] for call in calls] == [("torch", "discrete", 1e-5), ("julia", "gauss", 1e-5)]
    for *_, atol, times in calls:
        assert times == [0.0, *own.t_eval.tolist()]  # not from the first output on
        assert torch.allclose(
            atol, torch.as_tensor(own.atol, dtype=torch.float64) * (1e-5 / own.rtol), rtol=1e-12
        )
    looser.append(True)
    options = {"method": "rodas5p", "rtol": 1e-6, "atol": 1e-8, "bound": 1e-9}
    apart = crosscheck("robertson", t=[0.0, 1.0], solver=served, **options)
    assert not apart.ok and "DIFFER" in str(apart) and calls[-1][3:] == (1e-8, [0.0, 1.0])


def test_dots_are_at_their_values():
    """At the left end for zero; a cross there where a solve did not finish."""
    figure = deviations(["a", "b", "c", "d"], [1e-3, 0.0, None, 1e-2], "title", "unit")
    (axis,) = figure.axes
    ends = [(line.get_marker(), line.get_xdata()[-1]) for line in axis.lines]
    low = 1e-3 / 3
    assert ends == [("o", 1e-3), ("o", low), ("X", low), ("o", 1e-2)]
    assert axis.get_xlabel() == "unit"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["finished", "did not finish"]


def test_stiffness_from_field_to_field(tmp_path, figures):
    found = stiffness_over({"before": problem(1.5), "after": problem(1e4)})
    before, after = found.diagnoses.values()
    assert "stiff" in after.labels and "stiff" not in before.labels
    assert after.costs.stability > 100 * before.costs.stability
    assert str(found).splitlines()[2].split()[0] == "before"
    assert found.plot(tmp_path / "course.png").exists()
    for name, key in (
        ("steps for stability (explicit)", "steps_for_stability"),
        ("steps for accuracy", "steps_for_accuracy"),
    ):
        drawn = curves(figures[0].axes[0])[name]
        assert drawn == [(k, max(row[key], 1.0)) for k, row in enumerate(found.rows)]


def test_the_command(tmp_path, capsys):
    """One problem and its page; the rows as JSON."""
    options = [
        "--methods",
        "fbdf,tsit5",
        "--rtol",
        "1e-3",
        "--max-nfe",
        "2000",
        "--out",
        str(tmp_path),
    ]
    assert main(["compare", "spiral", "spiral", *options]) == 0
    assert {path.name for path in tmp_path.glob("*.csv")} == {
        "compare-spiral.csv",
        "compare-spiral-2.csv",
    }
    capsys.readouterr()
    assert main(["compare", "spiral", "--json", *options, "--max-nfe", "30"]) == 0
    rows = json.loads(capsys.readouterr().out)["spiral"]
    assert [row["method"] for row in rows] == ["FBDF", "Tsit5"] and not any(
        row["finished"] for row in rows
    )


def test_stiffness_by_the_command(tmp_path, capsys):
    assert main(["compare", "spiral", "oregonator", "--stiffness", "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "oregonator" in table and table.splitlines()[3].endswith("stiff")
    assert [path.name for path in tmp_path.iterdir()] == ["stiffness.png"]


@pytest.fixture(scope="module")
def said():
    """What the report says while it is made."""
    return []


@pytest.fixture(scope="module")
def page(tmp_path_factory, said):
    """Four problems; of the last one a comparison exists already."""
    path = tmp_path_factory.mktemp("page") / "compare.html"
    rates = {"slow": 1.5, "second": 2.0, "third": 3.0, "<fast>": 100.0}
    given = {label: problem(rate) for label, rate in rates.items()}
    made = {"<fast>": compare(given["<fast>"], ["bs3"], 1e-2, reference_rtols=NEAR)}
    return report(
        path, given, ("fbdf",), (1e-3,), None, said.append, made=made, reference_rtols=NEAR
    )


def test_the_page_holds_everything(page):
    text = page.read_text(encoding="utf-8")
    # 4 for each, and the way from one to the other.
    assert text.count('src="data:image/png;base64,') == 9
    assert "&lt;fast&gt;: gradients by adjoint" in text and "<fast>" not in text
    for part in PARTS:
        assert f"slow: {part}" in text
    assert all(
        address.startswith(("data:", "#"))
        for address in re.findall(r'(?:src|href)="([^"]*)"', text)
    )
    assert "default-src 'none'" in text  # and what is not there cannot be asked for


def test_a_report_makes_nothing_twice(page, said):
    """Comparisons that are there are taken; of more than three problems the first and the last have
    parts of their own."""
    text = page.read_text(encoding="utf-8")
    first, last = (
        text.split(f">{label}: accuracy against work</h2>")[1].split("<h2")[0]
        for label in ("slow", "&lt;fast&gt;")
    )
    found = [set(re.findall(r"<td>(FBDF|BS3)</td>", part)) for part in (first, last)]
    assert found == [{"FBDF"}, {"BS3"}]
    assert "second: diagnosis" not in text and "third: diagnosis" not in text
    assert said == [
        "stiffness",
        *(f"slow: {part}" for part in PARTS[1:]),
        *(f"<fast>: {part}" for part in PARTS[1:]),
    ]


def test_text_of_others_cannot_become_markup(tmp_path):
    path = write_page(
        tmp_path / "page.html", "<script>", "", [Section("a", note="<b>", cells=[("<i>",), ("&",)])]
    )
    assert not re.search("<script>|<b>|<i>", path.read_text(encoding="utf-8"))


@pytest.mark.skipif(
    BROWSER is None, reason="no Chromium: install chromium to open the page in a browser"
)
def test_a_browser_shows_it_without_the_network(page, tmp_path):
    """Once it is open all pictures have a size, and nothing was asked for but what lies in the
    page."""
    script = (
        "onload = () => { document.title = [...document.images].map(i => i.naturalWidth) + ' asked"
        " ' + performance.getEntriesByType('resource').filter(e =>"
        " !e.name.startsWith('data:')).length }"
    )
    text = page.read_text(encoding="utf-8").replace(
        "style-src", "script-src 'unsafe-inline'; style-src"
    )
    probe = tmp_path / "probe.html"
    probe.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    widths, asked = re.search(r"<title>([\d,]+) asked (\d+)</title>", done.stdout).groups()
    assert len(widths.split(",")) == 9 and min(map(int, widths.split(","))) > 300
    assert asked == "0"
