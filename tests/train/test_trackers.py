"""Trackers get the numbers of each epoch."""

import sys
import types
from dataclasses import replace

import pytest

from pynode.train import Tracked, fit
from pynode.train.progress import SilentProgress
from pynode.train.trackers import tracked
from tests.support.training import QUICK, stiff_linear

SHORT = replace(QUICK, warm_start=0, epochs=2, polish=1)


def test_a_callback_gets_every_epoch():
    got = []
    closed = []
    run = fit(
        stiff_linear(),
        SHORT,
        progress=Tracked(
            SilentProgress(), lambda *given: got.append(given), lambda: closed.append(1)
        ),
    )
    assert [step for step, _ in got] == [1, 2, 3] and closed == [1]
    assert [metrics["loss"] for _, metrics in got] == [r["loss"] for r in run.history[1:]]
    assert "held_out" not in got[0][1] and got[-1][1]["nfe"] == run.history[-1]["nfe"]


def test_mlflow_gets_options_and_epochs(monkeypatch, tmp_path):
    mlflow = types.ModuleType("mlflow")
    calls = []
    for name in ("start_run", "log_params", "log_metrics", "end_run"):
        monkeypatch.setattr(
            mlflow, name, lambda *a, _name=name, **k: calls.append((_name, a, k)), raising=False
        )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    fit(stiff_linear(), SHORT, progress=tracked("mlflow", SilentProgress(), SHORT, tmp_path))
    names = [name for name, _, _ in calls]
    assert names == ["start_run", "log_params", *["log_metrics"] * 3, "end_run"]
    assert calls[1][1][0]["polish"] == 1 and calls[2][2] == {"step": 1}


def test_weights_and_biases_gets_options_and_epochs(monkeypatch, tmp_path):
    calls = []

    class Run:
        def log(self, metrics, step):
            calls.append((step, metrics["loss"]))

        def finish(self):
            calls.append("finished")

    wandb = types.ModuleType("wandb")
    wandb.init = lambda **given: calls.append(given["config"]["epochs"]) or Run()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run = fit(stiff_linear(), SHORT, progress=tracked("wandb", SilentProgress(), SHORT, tmp_path))
    losses = [(record["epoch"], record["loss"]) for record in run.history[1:]]
    assert calls == [2, *losses, "finished"]


def test_tensorboard_writes_its_files(tmp_path):
    pytest.importorskip("tensorboard")
    fit(stiff_linear(), SHORT, progress=tracked("tensorboard", SilentProgress(), SHORT, tmp_path))
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_tracker_is_told(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"pip install {name}"):
        tracked(name, SilentProgress(), SHORT, tmp_path)
