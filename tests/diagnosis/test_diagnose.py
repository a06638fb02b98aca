"""``diagnose``: the nature of twenty labelled problems, the findings one by one, the report, the
picture, the command."""

import json
import math

import numpy as np
import pytest
import torch

import pynode
from benchmarks.labelled import CASES, vector
from pynode.cli import main
from pynode.diagnosis.costs import boundary
from pynode.diagnosis.race import Trial, winner
from pynode.diagnosis.spectrum import POINTS
from tests.support.pictures import check_legends, count, crosses, curves, words

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def seen():
    """Diagnoses without trials, made once: seen('robertson')."""
    made, by_name = {}, {case.name: case for case in CASES}

    def look(name):
        if name not in made:
            f, y0, t, rtol, atol = by_name[name].make()
            made[name] = pynode.diagnose(f, y0, t, rtol=rtol, atol=atol, trials=False)
        return made[name]

    return look


@every_case
def test_labels(case, seen):
    assert len(CASES) == 20
    found = seen(case.name)
    assert found.labels == case.labels, f"{case.why}\n{found}"


def test_eigenvalues_are_those_of_the_system(seen):
    found = seen("damped_oscillator").spectrum  # -0.03 +- i 20
    assert (
        found.complete
        and np.allclose(found.decay(), 0.03, rtol=1e-6)
        and np.allclose(found.frequency(), 20, rtol=1e-4)
    )
    assert not found.growth().any() and found.ratio() == pytest.approx(1, rel=1e-6)
    assert found.integral(found.frequency()) == pytest.approx(20 * 10, rel=1e-4)
    heat = seen("heat").spectrum
    modes = 4 * 81**2 * np.sin(math.pi * np.array([1, 80]) / 162) ** 2
    assert np.allclose(heat.slowest(), modes[0], rtol=1e-6) and np.allclose(
        heat.decay(), modes[1], rtol=1e-9
    )


def test_arnoldi_finds_the_extreme_eigenvalue(seen):
    found = seen("brusselator").spectrum
    assert not found.complete and math.isnan(found.ratio())
    problem = next(case for case in CASES if case.name == "brusselator").make()
    exact = torch.linalg.eigvals(problem.f.jac(0.0, problem.y0).detach()).abs().max()
    steps = len(seen("brusselator").reference.times)
    assert len(found.times) == min(POINTS, steps) and found.times[-1] == 1.0
    assert found.largest()[0] == pytest.approx(float(exact), rel=1e-3)


def test_stability_region_of_tsit5():
    angles, radii = boundary()
    assert radii[0] == pytest.approx(3.51, abs=0.05)  # the negative axis; AutoSwitch finds the same
    assert radii[0] == pytest.approx(pynode.methods.registry.get("autotsit5").boundary, abs=0.03)
    assert len(angles) == len(radii) and (radii > 0.5).all()


def test_the_estimate_of_explicit_steps_holds():
    """Tsit5 on a stiff linear system takes as many steps as are foretold."""
    f, y0, t, rtol, atol = next(case for case in CASES if case.name == "stiff_oscillator").make()
    t = (0.0, 0.5)
    found = pynode.diagnose(f, y0, t, rtol=rtol, atol=atol, trials=False)
    steps = pynode.solve(f, y0, t, method="tsit5", rtol=rtol, atol=atol).stats.accepted
    assert found.costs.explicit_steps == pytest.approx(steps, rel=0.25)


def test_jumps_are_found_to_the_digit(seen):
    first, second = seen("step_input").jumps
    assert (
        (first.t, second.t) == (1.3, 2.7)
        and first.timed
        and second.timed
        and first.components == (1,)
    )
    assert seen("step_input").advice.arguments()["jumps"] == [1.3, 2.7]
    friction = seen("friction")
    assert (
        all(not jump.timed for jump in friction.jumps if not jump.slope_discontinuity)
        and "jumps" not in friction.advice.arguments()
    )
    states = friction.reference.path.evaluate([jump.t for jump in friction.jumps])
    assert float(states[:, 1].abs().max()) < 1e-6  # it jumps where the velocity is zero


def test_jumps_near_one_another_are_told_apart():
    """Both ends of a pulse inside one refused step, and backwards in time."""

    def f(t, y):
        return 100 * ((t > 4) & (t < 4.1)).to(y.dtype) - y + torch.cos(t)

    assert [jump.t for jump in pynode.diagnose(f, vector(1.0), (0.0, 6.0), trials=False).jumps] == [
        4.0,
        4.1,
    ]
    back = pynode.diagnose(lambda t, y: -f(-t, y), vector(1.0), (0.0, -6.0), trials=False)
    assert [jump.t for jump in back.jumps] == [-4.0, -4.1]


