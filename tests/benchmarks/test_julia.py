"""The benchmark of Julia, without Julia: the text of the fields, the rounds, and the ratios."""

import ast

import numpy as np
import pytest
import torch

from benchmarks.fields import StiffMLP
from benchmarks.julia_field import right
from benchmarks.julia_tables import means, summary, wide
from benchmarks.pairs import BRIEF, CLOCKS, in_turn
from benchmarks.problems import PROBLEMS, STIFF, names


@pytest.mark.parametrize("name", names(STIFF, network=False))
def test_a_formula_in_julia(name):
    """The lines of the function are Python's, too, if the first of a list is ignored."""
    problem = PROBLEMS[name].make()
    y0 = problem.y0 + 0.1
    first, *lines, end, last = right(problem.field, len(y0)).splitlines()
    assert (first, end.strip(), last) == ("function right!(dy, y, p, t)", "return nothing", "end")
    values = {"y": [None, *y0.tolist()], "dy": [None] * (len(y0) + 1)}
    exec("\n".join(line.strip() for line in lines), values)
    expected = problem.field(0.0, y0).detach().numpy()
    assert np.allclose(values["dy"][1:], expected, rtol=1e-12, atol=1e-12 * abs(expected).max())


def test_a_network_in_julia():
    """Its constants are the weights, and its function has every layer."""
    field = StiffMLP(hidden=4)
    text = right(field, 3)
    lines = dict(line[6:].split(" = ") for line in text.splitlines() if line.startswith("const"))
    weight = field.layers[2].weight.detach()
    assert ast.literal_eval(lines["b1"]) == field.layers[2].bias.tolist()
    rows = [list(map(float, row.split())) for row in lines["W1"].strip("[]").split("; ")]
    assert torch.equal(torch.tensor(rows, dtype=torch.float64), weight)
    assert "dy .= rates .* (W2 * tanh.(W1 * tanh.(W0 * y .+ b0) .+ b1) .+ b2 .- y)" in text


def test_rounds_take_turns():
    """As many rounds as at least asked for; a brief one repeats in its turn."""
    calls = []
    runs = {"brief": lambda: calls.append("brief"), "long": lambda: burn(calls)}
    times = in_turn(runs, seconds=0.0, rounds=(2, 5))
    assert set(times) == {"brief", "long"} and all(len(x) == 2 for x in times.values())
    order = [name for i, name in enumerate(calls) if i == 0 or name != calls[i - 1]]
    assert order == ["brief", "long"] * 3
    assert calls.count("long") == 3 < calls.count("brief")


def burn(calls):
    """Work of more than a turn."""
    calls.append("long")
    end = CLOCKS["cpu"]() + 2 * BRIEF
    while CLOCKS["cpu"]() < end:
        pass


def test_ratios():
    """CVODE has one time for all methods of a problem; means take what both have."""
    rows = [
        {"problem": "a", "method": "FBDF", "contestant": "julia native", "ms": 1.0},
        {"problem": "a", "method": "FBDF", "contestant": "julia python", "ms": 10.0},
        {"problem": "a", "method": "CVODE_BDF", "contestant": "cvode", "ms": 4.0},
        {"problem": "a", "method": "QNDF", "contestant": "julia native", "ms": 1.0},
        {"problem": "a", "method": "QNDF", "contestant": "julia python", "ms": 1000.0},
        {"problem": "b", "method": "QNDF", "contestant": "julia native", "ms": 1.0},
    ]
    table = wide(rows)
    assert [(row["problem"], row["method"], row.get("cvode")) for row in table] == [
        ("a", "FBDF", 4.0),
        ("a", "QNDF", 4.0),
        ("b", "QNDF", None),
    ]
    (found,) = means(rows)
    assert found["ratio"] == "julia native / julia python" and found["of"] == 2
    assert found["geometric mean"] == pytest.approx(0.01)
    assert (found["least"], found["most"]) == (pytest.approx(0.001), pytest.approx(0.1))


def test_summary():
    """A row a way that ran, relative to Julia with native functions."""
    row = {"problem": "robertson", "method": "Rodas5P"}
    rows = [
        {**row, "contestant": "julia native", "ms": 0.5},
        {**row, "contestant": "torch", "ms": 100.0},
        {"problem": "robertson", "method": "CVODE_BDF", "contestant": "cvode", "ms": 10.0},
    ]
    gradient = {"field": "pollution", "method": "Rodas5P", "contestant": "torch", "ms": 321.0}
    cells = [
        [cell.strip() for cell in line.split("|")[1:-2]] for line in summary(rows, [gradient])[2:]
    ]
    assert cells == [
        ["torch engine", "100", "–", "200", "–", "321"],
        ["Julia, native functions", "0.5", "–", "1", "–", "–"],
        ["CVODE, torch field", "10", "–", "20", "–", "–"],
    ]
