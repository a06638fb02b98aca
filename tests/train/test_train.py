"""Training: it learns, survives failed solves, full disks and interruptions, and resumes to the
bit."""

import csv
import errno
import os
from dataclasses import replace

import pytest
import torch

from pynode import solve
from pynode.core import files as files_module
from pynode.train import (
    ModelError,
    Options,
    TrainingError,
    fit,
    load_model,
)
from pynode.train.model import ACTIVATIONS, load_plain
from pynode.train.progress import Lines
from tests.support.training import QUICK, Cue, stiff_linear, weights


@pytest.fixture(scope="module")
def data():
    return stiff_linear()


def test_the_loss_falls_and_the_files_are_there(data, tmp_path):
    run = fit(data, replace(QUICK, epochs=25, warm_start=250, lr=5e-3), tmp_path / "new")
    assert run.best < run.baseline / 8
    assert [record["epoch"] for record in run.history] == list(range(26))
    assert (
        run.history[0]["loss"] == run.baseline and run.history[1]["loss"] == run.first >= run.best
    )
    assert (
        run.history[1]["nfe"] > run.history[1]["accepted"] > 0
        and run.history[1]["backward_nfe"] > 0
    )
    with open(tmp_path / "new" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [record["loss"] for record in run.history]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "checkpoint.pt",
        "model.pt",
        "history.csv",
        "verdict.json",
    }

    field = load_model(tmp_path / "new" / "model.pt")
    assert field.columns == ("fast", "slow") and field.y0.tolist() == [1.0, 1.0]
    assert field.tspan == (0.0, pytest.approx(10**0.5))
    assert torch.equal(
        weights(run), torch.cat([p.reshape(-1) for p in field.parameters()]).detach()
    )
    true = data.trajectories[0]
    with torch.no_grad():
        y = solve(field, field.y0, field.t_eval, rtol=1e-6, atol=field.atol(1e-6)).y
    error = ((y - true.y).abs() / field.y_scale)[1:][true.seen[1:]].mean()
    assert float(error) == pytest.approx(run.best, rel=0.05)


@pytest.mark.parametrize(
    "options", [{"scaling": "kim"}, {"scaling": "decades"}, {"loss": "mse"}, {"time_input": True}]
)
def test_training_without_a_warm_start(data, options):
    """Gates start at the pace of the span, so that the first solve cannot run away."""
    run = fit(data, replace(QUICK, warm_start=0, epochs=12, lr=2e-2, **options))
    assert run.history[1]["loss"] < 1.6 * run.baseline
    assert run.best < 0.95 * run.history[1]["loss"]


def test_models_on_the_way_are_kept(data, tmp_path):
    """From the start on, every so many epochs, also by a run that was resumed; each is a model of
    its own."""
    options = {"hidden": (6,), "warm_start": 10, "candidates": 1, "rtol": 1e-3, "keep_every": 2}
    fit(data, Options(epochs=3, **options), tmp_path)
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == [
        "epoch00000.pt",
        "epoch00002.pt",
    ]
    fit(data, Options(epochs=4, **options), tmp_path, resume=True)
    kept = [load_model(path) for path in sorted((tmp_path / "epochs").iterdir())]
    assert len(kept) == 3 and not torch.equal(
        kept[0].field.net[0].weight, kept[2].field.net[0].weight
    )


def test_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path):
    data = stiff_linear(((1.0, 0.0), (0.5, 1.0), (0.2, 0.5)))
    options = replace(QUICK, batch=2, warm_start=5)
    whole = fit(data, options, tmp_path / "whole")

    class Stop(Lines):
        def epoch(self, record, epochs, best):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

        def warm(self, done, of, loss):
            pass

    first = fit(data, options, tmp_path / "parts", progress=Stop())
    assert first.interrupted and len(first.history) == 3
    second = fit(data, options, tmp_path / "parts", resume=True)
    assert not second.interrupted
    assert torch.equal(weights(whole), weights(second)) and whole.best == second.best
    for a, b in zip(whole.history, second.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }
    plain = [
        load_plain(tmp_path / name / "checkpoint.pt", "checkpoint") for name in ("whole", "parts")
    ]
    for key in ("weights", "best_weights"):
        assert all(torch.equal(plain[0][key][name], plain[1][key][name]) for name in plain[0][key])


def test_interruption_within_an_epoch_keeps_the_last_whole_one(data, tmp_path, monkeypatch):
    cue = Cue(after=2, failure=KeyboardInterrupt())
    run = fit(data, cue.options(monkeypatch, QUICK), tmp_path, progress=cue)
    assert run.interrupted and run.history[-1]["epoch"] == 2
    assert load_plain(tmp_path / "checkpoint.pt", "checkpoint")["epoch"] == 2


