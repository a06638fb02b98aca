"""The verdict as a file."""

import json
from dataclasses import replace

import pytest

from pynode.train import TrainingError, fit, fit_best
from pynode.train.outcome import VERDICT
from tests.support.training import QUICK, Cue, stiff_linear


def written(out):
    return json.loads((out / VERDICT).read_text(encoding="utf-8"))


def test_a_run_writes_its_verdict(tmp_path):
    run = fit(stiff_linear(), QUICK, tmp_path)
    plain = written(tmp_path)
    assert plain.pop("interrupted") is False
    assert plain == run.verdict.as_dict()


def test_of_several_runs_the_best_has_the_verdict(tmp_path):
    run = fit_best(stiff_linear(), [QUICK], seeds=2, out=tmp_path)
    assert written(tmp_path) == {**run.verdict.as_dict(), "interrupted": False}


def test_an_interrupted_run_says_so(monkeypatch, tmp_path):
    cue = Cue(after=2, failure=KeyboardInterrupt())
    fit(stiff_linear(), cue.options(monkeypatch, QUICK), tmp_path, progress=cue)
    assert written(tmp_path)["interrupted"] is True


def test_a_failed_run_leaves_no_verdict_of_an_earlier_one(monkeypatch, tmp_path):
    fit(stiff_linear(), replace(QUICK, epochs=1), tmp_path)
    cue = Cue(after=1)
    with pytest.raises(TrainingError):
        fit(stiff_linear(), cue.options(monkeypatch, QUICK), tmp_path, progress=cue)
    assert not (tmp_path / VERDICT).exists()
