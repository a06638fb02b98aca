"""Several runs on the same data: the best is kept, with its files."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from pynode.train import Options, attempts, fit_best, load_model, plot_fit
from pynode.train.checkpoint import saved_options
from pynode.train.progress import SilentProgress
from tests.support.training import QUICK, stiff_linear, weights

SHORT = replace(QUICK, warm_start=0, epochs=1)


def test_the_best_seed_is_kept_with_its_files(tmp_path):
    data = stiff_linear()
    runs = [fit_best(data, [replace(SHORT, seed=seed)]) for seed in (0, 1, 2)]
    worst = [max(state.error for state in run.verdict.states) for run in runs]
    best = fit_best(data, [SHORT], seeds=3, out=tmp_path)
    assert best.options.seed == worst.index(min(worst))
    assert saved_options(tmp_path / "checkpoint.pt")["seed"] == best.options.seed
    stored = load_model(tmp_path / "model.pt")
    assert torch.equal(
        torch.cat([p.detach().reshape(-1) for p in stored.parameters()]), weights(best)
    )
    assert not (tmp_path / "attempt").exists()


def test_another_choice_is_tried_where_the_first_has_not_learned():
    data = stiff_linear()
    good = replace(QUICK, warm_start=250, epochs=5, polish=25, rtol=1e-4)
    tried = fit_best(data, [SHORT, good])
    assert tried.options.polish == 25 and tried.verdict.word == "learned"
    kept = fit_best(data, [good, SHORT])
    assert kept.options.polish == 25


def test_no_further_choice_begins_late(monkeypatch):
    data = stiff_linear()
    good = replace(QUICK, warm_start=250, epochs=5, polish=25, rtol=1e-4)
    monkeypatch.setattr(attempts, "LATEST", 0.0)
    assert fit_best(data, [SHORT, good]).options.polish == SHORT.polish


class Stop(SilentProgress):
    """Interrupts the run of this number, in its second epoch."""

    runs = 0

    def __init__(self, which):
        Stop.runs += 1
        self.stops = Stop.runs == which

    def epoch(self, record, epochs, best):
        if self.stops and record["epoch"] == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("which", [1, 2, 3])
def test_every_attempt_is_resumed_to_the_bit(tmp_path, which, monkeypatch):
    data = stiff_linear()
    choices = [replace(SHORT, epochs=3), replace(SHORT, epochs=4, scaling="kim")]
    whole = fit_best(data, choices, seeds=2)
    monkeypatch.setattr(Stop, "runs", 0)
    first = fit_best(data, choices, 2, tmp_path, lambda: Stop(which))
    assert first.interrupted
    saved = Options(**saved_options(tmp_path / "checkpoint.pt"))
    again = fit_best(data, [saved], 1, tmp_path, resume=True)
    assert not again.interrupted and again.options == whole.options
    assert torch.equal(weights(again), weights(whole))
    tried = json.loads((tmp_path / "attempts.json").read_text())["tried"]
    assert [attempt["seed"] for attempt in tried] == [0, 0, 1]


def test_a_time_limit_is_for_all_attempts_together(clock):
    """Three seeds get a third of the time each."""
    data = stiff_linear()
    clock.serve("pynode.train.run", "pynode.train.attempts", "pynode.train.start")
    limited = replace(SHORT, epochs=10**6, time_limit=90.0)
    ends = []

    class Seconds(SilentProgress):
        def epoch(self, record, epochs, best):
            clock.now += 1.0
            ends.append(record["seconds"])

    fit_best(data, [limited], 3, progress=Seconds)
    assert [second for second, after in pairwise([*ends, 0.0]) if after < second] == pytest.approx(
        [30.0, 30.0, 30.0], abs=2.0
    )


def test_an_ensemble_keeps_the_models_of_all_seeds(tmp_path, figures):
    data = stiff_linear()
    found = fit_best(data, [SHORT], 3, tmp_path, ensemble=True)
    words = [a["verdict"] for a in json.loads((tmp_path / "attempts.json").read_text())["tried"]]
    assert len(found.members) == words.count(found.verdict.word) >= 2
    assert len(list((tmp_path / "ensemble").iterdir())) == 3
    in_memory = fit_best(data, [SHORT], 3, ensemble=True)
    y = data.trajectories[0].y[0]
    for stored, kept in zip(found.members, in_memory.members, strict=True):
        assert torch.equal(stored(0.0, y), kept(0.0, y))
    plot_fit(tmp_path / "fit.png", found.field, data, members=found.members)
    (figure,) = figures
    assert len(figure.axes[0].collections) == 1
