"""The training kit as options of a run: each does what it says, and a run with all of them resumes
to the bit."""

import json
from dataclasses import replace

import pytest
import torch

from pynode.cli import main
from pynode.train import Options, ScaledField, Scaling, descend, fit
from pynode.train.kim2021 import SETUPS, reproduce
from pynode.train.objective import Objective
from pynode.train.phases import Plan
from pynode.train.progress import Lines
from tests.support.training import QUICK, stiff_linear, weights

COLD = replace(QUICK, warm_start=0)


@pytest.fixture(scope="module")
def data():
    return stiff_linear()


class Still(torch.nn.Module):
    def forward(self, t, u):
        return 0 * u


def objective(data, **options):
    options = Options(**options)
    return Objective(data, Scaling.of(data, options.scaling), options)


def test_errors_relative_to_values_and_weighted(data):
    run, plain = data.trajectories[0], objective(data)
    scale = torch.tensor(Scaling.of(data).y_scale, dtype=torch.float64)
    error, seen = (run.y[:1] - run.y).abs()[1:], run.seen[1:]
    assert plain.baseline() == pytest.approx(float((error / scale)[seen].mean()))
    relative = objective(data, relative=0.2).baseline()
    assert relative == pytest.approx(
        float((error / torch.maximum(run.y.abs()[1:], 0.2 * scale))[seen].mean())
    )
    weighted = objective(data, weights=(2.0, 0.5)).baseline()
    assert weighted == pytest.approx(float((error / scale * torch.tensor([2.0, 0.5]))[seen].mean()))
    with pytest.raises(ValueError, match="1 weights for 2 states: give one for each of fast, slow"):
        objective(data, weights=(1.0,))


def test_held_out_observations_are_judged_apart(data):
    """Both means together are the mean over all, and a field's gradient does not see the part held
    out."""
    whole, parted = objective(data), objective(data, validation=0.4)
    assert whole.count == parted.count + parted.held_count and parted.held_count > 3
    value, held = parted.value(Still())
    both = (value * parted.count + held * parted.held_count) / whole.count
    assert both == pytest.approx(whole.value(Still())[0])
    with pytest.raises(ValueError, match="leaves nothing on one side"):
        objective(data, validation=1e-9)


def test_a_sample_is_a_part_of_the_observations(data):
    found = objective(data, sample=4)
    generator = torch.Generator().manual_seed(0)
    found.draw(generator)
    assert 2 <= len(found.rows[0]) <= 5 and int(found.rows[0][0]) == 0
    part, _, solved = found.part(Still(), 0)
    run = data.trajectories[0]
    assert solved[0].t.tolist() == run.t[found.rows[0]].tolist()
    scale = torch.tensor(Scaling.of(data).y_scale, dtype=torch.float64)
    error = (((run.y[:1] - run.y) / scale).abs() * run.seen)[found.rows[0][1:]]
    assert float(part) == pytest.approx(float(error.sum() / run.seen[found.rows[0][1:]].sum()))
    assert found.value(Still())[0] == pytest.approx(objective(data).value(Still())[0])


def test_the_ends_of_segments_weigh_more(data):
    """Of states that stay where their segment starts, every third observation: the errors, and
    twice those at the ends."""
    found = objective(data, shooting=3, continuity=2.0, loss="mse")
    run, (weighted,) = data.trajectories[0], found.runs
    starts = torch.arange(len(run.t) - 1) // 3 * 3
    squares = ((weighted.u[starts] - weighted.u[1:]) * run.seen[1:]) ** 2
    expected = (squares.sum() + 2 * squares[[2, 5, 8, 11]].sum()) / found.count
    part, _, solved = found.part(Still(), 0, 3)
    assert len(solved) == 5 and float(part) == pytest.approx(float(expected))


def test_residuals_are_the_mean_square(data):
    found = objective(data, loss="mse", relative=0.3, weights=(1.0, 3.0))
    r = torch.cat(found.residuals(Still(), lambda solution: None))
    assert float(r @ r) == pytest.approx(found.value(Still())[0])


def test_the_rate_and_the_phases_of_a_plan():
    """The rate falls to a hundredth with the epochs or the time, whichever is nearer its end; half
    the time is for a polish."""
    plan = Plan(Options(epochs=10, polish=3, time_limit=100.0, lr=1.0))
    assert [
        plan.rate(epoch, seconds) for epoch, seconds in ((0, 0), (5, 0), (10, 0), (0, 25), (5, 50))
    ] == pytest.approx([1.0, 0.505, 0.01, 0.505, 0.01])
    assert [plan.next(*at) for at in ((9, 49), (10, 1), (1, 51), (1, 101))] == [
        "descent",
        "polish",
        "polish",
        None,
    ]
    plan.enter("polish", 4)
    assert [plan.next(epoch, 99) for epoch in (6, 7)] == ["polish", None]


