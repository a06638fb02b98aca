"""Starts of trajectories that training never saw are estimated from their first observations."""

from dataclasses import replace

import pytest
import torch

from pynode.data import read
from pynode.train import Options, Scaling, fit, load_model
from pynode.train.held_out_starts import PART, estimate_starts
from pynode.train.hidden import with_hidden
from pynode.train.objective import Objective
from tests.support.training import QUICK

T = torch.linspace(0.0, 4.0, 41, dtype=torch.float64)
RATES = (0.3, 0.5, 0.7, 0.9, 1.1)
HELD_OUT = (False, False, True, False, False)
OPTIONS = Options(method="tsit5", rtol=1e-8, augment=1, hold_out=1)


class Decay(torch.nn.Module):
    """x' = -h x with a hidden h, which never changes."""

    def forward(self, t, u):
        x, h = u.unbind(-1)
        return torch.stack((-h * x, 0 * h), -1)


def table(change=None, noise=0.0):
    """Decays; change(t, x) replaces the observations of the third."""
    generator = torch.Generator().manual_seed(0)
    runs = {}
    for k, rate in enumerate(RATES):
        x = torch.exp(-rate * T)
        x = x + noise * torch.randn(len(T), generator=generator, dtype=torch.float64)
        if k == 2 and change is not None:
            x = change(T, x)
        runs[f"run{k}"] = {"t": T.tolist(), "x": x.tolist()}
    return read(runs)


def estimated(data, options=OPTIONS):
    """The objective of data whose hidden states are known but for the third."""
    whole = with_hidden(data, 1, 5)
    scaling = replace(Scaling.of(whole, "kim"), y_min=(0.0, 0.0), y_scale=(1.0, 1.0))
    objective = Objective(whole, scaling, options)
    with torch.no_grad():
        objective.starts[:, -1] = torch.tensor(RATES, dtype=torch.float64)
        objective.starts[2, -1] = 9.0
    estimate_starts(objective, Decay(), HELD_OUT)
    return objective


def test_the_start_is_found_and_the_later_observations_are_not_seen():
    objective = estimated(table())
    assert objective.starts.tolist()[2] == pytest.approx([0.7], rel=1e-5)
    assert objective.told == [0, 0, 10, 0, 0] and PART == 0.25
    assert objective.starts.flatten().tolist()[:2] == list(RATES[:2])
    later = estimated(table(lambda t, x: torch.where(t > 1.0 + 1e-9, 5.0, x)))
    assert torch.equal(later.starts, objective.starts)
    sooner = estimated(table(lambda t, x: torch.exp(-0.8 * t)))
    assert sooner.starts.tolist()[2] == pytest.approx([0.8], rel=1e-5)


def test_with_noise_the_estimate_lies_between_the_observations_and_the_mean():
    def faster(t, x):
        return torch.exp(-2.0 * t)

    (clean,) = estimated(table(faster)).starts.tolist()[2]
    (noisy,) = estimated(table(faster, noise=0.3)).starts.tolist()[2]
    assert clean == pytest.approx(2.0, rel=1e-3)
    assert 0.7 < noisy < 1.95


def test_observed_starts_are_estimated_where_they_are_learned():
    def higher(t, x):
        return 1.2 * torch.exp(-0.7 * t)

    objective = estimated(table(higher), replace(OPTIONS, learn_starts=True))
    assert objective.starts[2].tolist() == pytest.approx([1.2, 0.7], rel=1e-3)


def test_a_run_keeps_the_estimate_and_judges_what_comes_after(tmp_path):
    options = replace(QUICK, augment=1, hold_out=1, epochs=2)
    run = fit(table(), options, tmp_path)
    stored = load_model(tmp_path / "model.pt")
    assert stored.starts == run.field.starts and set(stored.starts) == {f"run{k}" for k in range(5)}
    other = fit(table(lambda t, x: torch.where(t > 1.0 + 1e-9, 5.0, x)), options)
    assert other.field.starts["run2"] == pytest.approx(run.field.starts["run2"], rel=1e-6)
    assert other.verdict.states[0].held_out > 1 > run.verdict.states[0].held_out