def test_a_kink_is_no_jump():
    def f(t, y):
        return torch.stack((50 * (t - 1.5).abs() - y[0],))

    found = pynode.diagnose(f, vector(0.0), (0.0, 3.0), rtol=1e-8, trials=False)
    assert [jump.slope_discontinuity for jump in found.jumps] == [True] and found.jumps[
        0
    ].t == pytest.approx(1.5, abs=1e-2)
    assert not found.labels and "1 kink" in str(found)


def test_a_steep_slope_is_no_jump():
    found = pynode.diagnose(
        lambda t, y: torch.tanh(300 * (t - 0.61)) - y, vector(0.0), (0.0, 2.0), trials=False
    )
    assert found.reference.rejected and not found.jumps


def test_the_proposed_tolerance_suits(seen):
    found = seen("careless_robertson")
    assert found.scales.below_atol == (1,) and 1e-16 < found.advice.atol[1] < 1e-12
    assert found.advice.atol[0] == found.advice.atol[2] == 1e-4
    f, y0, t, _, _ = next(case for case in CASES if case.name == "careless_robertson").make()
    with torch.no_grad():
        solution = pynode.solve(f, y0, t, **found.advice.arguments())
        exact = pynode.solve(f, y0, t, method="rodas5p", rtol=1e-8, atol=1e-16).y[-1]
    assert float((solution.y[-1] / exact - 1).abs().max()) < 0.1


def test_neighbours_part_at_the_rate_of_the_system():
    start = vector(1e-6, 1.0)
    found = pynode.diagnose(
        lambda t, y: torch.stack((2 * y[0], -y[1])), start, (0.0, 5.0), trials=False
    )
    assert found.lyapunov_growth == pytest.approx(10, rel=0.02) and found.labels == {"unstable"}
    alone = pynode.diagnose(lambda t, y: -y, start, (0.0, 5.0), trials=False)
    assert alone.lyapunov_growth == pytest.approx(-5, rel=0.02) and not alone.labels


def test_limits_end_the_walk_and_are_told():
    f, y0, t, rtol, atol = next(case for case in CASES if case.name == "damped_oscillator").make()
    found = pynode.diagnose(f, y0, t, rtol=rtol, atol=atol, max_steps=100, trials=False)
    assert found.reference.status is pynode.Status.MAX_STEPS and found.reference.reached < 2
    words = " ".join(str(found).split())
    assert "about the part that was reached" in words and "blows up" not in found.labels
    assert (
        found.failure.status is found.reference.status
        and found.failure.remedy in found.advice.reasons
    )


def test_trials_choose_and_the_report_says_why(monkeypatch, clock):
    """The evaluations of f move the clock, so that the trials end alike on every machine."""
    problem = pynode.problems.get("hires")
    clock.serve("pynode.diagnosis.race", "pynode.diagnosis.reference_solve")
    monkeypatch.setattr(problem.field, "forward", clock.ticking(problem.field.forward, 1e-4))
    found = pynode.diagnose(problem)
    finished = [trial for trial in found.trials if trial.finished]
    assert len(finished) >= 2 and finished == sorted(finished, key=lambda trial: trial.seconds)
    chosen = next(trial for trial in finished if trial.method == found.advice.method)
    assert chosen.seconds <= 1.15 * finished[0].seconds or finished[0].difference > 100
    assert pynode.methods.registry.get(found.advice.method).implicit
    assert all(trial.difference < 1e3 for trial in finished)
    text = str(found)
    for word in (
        "STIFF",
        "hires: 8 states",
        "stiffness ratio",
        "Rodas5P took",
        "when tried here",
        "DiscreteAdjoint",
    ):
        assert word in text
    solution = pynode.solve(problem.field, problem.y0, problem.tspan, **found.advice.arguments())
    assert solution.success and solution.method == found.advice.method


def test_of_equally_fast_methods_the_nearest_wins():
    def trial(method, seconds, difference):
        return Trial(method, "dense", seconds, math.isfinite(difference), "", 10, 100, difference)

    trials = [
        trial("Tsit5", 1.0, 300.0),
        trial("QNDF", 1.1, 5.0),
        trial("RadauIIA9", 1.2, 0.1),
        trial("Rodas5P", 2.0, 0.01),
    ]
    assert winner(trials, False).method == "RadauIIA9"
    assert winner(trials, True).method == "Tsit5"
    assert winner(trials[:2], False).method == "QNDF"
    assert winner([trial("QNDF", 1.0, 0.9), trial("FBDF", 1.1, 0.1)], False).method == "QNDF"
    assert winner(trials[:1], False).method == "Tsit5"
    assert winner([trial("FBDF", 1.0, math.nan)], False) is None


