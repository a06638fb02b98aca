"""The suite beside the peers: ratios at equal error, what is told of who has none, and the fields
in other languages."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import contestants, peers, suite, versions
from benchmarks import problems as registry
from benchmarks.fields import MLP, StiffMLP, start
from benchmarks.formulas import Term, agree, formula, objects, written
from benchmarks.peers.pydiffsol import diffsl
from pynode import problems
from pynode.methods import Tsit5


def run(folder, *options):
    """Rows of the table of ratios of a small run with SciPy as the only peer, and suite.md."""
    command.main(
        ["--quick", "--peers", "scipy", "--seconds", "0.05", "--out", str(folder), *options]
    )
    with open(folder / "suite.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "ratios"]
    return rows, (folder / "suite.md").read_text()


def test_table_and_plot(tmp_path, capsys, figures):
    rows, text = run(tmp_path, "--problems", "lotka_volterra", "mlp gradient")
    assert [(row["peer"], row["problem"]) for row in rows] == [
        ("SciPy RK45", "lotka_volterra"),
        ("SciPy LSODA", "lotka_volterra"),
    ]
    for row in rows:
        assert 0 < float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
        assert 1e-9 < float(row["at_error"]) < 1e-1 and float(row["ms"]) > 0
        assert command.short(float(row["ratio"])) in text
    assert (
        "| SciPy RK45 | torch |" in text
        and "torch " + torch.__version__ in text
        and "processor" in text
    )
    bars = [bar for panel in figures[0].axes for bar in panel.patches]
    ends = [bar.get_x() + bar.get_width() for bar in bars]
    assert sorted(ends) == pytest.approx(sorted(float(row["ratio"]) for row in rows), rel=1e-3)
    assert (tmp_path / "suite.png").exists()
    assert text in capsys.readouterr().out


def test_who_is_stopped_is_told(tmp_path):
    rows, text = run(tmp_path, "--problems", "lotka_volterra", "--limit", "0.0005")
    assert {row["note"] for row in rows} == {
        "longer than 0.0005 s"
    } and "- SciPy RK45 on lotka_volterra: longer" in text
    assert not (tmp_path / "suite.png").exists()


def test_a_gradient_is_measured_by_its_error(tmp_path):
    """One of pynode and the same once more as its own peer, at the same tolerances."""
    made = suite.case("mlp gradient").at(1e-4)
    mine = contestants.gradient_by_pynode("DP5", made, made.problem.field)()[0]
    assert made.reference.shape == (3 + 2903,) and 1e-8 < made.error(mine) < 1e-2
    assert made.error(2 * made.reference) == pytest.approx(1.0)


def test_slow_ones_run_in_the_first_rounds_alone(monkeypatch):
    """As many rounds as --seconds holds, five at most; of who takes longer the first run stands."""
    now, order = [0.0], []
    monkeypatch.setitem(contestants.CLOCKS, "made up", lambda: now[0])

    def taking(seconds):
        def solve():
            now[0] += seconds
            order.append(seconds)
            return np.zeros(1), {}

        return contestants.Contestant(str(seconds), "peer", lambda case, field: solve)

    case = SimpleNamespace(
        name="p", rtol=1e-3, problem=SimpleNamespace(field=None), error=lambda states: 0.5
    )
    args = SimpleNamespace(clock="made up", seconds=1.0, rounds=5, limit=9.0)
    rows, times = contestants.timed(case, [taking(0.125), taking(0.4), taking(2.0)], args)
    assert times[0] == [0.125] * 5 and times[1] == pytest.approx([0.4] * 2) and times[2] == [2.0]
    assert order[3:7] == [0.125, 0.4, 0.125, 0.4] and all(row["error"] == 0.5 for row in rows)


def points(name, errors, seconds, **more):
    return [
        {
            "contestant": name,
            "problem": "p",
            "kind": "stiff",
            "package": None,
            "error": error,
            "times": taken,
            **more,
        }
        for error, taken in zip(errors, seconds)
    ]


def test_ratio_is_that_of_the_lines_where_both_errors_meet():
    """time = c error^(-1/2): 3 times as slow at the same error, whatever the tolerances gave; the
    second round 7 times."""
    mine = points(
        "QNDF", (1e-2, 1e-4, 1e-6), [(3 * e**-0.5, 7 * e**-0.5) for e in (1e-2, 1e-4, 1e-6)]
    )
    theirs = points(
        "peer", (1e-3, 1e-5, 1e-7), [(e**-0.5, e**-0.5, 9.0) for e in (1e-3, 1e-5, 1e-7)]
    )
    (row,) = suite.ratios(mine + theirs)
    assert row["at_error"] == pytest.approx((1e-3 * 1e-6) ** 0.5) and row["rounds"] == 2
    assert (
        row["ratio"] == pytest.approx(5)
        and row["low"] == pytest.approx(4)
        and row["high"] == pytest.approx(6)
    )
    assert "**5 (4–6) slower**" in "\n".join(command.table([row]))


def test_no_ratio_without_a_common_error_or_two_tolerances():
    mine = points("QNDF", (1e-2, 1e-4), [(1.0,), (2.0,)])
    (row,) = suite.ratios(mine + points("peer", (1e-6, 1e-8), [(1.0,), (2.0,)]))
    assert "no error that both reach" in row["note"] and "ratio" not in row
    stopped = points("peer", (1e-3,), [(1.0,)]) + [
        {**points("peer", (0.0,), [()])[0], "note": "longer than 1 s"}
    ]
    (row,) = suite.ratios(mine + stopped)
    assert row["note"] == "longer than 1 s"
    assert "| – | – |" in "\n".join(
        command.table([row])
    ) and "- peer on p: longer than 1 s" in command.document([row], [])


SYSTEMS = ("robertson", "vanderpol", "oregonator", "hires", "pollution", "lorenz", "spiral")
FIELDS = {
    **{name: problems.get(name).field for name in SYSTEMS},
    "mlp": MLP(),
    "stiff mlp": StiffMLP(),
}


@pytest.mark.parametrize("name", FIELDS)
def test_formula_is_the_torch_field(name):
    field = FIELDS[name]
    n = 3 if "mlp" in name else len(problems.get(name).y0)
    y = torch.linspace(0.5, 1.5, n, dtype=torch.float64)
    expected = field(0.0, y).detach().numpy()
    found = formula(field, np.asarray, np.tanh)(y.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    if "mlp" in name:
        halved = [0.5 * p.detach().numpy() for p in field.parameters()]
        assert not np.allclose(formula(field, np.asarray, np.tanh)(y.numpy(), halved), expected)
    else:
        texts = formula(field, objects, None)(objects([Term(f"y{i}") for i in range(n)]))
        values = {f"y{i}": value for i, value in enumerate(y.tolist())}
        np.testing.assert_allclose(
            [eval(written(text), {}, values) for text in texts], expected, rtol=1e-12
        )


def test_another_field_is_refused():
    field = problems.get("robertson").field
    with pytest.raises(ValueError, match="no formula of Linear: write one in benchmarks/problems"):
        formula(torch.nn.Linear(2, 2), np.asarray, np.tanh)
    with pytest.raises(ValueError, match="DiffSL twin of Robertson is another field"):
        agree(field, problems.get("robertson").y0, [1.0, 2.0, 3.0], "DiffSL")


def test_text_of_a_network_has_its_weights():
    text = diffsl(StiffMLP(), start())
    assert text.count("tanh(") == 3 and "rate_i" in text and "s2_i { w2_ij * h1_j }" in text
    assert all(repr(w) in text for w in StiffMLP().layers[2].weight.flatten().tolist()[::97])


def test_a_file_adds_a_peer_and_a_problem(monkeypatch):
    """Both appear in the tables at their place, and two of one name are refused."""
    monkeypatch.setattr(peers, "_FOUND", [])
    monkeypatch.setattr(registry, "PROBLEMS", dict(registry.PROBLEMS))
    solver = peers.Solver("new RK", lambda case, field: None)
    peer = peers.register(peers.Peer("new", "new", 15, "Fortran", {"stiff": [solver]}))
    monkeypatch.setitem(suite.PEERS, "new", peer)
    assert [c.name for c in suite.contestants("stiff", None, ("new",))] == ["QNDF", "new RK"]
    assert [c.name for c in suite.contestants("not stiff", None, ("new",))] == ["Tsit5"]
    (row,) = suite.ratios(
        points("QNDF", (1e-3,), [(1.0,)])
        + [{**row, "package": "new"} for row in points("new RK", (1e-3,), [(1.0,)])]
    )
    assert row["field"] == "Fortran"
    robertson = registry.PROBLEMS["robertson"]
    entry = registry.register(replace(robertson, name="new problem", place=25))
    registry.register_gradient(entry, 120)
    assert registry.names("stiff")[1:4] == ("vanderpol", "new problem", "oregonator")
    assert registry.names("stiff gradient")[-1] == "new problem gradient"
    with pytest.raises(ValueError, match="two peers are named new"):
        peers.register(peer)
    with pytest.raises(ValueError, match="two problems are named robertson"):
        registry.register(robertson)


def test_the_tables_keep_their_order():
    """The files register in the order of their names, and the tables have another one."""
    order = ["scipy", "torchdiffeq", "torchode", "diffrax", "scikit-sundae", "casadi", "pydiffsol"]
    assert list(peers.PEERS) == order
    assert list(suite.KINDS) == [
        *("robertson", "vanderpol", "oregonator", "hires", "pollution", "stiff mlp"),
        *("lotka_volterra", "spiral", "mlp", "mlp gradient", "stiff mlp gradient"),
    ]


def test_compiled_contestants():
    """Their first solve compiles, and is timed apart."""
    case, made = suite.case("lotka_volterra").at(1e-4), []

    def by(method, case, field, **options):
        made.append((method, field is case.problem.field, options))
        return lambda: ("states", {"steps": 3})

    states, counts = contestants.by_compiled(by, "Tsit5", case, None)()
    assert states == "states" and counts["steps"] == 3 and counts["compile_s"] >= 0
    assert made == [(Tsit5(compile=True), True, {})]
    assert [
        suite.contestants(kind, None, (), engine)[0].name
        for engine in ("compiled", "native", "julia")
        for kind in ("stiff", "not stiff", "stiff gradient")
    ] == [
        *("Rodas5P, compiled", "Tsit5, compiled", "Rodas5P, compiled"),
        *("Rodas5P, native", "Tsit5, native", "Rodas5P, native"),
        *("Rodas5P, julia", "Tsit5, julia", "Rodas5P, julia"),
    ]
    made.clear()
    assert contestants.by_backend("julia", by, "Tsit5", case, None)()[0] == "states"
    assert made == [("Tsit5", True, {"backend": "julia"})]


def test_two_trees_side_by_side(tmp_path, capsys):
    """This tree beside itself: all three processes solve the same, with the same error."""
    options = [
        "--problems",
        "batch gradient",
        "--ladder",
        "1e-3",
        "1e-4",
        "--rounds",
        "1",
        "--out",
        str(tmp_path),
    ]
    versions.main([str(versions.HERE), *options])
    with open(tmp_path / "versions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["QNDF", "Rodas5P", "Tsit5", "3 pairs"]
    for row in rows[:-1]:
        assert (
            float(row["same"]) > 0
            and float(row["control"]) > 0
            and 1e-12 < float(row["at_error"]) < 1e-1
        )
    assert "median" in capsys.readouterr().out


def test_a_folder_without_pynode_is_told(tmp_path):
    with pytest.raises(SystemExit, match="no package pynode in"):
        versions.main([str(tmp_path), "--problems", "batch", "--out", str(tmp_path)])
