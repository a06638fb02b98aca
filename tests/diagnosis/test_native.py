"""``diagnose`` in native code finds what it finds with torch."""

import json
import math

import pytest
import torch

import pynode
from benchmarks.labelled import CASES, vector
from pynode.backends import registry
from pynode.cli import main
from pynode.core.status import Status

BY_NAME = {case.name: case for case in CASES}
# Rounding decides no step of these.
SAME_STEPS = (
    "prothero_robinson",
    "robertson",
    "lorenz",
    "fast_forcing",
    "network",
    "brusselator",
)


@pytest.fixture(autouse=True)
def packages():
    pytest.importorskip("numba")
    pytest.importorskip("llvmlite")


def diagnosed(name, **options):
    f, y0, t, rtol, atol = BY_NAME[name].make()
    return pynode.diagnose(f, y0, t, rtol=rtol, atol=atol, trials=False, **options)


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "heating"])
def test_labels(name):
    found = diagnosed(name, backend="native")
    assert found.labels == BY_NAME[name].labels
    assert found.backend == "native"
    assert " in native code: " in str(found)


@pytest.mark.parametrize("name", SAME_STEPS)
def test_the_findings_are_those_of_torch(name):
    here = diagnosed(name, backend="native")
    there = diagnosed(name)
    assert there.backend == "torch"
    for one, other in zip(here.reference.attempts, there.reference.attempts, strict=True):
        assert one.t == pytest.approx(other.t, rel=1e-3, abs=1e-12)
        assert one.h == pytest.approx(other.h, rel=1e-2)
        assert one.accepted == other.accepted
    assert len(here.reference.states) == len(here.reference.times) == len(there.reference.times)
    largest = [found.reference.dominating()[0] for found in (here, there)]
    assert largest[0][0] == largest[1][0]
    assert largest[0][1] == pytest.approx(largest[1][1], abs=0.05)
    assert here.reference.evaluations == pytest.approx(there.reference.evaluations, rel=0.05)
    assert here.turning == there.turning
    if there.lyapunov_growth is not None:
        assert here.lyapunov_growth == pytest.approx(there.lyapunov_growth, rel=1e-3, abs=1e-3)
    assert here.costs.severity == pytest.approx(there.costs.severity, rel=1e-2)
    middle = 0.5 * (there.reference.times[0] + there.reference.reached)
    states = [found.reference.state(middle) for found in (here, there)]
    assert torch.allclose(*states, rtol=1e-3, atol=1e-3)


def test_the_cause_of_a_failure():
    found = diagnosed("blow_up", backend="native")
    assert found.failure.cause == "blow-up"
    assert found.reference.reached == pytest.approx(diagnosed("blow_up").reference.reached)


def test_jumps_are_found_to_the_digit():
    assert [jump.t for jump in diagnosed("step_input", backend="native").jumps] == [1.3, 2.7]


def test_limits():
    """Of steps, of time, and of a solve in a sliding mode."""
    f, y0, t, *_ = BY_NAME["lorenz"].make()
    few = pynode.diagnose(f, y0, t, trials=False, max_steps=100, backend="native")
    assert few.reference.status is Status.MAX_STEPS
    assert len(few.reference.attempts) == 100
    assert few.reference.reached < t[1]
    short = pynode.diagnose(f, y0, t, trials=False, max_seconds=1e-9, backend="native")
    assert short.reference.status is Status.MAX_SECONDS

    def sliding(t, y):
        return -torch.sign(y - 0.1 * torch.sin(t))

    chattering = pynode.diagnose(
        sliding, vector(1.0), (0.0, 20.0), trials=False, max_steps=50_000, backend="native"
    )
    assert chattering.reference.status is Status.MAX_STEPS
    assert len(chattering.reference.attempts) < 20_000


def test_trials_run_in_native_code():
    found = pynode.diagnose("robertson", backend="native")
    methods = {trial.method for trial in found.trials}
    assert {"QNDF", "Rodas5P"} <= methods
    assert "RKC" not in methods
    assert found.advice.backend == "native"
    assert "backend='native'" in found.advice.call()
    assert "backend" not in pynode.diagnose("robertson", trials=False).advice.arguments()
    problem = pynode.problems.get("robertson")
    solution = pynode.solve(
        problem.field, problem.y0, problem.tspan, **found.advice.arguments(), throw=False
    )
    assert solution.success
    assert solution.backend == "native"
    assert all(math.isfinite(trial.difference) for trial in found.trials if trial.finished)


def decay(t, y):
    return -y


def by_value(t, y):
    return -y if float(y[0]) > 0.5 else y


@pytest.mark.parametrize(
    ("f", "options", "words"),
    [
        (decay, {"backend": "julia"}, "diagnose has no backend 'julia'"),
        (decay, {"backend": "native", "jac": lambda t, y: -torch.eye(1)}, "leave out jac"),
        (decay, {"backend": "native", "structure": "krylov"}, "leave out structure"),
        (by_value, {"backend": "native"}, "Python number"),
    ],
)
def test_what_is_not_taken(f, options, words):
    with pytest.raises(ValueError, match=words):
        pynode.diagnose(f, vector(1.0), (0.0, 1.0), **options)


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(registry, "missing_for_native", lambda: ("numba",))
    with pytest.raises(ValueError, match="backend='native' needs numba"):
        pynode.diagnose(decay, vector(1.0), (0.0, 1.0), backend="native")


def test_an_f_that_is_not_finite_at_the_start():
    found = pynode.diagnose(
        lambda t, y: y / (t * 0.0), vector(1.0), (0.0, 1.0), trials=False, backend="native"
    )
    assert found.reference.status is Status.NONFINITE


def test_the_command(capsys):
    arguments = ["diagnose", "lotka_volterra", "--no-trials", "--backend", "native", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "native"
