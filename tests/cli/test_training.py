"""pynode train with what is known of the dynamics, several seeds, and a field without pynode."""

import json
import sys

import pytest
import torch

from pynode.cli import main
from pynode.train import load_model
from tests.support.training import stiff_linear

SHORT = "--hidden 8 --rtol 1e-3 --epochs 2 --warm-start 0 --scaling kim --collocation 50".split()


@pytest.fixture
def table(tmp_path):
    """Three trajectories."""
    path = tmp_path / "data.csv"
    lines = ["run,t,fast,slow"]
    for run in stiff_linear(((1.0, 0.0), (2.0, 0.0), (0.5, 1.0))).trajectories:
        for t, y in zip(run.t.tolist(), run.y.tolist(), strict=True):
            lines.append(f"{run.name},{t},{y[0]},{y[1]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def train(table, out, capsys, *options):
    code = main(["train", str(table), "--out", str(out), "--json", *SHORT, *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_known_part_comes_from_a_file(table, tmp_path, capsys):
    known = tmp_path / "known.py"
    known.write_text("def f(t, y):\n    return -y\n", encoding="utf-8")
    out = tmp_path / "out"
    code, _ = train(table, out, capsys, "--known", f"{known}:f", "--hold-out", "1")
    assert code in (0, 3)
    assert load_model(out / "model.pt", known=lambda t, y: -y).columns == ("fast", "slow")
    code, found = train(table, out, capsys, "--resume", "--epochs", "3")
    assert code in (0, 3) and found["epochs"] == 3
    assert all(state["held_out"] is not None for state in found["verdict"]["states"])
    known.write_text("f = 3\n", encoding="utf-8")
    code, found = train(table, tmp_path / "other", capsys, "--known", f"{known}:f")
    assert code == 2 and "is a int: give a function f(t, y)" in found["error"]


def test_seeds_are_kept_and_the_field_is_exported(table, tmp_path, capsys):
    out = tmp_path / "out"
    _, found = train(table, out, capsys, "--seeds", "2", "--ensemble", "--export")
    assert [path.name for path in sorted((out / "ensemble").iterdir())] == [
        "model0.pt",
        "model1.pt",
    ]
    assert {"field.py", "field.pt2"} <= {path.rpartition("/")[2] for path in found["files"]}
    names: dict = {}
    exec((out / "field.py").read_text(encoding="utf-8"), names)
    y = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert torch.allclose(names["Field"]()(0.0, y), load_model(out / "model.pt")(0.0, y))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--conserve", "fast+other"), "is no sum of states"),
        (("--positive", "other"), "positive names other"),
        (("--hold-out", "3"), "leaves no trajectory to learn from"),
        (("--augment", "-1"), "augment must be at least 0"),
    ],
)
def test_what_makes_no_sense_is_told(table, tmp_path, capsys, options, sentence):
    code, found = train(table, tmp_path / "out", capsys, *options)
    assert code == 2 and sentence in found["error"]


def test_a_tracker_that_is_not_installed(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, found = train(table, tmp_path / "out", capsys, "--track", "wandb")
    assert code == 1 and "pip install wandb" in found["error"]