def test_structured_states_and_problems_are_taken(tmp_path):
    start = {"a": vector(1.0), "b": torch.zeros(2, dtype=torch.float64)}

    def f(t, y, rate):
        return {"a": -rate * y["a"], "b": rate * y["a"] - y["b"]}

    found = pynode.diagnose(pynode.ODEProblem(f, start, (0.0, 3.0), (2.0,)), names="abc")
    assert (
        found.called(2) == "c"
        and not found.labels
        and found.trials
        and found.trials[0].difference < 100
    )
    back = pynode.diagnose(lambda t, y: -y, vector(1.0), (3.0, 0.0), trials=False)
    assert back.reference.reached == 0 and back.lyapunov_growth > 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"names": ["x"]}, "1 names for 2 states"),
        ({"structure": "nonsense"}, "unknown structure"),
        ({"rtol": -1.0}, "rtol must be"),
    ],
)
def test_mistakes_are_told_at_the_door(arguments, words):
    with pytest.raises(ValueError, match=words):
        pynode.diagnose(lambda t, y: -y, vector(1.0, 2.0), (0.0, 1.0), **arguments)


def test_a_mass_matrix_is_refused():
    with pytest.raises(ValueError, match="without a mass matrix"):
        pynode.diagnose(
            pynode.ODEProblem(
                lambda t, y: -y, vector(1.0), (0.0, 1.0), mass=torch.ones(1, dtype=torch.float64)
            )
        )


def test_gradients_stay_untouched():
    net = torch.nn.Linear(2, 2, dtype=torch.float64)
    found = pynode.diagnose(lambda t, y: net(y), vector(1.0, 0.5), (0.0, 1.0), trials=False)
    assert net.weight.grad is None and net.weight.requires_grad and found.advice is not None


@pytest.mark.parametrize("name", ["robertson", "vanderpol", "step_input"])
def test_pictures_and_data(name, seen, tmp_path, figures):
    """On a logarithmic axis, a stretched one, and a linear one with jumps."""
    found = seen(name)
    assert found.plot(tmp_path / "picture.png").exists()
    eigenvalues, steps, solution = figures[0].axes
    assert figures[0].get_suptitle().startswith(f"{found.name}: ")
    check_legends(figures[0])
    assert "fastest decay" in curves(eigenvalues)
    jumps = 2 * len(found.jumps)  # a vertical line has two points
    assert count(steps) == len(found.reference.accepted) + len(found.reference.rejected) + jumps
    assert all(len(points) > len(found.reference.sizes) for points in curves(solution).values())
    plain = json.loads(found.to_json(tmp_path / "data.json").read_text())
    assert plain["labels"] == sorted(found.labels) and plain["reference"]["accepted"] == len(
        found.reference.sizes
    )
    assert (
        len(plain["spectrum"]["decay"]) == len(plain["spectrum"]["t"])
        and plain["advice"]["call"] == found.advice.call()
    )


def test_the_picture_of_a_failed_solve_ends_with_a_cross():
    found = pynode.diagnose(lambda t, y: y * y, vector(1.0), (0.0, 2.0), trials=False)
    assert not found.reference.status.success
    figure = found.figure()
    check_legends(figure)
    assert words(figure)[-1] == "the solve failed here"
    ((t, _),) = crosses(figure.axes[2])
    last = figure.axes[2].lines[0].get_xdata()[-1]
    assert t == last


def test_the_command(tmp_path, capsys):
    assert (
        main(["diagnose", "robertson", "--no-trials", "--rtol", "1e-4", "--out", str(tmp_path)])
        == 0
    )
    told = capsys.readouterr().out
    assert (
        "robertson: 3 states" in told and "STIFF" in told and "of B" not in told and "A in" in told
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "diagnosis-robertson.json",
        "diagnosis-robertson.png",
    }
    assert main(["diagnose", "spiral", "--no-trials", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states"] == 2
    assert (
        main(["diagnose", "nothing"]) == 2
        and "neither a model file nor a problem" in capsys.readouterr().err
    )
    assert main(["diagnose", "robertson", "--rtol", "-1"]) == 2
    assert "'-1' is not a positive number" in capsys.readouterr().err


def test_a_sliding_mode_is_given_up_soon():
    """Most steps are refused and the rest lead nowhere: neither max_steps of them are taken, nor a
    second reference solve."""

    def f(t, y):
        return torch.stack((0.5 * torch.cos(t) - torch.sign(y[0]), y[0] - y[1]))

    found = pynode.diagnose(f, vector(0.3, 0.0), (0.0, 3.0), trials=False)
    assert (
        found.reference.status is pynode.Status.MAX_STEPS
        and len(found.reference.attempts) <= 2000
        and 0.5 < found.reference.reached < 0.7
    )
    assert found.labels == {"discontinuous"} and found.failure.cause == "jump of f in the state"