def test_polish_is_of_all_observations(data):
    """Also after epochs of samples: the polish of the last draw alone would leave the others
    aside."""
    run = fit(data, replace(QUICK, epochs=2, polish=3, sample=3, warm_start=100, rtol=1e-5))
    assert [record["phase"] for record in run.history[1:]] == ["descent"] * 2 + ["polish"] * 3
    found = objective(data, sample=3)
    found.draw(torch.Generator().manual_seed(0))
    r = torch.cat(found.residuals(Still(), lambda solution: None))
    assert len(r) == found.count > found.drawn


def test_shooting_comes_first(data):
    run = fit(data, replace(COLD, epochs=6, shooting=3, lr=1e-2))
    assert [record["phase"] for record in run.history[1:]] == ["shooting"] * 3 + ["descent"] * 3
    # Segments that start at the observations end nearer to the next ones than a whole solve does.
    assert run.history[3]["loss"] < 0.7 * run.history[4]["loss"]
    assert run.best <= min(record["loss"] for record in run.history[4:])
    assert run.best == pytest.approx(
        objective(data, rtol=COLD.rtol).value(run.field.field)[0], rel=1e-9
    )


def test_what_is_told_of_a_run_that_ends_in_shooting_is_of_whole_solves(data):
    class Stop(Lines):
        def epoch(self, record, epochs, best):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

    run = fit(data, replace(COLD, epochs=6, shooting=3, lr=1e-2), progress=Stop())
    assert run.interrupted and run.history[-1]["phase"] == "shooting"
    assert run.best == pytest.approx(
        objective(data, rtol=COLD.rtol).value(run.field.field)[0], rel=1e-9
    )


def test_polish_learns_more_than_adam(data):
    run = fit(data, replace(QUICK, epochs=3, polish=6, warm_start=100, rtol=1e-5))
    assert [record["phase"] for record in run.history[1:]] == ["descent"] * 3 + ["polish"] * 6
    assert run.best < 0.4 * run.history[3]["loss"]
    assert all(record["backward_nfe"] > 0 and record["nfe"] > 0 for record in run.history[1:])


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_polish_beyond_the_reach_of_forward_sensitivities(data, monkeypatch, backend):
    """The derivatives are the same from one pullback an error."""
    if backend == "native":
        pytest.importorskip("numba")
        pytest.importorskip("llvmlite")
    options = replace(COLD, epochs=0, polish=2, backend=backend)
    carried = fit(data, options)
    assert carried.history[-1]["backward_nfe"] > 0
    monkeypatch.setattr(Options, "forward_columns", 3)
    assert fit(data, options).best == pytest.approx(carried.best, rel=1e-6)
    if backend == "torch":
        rkc = replace(options, method="rkc", polish=1, rtol=1e-2)
        assert fit(data, rkc).best < carried.baseline


def test_collocation_is_a_start(data):
    """Its first solve is nearer to the data than that of states that hardly move."""
    run = fit(data, replace(COLD, collocation=300, epochs=1))
    assert run.history[1]["loss"] < 0.5 * run.baseline


def test_gradients_are_normalised_and_the_rate_is_constant(data, monkeypatch):
    norms, real = [], descend.normalise_gradients

    def spy(parameters, norm):
        norms.append(norm)
        return real(parameters, norm)

    monkeypatch.setattr(descend, "normalise_gradients", spy)
    run = fit(
        data,
        replace(COLD, normalise=7.0, schedule="constant", optimizer="adamw", weight_decay=1e-3),
    )
    assert norms == [7.0] * 4 and [record["lr"] for record in run.history[1:]] == [COLD.lr] * 4


def test_a_run_without_progress_stops_and_keeps_the_best(data):
    said = []

    class Listener(Lines):
        def say(self, text):
            said.append(text)

    run = fit(
        data,
        replace(COLD, epochs=200, lr=0.3, schedule="constant", patience=6),
        progress=Listener(),
    )
    losses = [record["loss"] for record in run.history[1:]]
    assert len(losses) < 150 and "no progress in 6 epochs" in said[-1]
    assert run.best <= min(losses)
    found, _ = Objective(data, Scaling.of(data), COLD).value(run.field.field)
    assert found == pytest.approx(run.best, rel=1e-9)


def test_the_best_of_held_out_observations_is_kept(data):
    run = fit(data, replace(COLD, epochs=8, validation=0.4, lr=2e-2))
    held = [record["held_out"] for record in run.history]
    assert held[0] is None and run.best <= min(held[1:])
    assert run.history[1]["loss"] != pytest.approx(held[1])


