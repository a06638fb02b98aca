"""Trajectories: those held out, learned starts, and hidden states."""

from dataclasses import replace

import pytest
import torch

from pynode import solve
from pynode.data import read
from pynode.train import Options, Scaling, fit, load_model, plot_fit, understand
from pynode.train.accuracy import accuracy
from pynode.train.hidden import with_hidden
from pynode.train.holdout import held_out
from pynode.train.objective import Objective
from tests.support.training import QUICK, stiff_linear

T = torch.linspace(0.0, 4.0, 41, dtype=torch.float64)
POLISHED = Options(
    hidden=(12,), activation="tanh", scaling="kim", method="tsit5", rtol=1e-6, warm_start=0
)


def waves(noise=0.0, count=3):
    """Positions of undamped oscillators, whose speeds at the start differ."""
    generator = torch.Generator().manual_seed(1)
    runs = {}
    for k in range(count):
        y = torch.cos(1.5 * T) + 0.5 * k * torch.sin(1.5 * T)
        error = noise * torch.randn(41, generator=generator, dtype=torch.float64)
        runs[f"run{k}"] = {"t": T.tolist(), "x": (y + error).tolist()}
    return read(runs)


def decays(starts, rate=1.0):
    return read(
        {
            f"run{k}": {"t": T.tolist(), "x": (y0 * torch.exp(-rate * T)).tolist()}
            for k, y0 in enumerate(starts)
        }
    )


@pytest.mark.parametrize(
    ("count", "hold_out", "expected"),
    [(5, 1, [2]), (5, 2, [1, 3]), (10, 0.3, [1, 5, 8]), (2, 0.01, [1]), (4, 0, [])],
)
def test_held_out_trajectories_are_spread_over_the_file(count, hold_out, expected):
    flags = held_out(decays([1.0 + k for k in range(count)]), hold_out)
    assert [k for k, out in enumerate(flags) if out] == expected


def test_something_must_be_left_to_learn_from():
    with pytest.raises(ValueError, match="leaves no trajectory to learn from: there are 2"):
        held_out(decays([1.0, 2.0]), 2)
    with pytest.raises(ValueError, match="a share below 1"):
        Options(hold_out=1.5)


def test_training_does_not_see_what_is_held_out_and_the_verdict_does():
    """The same numbers elsewhere train the same weights; the verdict tells them apart."""
    options = replace(POLISHED, collocation=500, polish=15, epochs=0, hold_out=1)
    same = decays([1.0, 2.0, 3.0])
    other = read(
        {
            run.name: {"t": T.tolist(), "x": (run.y[:, 0] if k != 1 else run.y[:, 0] + T).tolist()}
            for k, run in enumerate(same.trajectories)
        }
    )
    good = fit(same, options)
    bad = fit(other, options)
    y = torch.tensor([1.5], dtype=torch.float64)
    assert torch.allclose(good.field(0.0, y), bad.field(0.0, y), rtol=1e-9)
    (state,) = good.verdict.states
    assert good.verdict.word == "learned" and state.held_out < 0.01
    assert bad.verdict.word != "learned"
    assert "in the trajectories held out" in bad.verdict.sentence


def test_a_learned_start_is_the_better_one():
    """The first observation of one of three exact decays is wrong: a learned start finds it."""
    tables = {
        run.name: {"t": T.tolist(), "x": run.y[:, 0].tolist()}
        for run in decays([1.0, 2.0, 3.0]).trajectories
    }
    tables["run1"]["x"][0] = 2.6
    data = read(tables)
    options = replace(POLISHED, collocation=300, polish=25, epochs=0, learn_starts=True)
    run = fit(data, options)
    assert abs(run.field.starts["run1"][0] - 2.0) < 0.3
    fixed = fit(data, replace(options, learn_starts=False))
    assert run.verdict.states[0].error < fixed.verdict.states[0].error


def test_first_observations_count_where_starts_are_learned():
    data = stiff_linear(((1.0, 0.0), (2.0, 0.0)))
    scaling = Scaling.of(data)
    plain = Objective(data, scaling, QUICK)
    learned = Objective(data, scaling, replace(QUICK, learn_starts=True))
    assert learned.count == plain.count + 4 and plain.learned == []
    assert learned.starts.shape == (2, 2)
    with torch.no_grad():
        learned.starts[0, 1] += 0.1

    def still(t, u):
        return 0 * u

    errors, _, _ = learned.errors(still, 0)
    assert float(errors[0, 1]) == pytest.approx(0.1) and float(errors[0, 0]) == 0.0
    errors, _, _ = plain.errors(still, 0)
    assert not bool(errors[0].any())


def test_hidden_states_begin_as_slopes():
    data = with_hidden(waves(count=1), 2, 3)
    assert data.columns == ("x", "hidden1", "hidden2")
    _, speed, change = data.trajectories[0].y.T
    expected = torch.stack((-torch.sin(1.5 * T), -torch.cos(1.5 * T)), 1)[3:-3]
    for found, truth in zip((speed, change), expected.T, strict=True):
        both = torch.stack((found[3:-3], truth))
        assert abs(float(torch.corrcoef(both)[0, 1])) > 0.98


def test_a_hidden_state_makes_an_oscillation_learnable(tmp_path, figures):
    """One coordinate of an oscillator goes on in two ways from the same value."""
    data = waves()
    choice = understand(data, {"augment": 1}).options
    run = fit(data, choice, tmp_path)
    assert run.verdict.word == "learned", run.verdict.sentence
    assert len(run.verdict.states) == 1 and run.field.columns == ("x", "hidden1")
    stored = load_model(tmp_path / "model.pt")
    assert stored.starts == run.field.starts and set(stored.starts) == {"run0", "run1", "run2"}
    assert max(accuracy(stored, data, method="tsit5").of_largest) < 0.05
    plot_fit(tmp_path / "fit.png", stored, data, "tsit5", held_out=(False, True, False))
    (figure,) = figures
    assert [line.get_linestyle() for line in figure.axes[0].lines[::2]] == ["-", "--", "-"]
    y = solve(stored, stored.y0, T, method="tsit5", rtol=1e-7, atol=1e-9).y
    assert float((y[:, 0] - data.trajectories[0].y[:, 0]).abs().max()) < 0.05


def test_runs_with_hidden_states_and_learned_starts_resume_to_the_bit(tmp_path):
    data = stiff_linear(((1.0, 0.0), (2.0, 0.0), (3.0, 0.0)))
    options = replace(
        QUICK, augment=1, learn_starts=True, hold_out=1, epochs=3, polish=2, segments=2
    )
    whole = fit(data, options)
    fit(data, replace(options, polish=1), tmp_path)
    resumed = fit(data, options, tmp_path, resume=True)
    assert resumed.field.starts == whole.field.starts and resumed.best == whole.best
    assert set(whole.field.starts) == {"run 0", "run 1", "run 2"}
    unknown = whole.field.start_of(replace(data.trajectories[1], name="unknown"))
    assert unknown[:2].tolist() == data.trajectories[1].y[0].tolist()
    hidden = [start[2] for start in whole.field.starts.values()]
    assert float(unknown[2]) == pytest.approx(sum(hidden) / 3)
