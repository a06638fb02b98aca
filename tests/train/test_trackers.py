"""Trackers get the options of a run, the numbers of each epoch, and the verdict."""

import os
import sys
import types
from dataclasses import replace

import pytest

from pynode.train import Tracked, TrainingError, fit
from pynode.train.progress import SilentProgress
from pynode.train.trackers import tracked
from tests.support.training import QUICK, Cue, stiff_linear

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


@pytest.fixture
def mlflow(monkeypatch):
    """A stand-in for MLflow, whose calls are in its list ``calls``."""
    module = types.ModuleType("mlflow")
    module.calls = []
    for name in ("start_run", "log_params", "log_metrics", "set_tag", "end_run"):
        monkeypatch.setattr(
            module,
            name,
            lambda *a, _name=name, **k: module.calls.append((_name, a, k)),
            raising=False,
        )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def names(mlflow):
    return [name for name, _, _ in mlflow.calls]


def test_mlflow_gets_options_epochs_and_verdict(mlflow, tmp_path):
    run = fit(stiff_linear(), SHORT, progress=tracked("mlflow", SilentProgress(), tmp_path))
    assert names(mlflow) == [
        "start_run",
        "log_params",
        *["log_metrics"] * 3,
        "set_tag",
        "end_run",
    ]
    assert mlflow.calls[1][1][0]["polish"] == 1 and mlflow.calls[2][2] == {"step": 1}
    assert mlflow.calls[-2][1] == ("verdict", run.verdict.sentence)
    assert mlflow.calls[-1][1] == ("FINISHED",)


@pytest.mark.parametrize(
    ("failure", "ending"), [(KeyboardInterrupt(), "KILLED"), (float("nan"), "FAILED")]
)
def test_mlflow_knows_how_a_run_ended(mlflow, monkeypatch, tmp_path, failure, ending):
    cue = Cue(after=1, failure=failure)
    try:
        fit(
            stiff_linear(),
            cue.options(monkeypatch, QUICK),
            progress=tracked("mlflow", cue, tmp_path),
        )
    except TrainingError:
        assert ending == "FAILED"
    assert mlflow.calls[-1][:2] == ("end_run", (ending,))


def test_training_goes_on_without_a_tracker_that_fails(mlflow, monkeypatch, tmp_path):
    def lost(*_, **__):
        raise RuntimeError("the server is gone")

    monkeypatch.setattr(mlflow, "log_metrics", lost)
    cue = Cue(after=0)
    run = fit(stiff_linear(), SHORT, progress=tracked("mlflow", cue, tmp_path))
    assert len(run.history) == 4
    told = [sentence for sentence in cue.said if "mlflow" in sentence]
    assert told == ["--track mlflow gets nothing more of this run: the server is gone"]


def test_a_tracker_that_cannot_start_is_told(mlflow, monkeypatch, tmp_path):
    def refused(**_):
        raise RuntimeError("no key\nmore")

    monkeypatch.setattr(mlflow, "start_run", refused)
    with pytest.raises(OSError, match=r"--track mlflow cannot start: no key$"):
        fit(stiff_linear(), SHORT, progress=tracked("mlflow", SilentProgress(), tmp_path))
    assert mlflow.calls == []


def test_weights_and_biases_gets_options_epochs_and_verdict(monkeypatch, tmp_path):
    calls = []

    class Run:
        summary = {}

        def log(self, metrics, step):
            calls.append((step, metrics["loss"]))

        def finish(self, exit_code):
            calls.append(exit_code)

    wandb = types.ModuleType("wandb")
    wandb.init = lambda **given: calls.append(given["config"]["epochs"]) or Run()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run = fit(stiff_linear(), SHORT, progress=tracked("wandb", SilentProgress(), tmp_path))
    losses = [(record["epoch"], record["loss"]) for record in run.history[1:]]
    assert calls == [2, *losses, 0]
    assert Run.summary == {"verdict": run.verdict.sentence}


def test_tensorboard_has_the_epochs_of_each_run_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # The second run overwrites the first, and the third goes on with it.
    for options, resume in ((SHORT, False), (SHORT, False), (replace(SHORT, polish=3), True)):
        run = fit(
            stiff_linear(),
            options,
            tmp_path,
            resume,
            tracked("tensorboard", SilentProgress(), tmp_path),
        )
    (folder,) = (tmp_path / "tensorboard").iterdir()
    found = EventAccumulator(str(folder))
    found.Reload()
    losses = [(event.step, event.value) for event in found.Scalars("loss")]
    wanted = [(r["epoch"], pytest.approx(r["loss"], rel=1e-6)) for r in run.history[1:]]
    assert losses == wanted
    assert {"verdict/text_summary", "options/text_summary"} <= set(found.Tags()["tensors"])


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_tracker_is_told(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"pip install {name}"):
        tracked(name, SilentProgress(), tmp_path)


def test_the_real_mlflow_gives_back_what_was_logged(monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}")
    try:
        run = fit(stiff_linear(), SHORT, progress=tracked("mlflow", SilentProgress(), tmp_path))
        (found,) = mlflow.MlflowClient().search_runs(["0"])
        logged = mlflow.MlflowClient().get_metric_history(found.info.run_id, "loss")
    finally:
        mlflow.set_tracking_uri(before)
    assert found.info.status == "FINISHED" and found.data.params["polish"] == "1"
    assert found.data.tags["verdict"] == run.verdict.sentence
    losses = [(record["epoch"], record["loss"]) for record in run.history[1:]]
    assert sorted((metric.step, metric.value) for metric in logged) == losses


def test_the_real_weights_and_biases_takes_a_run(monkeypatch, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setitem(os.environ, "WANDB_MODE", "offline")

    class Reader(SilentProgress):
        """It closes before the tracker, whose run cannot be read when it is over."""

        def close(self):
            self.config = dict(shown.run.config)
            self.summary = {name: shown.run.summary[name] for name in ("loss", "verdict")}

    reader = Reader()
    shown = tracked("wandb", reader, tmp_path)
    run = fit(stiff_linear(), SHORT, progress=shown)
    assert reader.config["polish"] == 1
    assert reader.summary["loss"] == run.history[-1]["loss"]
    assert reader.summary["verdict"] == run.verdict.sentence
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