def test_a_run_with_all_of_it_resumes_to_the_bit(tmp_path):
    data = stiff_linear(((1.0, 0.0), (0.5, 1.0), (0.2, 0.5)))
    options = replace(
        QUICK,
        epochs=4,
        polish=3,
        warm_start=5,
        collocation=5,
        candidates=1,
        batch=2,
        shooting=4,
        validation=0.3,
        patience=9,
        normalise=1.0,
        optimizer="adamw",
        weights=(1.0, 2.0),
        relative=0.1,
    )
    whole = fit(data, options, tmp_path / "whole")

    class Stop(Lines):
        def __init__(self, at):
            super().__init__()
            self.at = at

        def epoch(self, record, epochs, best):
            if record["epoch"] == self.at:
                raise KeyboardInterrupt

    for resume, at in ((False, 1), (True, 3), (True, 5), (True, None)):
        parts = fit(data, options, tmp_path / "parts", resume=resume, progress=Stop(at))
    assert (
        len(parts.history) == 8
        and torch.equal(weights(whole), weights(parts))
        and whole.best == parts.best
    )
    for a, b in zip(whole.history, parts.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


def test_sampled_epochs_resume_to_the_bit(data, tmp_path):
    options = replace(COLD, sample=5)
    whole = fit(data, options)
    fit(data, replace(options, epochs=2, schedule="constant"), tmp_path)
    again = fit(data, replace(options, epochs=2, schedule="constant"), tmp_path / "b")
    constant = fit(data, replace(options, schedule="constant"), tmp_path, resume=True)
    assert (
        len(constant.history) == 5
        and constant.history[1]["loss"] == again.history[1]["loss"] == whole.history[1]["loss"]
    )
    assert torch.equal(weights(constant), weights(fit(data, replace(options, schedule="constant"))))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"schedule": "step"}, "unknown schedule"),
        ({"validation": 1.0}, "validation must be a fraction below 1"),
        ({"weights": (1.0, 0.0)}, "weights must be positive"),
        ({"polish": -1}, "polish must be at least 0"),
        ({"shooting": 3, "sample": 5}, "use one of them"),
    ],
)
def test_options_are_checked_at_the_door(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Options(**options)


@pytest.mark.parametrize("name, states, values", [("robertson", 3, 150), ("pollution", 20, 380)])
def test_the_setups_are_those_of_the_paper(name, states, values):
    setup = SETUPS[name]
    data = setup.data()
    assert len(data.columns) == states and data.observations == values
    for options in (setup.paper, setup.kit):
        assert options.activation == "gelu" and options.method == "fbdf"
        assert options.hidden == {"robertson": (5,) * 6, "pollution": (10,) * 3}[name]
    assert setup.paper.scaling == "kim" and setup.paper.lr == 5e-3 and setup.paper.loss == "mae"
    run, scaling = data.trajectories[0], Scaling.of(data, "kim")
    assert scaling.t_scale == (float(run.t[-1]),) * states
    with torch.no_grad():
        net = torch.nn.Identity()
        u = scaling.scaled(run.y)
        assert torch.allclose(ScaledField(net, scaling)(0.0, u) * run.t[-1], u)


def test_reproducing_a_setup(tmp_path, capsys):
    """One command: trains, says the errors of every species and what explicit methods cost, and
    draws."""
    out = tmp_path / "out"
    arguments = [
        "--epochs",
        "2",
        "--polish",
        "1",
        "--max-nfe",
        "300",
        "--trainings",
        "paper",
        "--out",
        str(out),
    ]
    assert main(["reproduce", "robertson", *arguments]) == 0
    text, talk = capsys.readouterr()
    assert (
        "2 epochs of adamw, 1 of Levenberg-Marquardt" in talk
        and "the true system" in text
        and "Tsit5" in text
    )
    for column in "ABC":
        assert f"\n  {column} " in text
    assert (out / "result.txt").read_text() in text
    assert {path.name for path in (out / "paper").iterdir()} >= {
        "model.pt",
        "fit.png",
        "loss.png",
        "history.csv",
    }
    cheap = [
        "--epochs",
        "1",
        "--polish",
        "0",
        "--max-nfe",
        "0",
        "--trainings",
        "paper",
        "--out",
        str(out),
        "--json",
    ]
    assert main(["reproduce", "robertson", *cheap]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["trainings"]["paper"]["epochs"] == 1
        and len(found["trainings"]["paper"]["pointwise"]) == 3
    )
    assert found["costs"] == [] and str(out / "result.txt") in found["files"]


def test_reproducing_what_is_not_there():
    with pytest.raises(ValueError, match="there is no set-up 'hires'"):
        reproduce("hires")
    with pytest.raises(ValueError, match="there is no training 'mine'"):
        reproduce("robertson", trainings=("mine",))
