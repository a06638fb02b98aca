"""The benchmarks of a training gradient and of a training run: what their tables hold, in their
quickest setting."""

import csv

import pytest
import torch

from benchmarks import accuracy, compiled, gradient, training
from benchmarks.fields import Boehm


def rows(path, table) -> list:
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row["table"] == table]


def test_training_table(tmp_path, capsys):
    training.main(
        [
            "--no-diffrax",
            "--iterations",
            "3",
            "--starts",
            "paper",
            "--methods",
            "fbdf",
            "kvaerno5",
            "--out",
            str(tmp_path),
        ]
    )
    assert "paper: 3 iterations, seed 0" in capsys.readouterr().out
    found = rows(tmp_path / "training.csv", "paper")
    assert [row["contestant"] for row in found] == ["fbdf", "kvaerno5"]
    for row in found:
        # The loss of states that do not move is 0.325.
        assert 0.25 < float(row["loss"]) < 0.325
        assert 2 < int(row["steps_first"]) < 100
        assert 0 < float(row["first_s"]) < float(row["wall_s"])
        assert 0 < float(row["grad_first"]) < 1e-4 and 0 < float(row["grad_last"]) < 1e-4
    assert float(found[0]["loss"]) == pytest.approx(float(found[1]["loss"]), rel=1e-5)


def test_gradient_table(tmp_path, capsys):
    gradient.main(
        [
            "--fields",
            "mlp",
            "--methods",
            "fbdf",
            "--direct",
            "mlp",
            "--rtol",
            "1e-3",
            "--seconds",
            "0.01",
            "--out",
            str(tmp_path),
        ]
    )
    assert "gradient: forward and backward" in capsys.readouterr().out
    costs, comparisons = (
        rows(tmp_path / "gradient.csv", table) for table in ("gradient", "direct")
    )
    assert [row["method"] for row in costs] == [row["method"] for row in comparisons] == ["fbdf"]
    for row in costs:
        assert 0 < float(row["backward"]) < float(row["ratio"]) and int(row["steps"]) > 5
    assert all(0 <= float(row["grad_diff"]) < 1e-10 for row in comparisons)


def test_compiled_table(tmp_path, capsys):
    compiled.main(
        [
            "--fields",
            "mlp",
            "vanderpol rows",
            "--methods",
            "rosenbrock23",
            "--rtol",
            "1e-3",
            "--seconds",
            "0.01",
            "--rows",
            "4",
            "--backend",
            "eager",
            "--out",
            str(tmp_path),
        ]
    )
    assert "whole steps compiled" in capsys.readouterr().out
    found = rows(tmp_path / "compiled.csv", "compiled")
    assert [row["what"] for row in found] == 2 * ["forward", "gradient"]
    for row in found:
        assert float(row["difference"]) < 1e-10 and float(row["ratio"]) > 0


def test_accuracy_table(tmp_path, capsys, monkeypatch):
    def decay():
        parameters, start = (
            torch.tensor([1.0, 5.0], dtype=torch.float64),
            torch.ones(2, dtype=torch.float64),
        )
        return accuracy.Case(lambda t, y, p: -p * y, parameters, start, [0.0, 0.5, 1.0], 1e-8)

    monkeypatch.setattr(accuracy, "cases", lambda: {"decay": decay})
    accuracy.main(["--methods", "fbdf", "radauiia5", "--rtols", "1e-4", "--out", str(tmp_path)])
    assert "remedies: errors of the gradient" in capsys.readouterr().out
    found = rows(tmp_path / "accuracy.csv", "accuracy")
    assert [row["method"] for row in found] == ["fbdf", "radauiia5"]
    for row in found:
        assert 0 < float(row["gradient"]) < 1e-2 and 0 < float(row["state"]) < 1e-2
        assert float(row["ratio"]) == pytest.approx(float(row["gradient"]) / float(row["state"]))
    (remedies,) = rows(tmp_path / "accuracy.csv", "remedies")
    assert 0 < float(remedies["tenth"]) < float(remedies["discrete"])
    assert 0 < float(remedies["gauss"]) < 1e-2 and 0 < float(remedies["controlled"]) < 1e-2
    assert int(remedies["steps"]) < int(remedies["steps_tenth"])


def test_boehms_model_loses_nothing():
    """Both isoforms of STAT5 are conserved in the two volumes together."""
    field = Boehm()
    y = torch.rand(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    volumes = torch.tensor(5 * [field.cytoplasm] + 3 * [field.nucleus], dtype=torch.float64)
    rates = field(torch.tensor(3.0, dtype=torch.float64), y).detach() * volumes
    a = torch.tensor([1, 0, 1, 2, 0, 2, 1, 0], dtype=torch.float64)
    b = torch.tensor([0, 1, 1, 0, 2, 0, 1, 2], dtype=torch.float64)
    assert float(torch.maximum((a @ rates).abs(), (b @ rates).abs())) < 1e-12 * float(
        rates.abs().sum()
    )