def test_resume_refuses_what_does_not_fit(data, tmp_path):
    with pytest.raises(ValueError, match="name its directory"):
        fit(data, QUICK, resume=True)
    with pytest.raises(ModelError, match=r"there is no checkpoint file .*train first"):
        fit(data, QUICK, tmp_path, resume=True)
    fit(data, replace(QUICK, epochs=0, warm_start=0), tmp_path)
    with pytest.raises(ModelError, match=r"trained with hidden \[8\], not \[9\]"):
        fit(data, replace(QUICK, hidden=(9,)), tmp_path, resume=True)
    with pytest.raises(ModelError, match="trained on other data"):
        fit(stiff_linear(((2.0, 0.0),)), QUICK, tmp_path, resume=True)
    torch.save({"format": 1, "options": QUICK.as_dict()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        fit(data, QUICK, tmp_path, resume=True)


def test_full_disk_is_told_and_the_checkpoint_stays(data, tmp_path, monkeypatch):
    fit(data, replace(QUICK, epochs=1, warm_start=0), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    del before["verdict.json"]  # the part of a run has another verdict than the whole

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(
        OSError, match=r"checkpoint.pt could not be written: the disk is full; the previous file is"
    ):
        fit(data, QUICK, tmp_path, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failed_solve_is_a_step_back(data, monkeypatch):
    """Whatever makes a solve fail, the weights return to those that were solved last, and the rate
    halves."""
    cue = Cue(after=2, times=2)
    run = fit(data, cue.options(monkeypatch, replace(QUICK, warm_start=0)), progress=cue)
    assert len(cue.said) == 2 and "half the rate. FBDF: the vector field returned" in cue.said[0]
    assert [record["failures"] for record in run.history] == [0, 0, 0, 2, 0]
    assert run.history[3]["lr"] < 0.3 * run.history[2]["lr"]


def test_the_best_weights_after_a_step_back_are_those_that_were_solved(data, tmp_path, monkeypatch):
    """Not those that failed: the second sample has a lower loss."""
    cue = Cue(after=1, times=1)
    options = replace(QUICK, warm_start=0, epochs=2, sample=3, seed=4, keep_every=1)
    run = fit(data, cue.options(monkeypatch, options), tmp_path, progress=cue)
    assert len(cue.said) == 1 and run.history[2]["loss"] < 0.8 * run.history[1]["loss"]
    best = load_plain(tmp_path / "checkpoint.pt", "checkpoint")["best_weights"]
    solved, failed = (
        load_plain(tmp_path / "epochs" / f"epoch0000{epoch}.pt", "model")["state_dict"]
        for epoch in (0, 1)
    )
    assert all(torch.equal(best[name], solved[name]) for name in best)
    assert any(not torch.equal(best[name], failed[name]) for name in best)


def test_solves_that_keep_failing_end_training(data, tmp_path, monkeypatch):
    cue = Cue(after=1)
    options = cue.options(monkeypatch, replace(QUICK, max_failures=3))
    with pytest.raises(
        TrainingError, match=r"in epoch 2 after 3 failed solves in a row.*lower --lr"
    ):
        fit(data, options, tmp_path, progress=cue)
    assert load_model(tmp_path / "model.pt").columns == ("fast", "slow")


def test_a_nonfinite_gradient_moves_no_weights(data, monkeypatch):
    """The field has values, but no derivatives."""

    class Steep(torch.nn.Tanh):
        def forward(self, x):
            return super().forward(x) + 0.0 * (0.0 * x).sqrt()

    monkeypatch.setitem(ACTIVATIONS, "steep", Steep)
    cue = Cue(after=-1)
    options = replace(QUICK, warm_start=0, max_failures=2, activation="steep", method="tsit5")
    with pytest.raises(TrainingError, match="not finite"):
        fit(data, options, progress=cue)
    engine, step = cue.said
    assert engine.startswith("Engine: torch.") and "went a step back" in step


def test_a_span_that_cannot_be_solved_is_told(data):
    with pytest.raises(TrainingError, match="none of 3 random starts"):
        fit(data, replace(QUICK, max_steps=2))


def test_time_limit_ends_training(data):
    run = fit(data, replace(QUICK, epochs=10_000_000, time_limit=1.5))
    assert 0 < len(run.history) < 10_000_000
    assert run.history[-1]["lr"] < run.history[1]["lr"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "fdbf"}, "unknown method 'fdbf'"),
        ({"activation": "sine"}, "unknown activation 'sine': choose one of gelu"),
        ({"loss": "huber"}, "unknown loss"),
        ({"scaling": "log"}, "unknown scaling"),
        ({"hidden": ()}, "hidden must be widths"),
        ({"hidden": (8, 0)}, "hidden must be widths"),
        ({"rtol": -1e-3}, "rtol must be positive"),
        ({"atol": 0.0}, "atol must be positive"),
        ({"lr": float("nan")}, "lr must be positive"),
        ({"rtol": float("inf")}, "rtol must be finite"),
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"candidates": 0}, "candidates must be at least 1"),
    ],
)
def test_options_are_checked_at_the_door(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Options(**options)


def test_atol_follows_rtol():
    expected = {"method": "fbdf", "rtol": 1e-3, "atol": 1e-6, "max_steps": 5000, "backend": "auto"}
    assert Options(rtol=1e-3).tolerances == expected
    assert Options(atol=1e-8).tolerances["atol"] == 1e-8


def test_lines_are_shown_now_and_then(capsys):
    show = Lines(every=1000)
    record = {"epoch": 1, "loss": 0.5, "accepted": 3, "nfe": 9, "backward_nfe": 4, "seconds": 1.2}
    show.warm(1, 30, 0.3)
    show.warm(2, 30, 0.2)
    show.epoch(record, 9, 0.5)
    show.epoch(record | {"epoch": 2}, 9, 0.4)
    show.epoch(record | {"epoch": 3}, 9, 0.4)
    show.say("[a sentence]")
    show.close()
    assert capsys.readouterr().err.splitlines() == [
        "warm start 1/30: deviation 3.00e-01",
        "epoch 1/9: loss 5.000e-01 (best 5.000e-01), 3 steps, 13 evaluations, 1 s",
        "[a sentence]",
        "epoch 3/9: loss 5.000e-01 (best 4.000e-01), 3 steps, 13 evaluations, 1 s",
    ]
