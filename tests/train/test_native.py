"""The engine of a training run: the same run with native code and with torch, and what says which
one it was."""

import json
from dataclasses import replace

import pytest
import torch

from pynode import problems
from pynode.cli import main
from pynode.train import Options, fit
from pynode.train import engine as engines
from pynode.train.explicit_costs import costs
from pynode.train.kim2021 import reproduce
from tests.support.training import stiff_linear, weights

POLISH = Options(hidden=(6,), epochs=0, polish=3, warm_start=100, candidates=1, rtol=1e-6)


@pytest.fixture
def native():
    pytest.importorskip("numba")
    pytest.importorskip("llvmlite")


@pytest.fixture(scope="module")
def data():
    return stiff_linear()


def test_a_polish_by_both_engines(native, data):
    """Both carry forward sensitivities. The steps of Levenberg-Marquardt are the same."""
    runs = [fit(data, replace(POLISH, backend=backend)) for backend in ("native", "torch")]
    assert [run.backend for run in runs] == ["native", "torch"]
    for one, other in zip(*(run.history for run in runs), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert runs[0].best < runs[0].first
    assert torch.allclose(weights(runs[0]), weights(runs[1]), rtol=1e-3, atol=1e-3)


def test_a_polish_that_is_resumed(native, data, tmp_path):
    """It has the weights of a run without interruption, in every bit."""
    options = replace(POLISH, backend="native")
    whole = fit(data, options)
    fit(data, replace(options, polish=1), tmp_path)
    resumed = fit(data, options, tmp_path, resume=True)
    assert torch.equal(weights(whole), weights(resumed))


def test_the_choice_without_the_packages(data, monkeypatch):
    monkeypatch.setattr(engines, "missing_for_native", lambda: ("numba",))
    run = fit(data, replace(POLISH, polish=0, warm_start=10))
    assert run.backend == "torch"


def test_costs_name_their_engine(native):
    for backend in ("torch", "native"):
        found = costs(problems.get("robertson"), 2000, backend=backend)
        fbdf, tsit5, *others = found
        assert (fbdf.engine, tsit5.engine) == (backend, backend)
        assert fbdf.reached == 1.0
        assert 0 < tsit5.reached < 1e-4
        assert all(cost.engine == "torchdiffeq" for cost in others)


def test_a_reproduction_chooses_native_code(native):
    result = reproduce("robertson", trainings=("paper",), max_nfe=300, epochs=1)
    assert result.fits["paper"].backend == "native"
    assert {cost.engine for cost in result.costs} <= {"native", "torchdiffeq"}
    heads, training = result.table().splitlines()[:2]
    assert heads.split()[0] == "engine"
    assert training.split()[:2] == ["paper", "native"]


def test_a_reproduction_by_torch(capsys, tmp_path):
    arguments = ["reproduce", "robertson", "--backend", "torch", "--trainings", "paper", "--json"]
    assert main([*arguments, "--epochs", "1", "--max-nfe", "300", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trainings"]["paper"]["backend"] == "torch"
    assert {cost["engine"] for cost in found["costs"]} <= {"torch", "torchdiffeq"}
