"""Several runs at once: each has the result that it has alone."""

import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch

from pynode.train import fit, fit_best, sweep
from tests.support.training import QUICK, stiff_linear, weights

SHORT = replace(QUICK, warm_start=0, epochs=2)
CHOICES = [SHORT, replace(SHORT, seed=3), replace(SHORT, scaling="kim")]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_is_its_runs(tmp_path, jobs):
    pytest.importorskip("joblib")
    data = stiff_linear()
    folders = [tmp_path / str(k) for k in range(3)]
    runs = sweep(data, CHOICES, folders, jobs)
    for options, run, folder in zip(CHOICES, runs, folders, strict=True):
        assert torch.equal(weights(run), weights(fit(data, options)))
        assert (folder / "model.pt").exists()


def test_seeds_run_at_once(tmp_path):
    pytest.importorskip("joblib")
    data = stiff_linear()
    alone = fit_best(data, [SHORT], 3, ensemble=True)
    both = fit_best(data, [SHORT], 3, tmp_path, ensemble=True, jobs=2)
    assert both.options == alone.options and torch.equal(weights(both), weights(alone))
    assert len(both.members) == len(alone.members)
    assert not (tmp_path / "attempt").exists()


def test_without_joblib_one_run_after_the_other(monkeypatch):
    monkeypatch.setattr(import_module("pynode.train.sweeps"), "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "joblib", None)
    (run,) = sweep(stiff_linear(), [SHORT])
    assert run.options == SHORT or run.options.seed == SHORT.seed
    with pytest.raises(ImportError, match="several jobs need joblib: pip install"):
        sweep(stiff_linear(), [SHORT], jobs=2)
