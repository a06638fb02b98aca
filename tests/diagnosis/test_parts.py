"""What a diagnosis is made of: turns, eigenvalues, estimates of steps, words."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pynode
from benchmarks.labelled import CASES, vector
from pynode.core.formatting import duration, number
from pynode.core.norm import Tolerance
from pynode.diagnosis.costs import needed
from pynode.diagnosis.dynamics import turns
from pynode.diagnosis.reference_solve import AttemptedStep, ReferenceSolve
from pynode.diagnosis.spectrum import Spectrum


def turned(*columns):
    states = torch.stack([torch.as_tensor(column, dtype=torch.float64) for column in columns], 1)
    return turns(
        SimpleNamespace(
            states=states,
            tol=Tolerance(1e-6, torch.tensor(1e-9, dtype=torch.float64), states.shape[1]),
        )
    )


def test_turning_points():
    """The first move is no turn, nor is what goes back by less than 0.02 of the range."""
    k = np.arange(101)
    # Five periods from a maximum on: five minima and four maxima between.
    swings = np.cos(2 * math.pi * k / 20)
    assert turned(0 * k, swings, k) == (9, 1) and turned(k, -swings) == (9, 1)
    assert turned(k + 0.3 * swings) == (0, None)
    stairs = np.cumsum([10, 10, -5] * 5)  # up by 20, back by 5
    assert turned(stairs) == (9, 0)


def spectrum(*rows, times=None, noise=0.0):
    times = list(range(len(rows))) if times is None else times
    return Spectrum(times, [np.array(row, complex) for row in rows], [noise] * len(rows), True)


def test_rates_of_a_spectrum():
    found = spectrum(
        [-100, -2, 1e-12], [-10, -0.5 + 3j, -0.5 - 3j, 0.25], times=[0.0, 0.1], noise=1e-9
    )
    assert (
        found.decay().tolist() == [100, 10]
        and found.slowest().tolist() == [2, 0.5]
        and found.growth().tolist() == [0, 0.25]
    )
    assert (
        found.frequency().tolist() == [0, 3]
        and found.ratio() == 50
        and found.largest().tolist() == [100, 10]
    )
    assert spectrum([-1], [-1e-10], noise=1e-9).slowest().tolist() == [1, 1e300]
    assert spectrum([-1 + 1.5j]).frequency().tolist() == [0] and spectrum(
        [-1 + 2.5j]
    ).frequency().tolist() == [2.5]
    uneven = spectrum([0], [0], [0], times=[3.0, 1.0, 0.0])  # backward in time
    assert uneven.integral(np.array([0.0, 4.0, 2.0])) == pytest.approx(2 * 2 + 3)


@pytest.mark.parametrize("value", [-10.0, -7 + 7j, -1 + 10j, 10j])
def test_the_steps_that_stability_asks_for(value):
    """A step of Tsit5 that is a little shorter keeps a mode from growing, a longer one does not."""
    (rate,), value = needed(spectrum([value, np.conj(value)])), complex(value)
    matrix = torch.tensor(
        [[value.real, value.imag], [-value.imag, value.real]], dtype=torch.float64
    )
    sizes = []
    for h in (0.97 / rate, 1.03 / rate):
        y = pynode.solve(
            lambda t, y: matrix @ y, vector(1.0, 0.0), [0.0, h], method="tsit5", step_size=h
        ).y[-1]
        sizes.append(float(y.norm()))
    assert sizes[0] <= 1.001 < sizes[1]
    assert needed(spectrum([1.0 + 50j])) == [0]


def test_who_limits_the_steps():
    attempts = [AttemptedStep(0.0, 1.0, 0.5, True, i) for i in (2, 0, 2, None, 2, 0, 1)]
    assert ReferenceSolve.dominating(SimpleNamespace(attempts=attempts)) == [
        (2, 0.5),
        (0, 2 / 6),
        (1, 1 / 6),
    ]


def test_an_easy_problem():
    """As many explicit steps as accuracy asks for, and a way back that amplifies nothing much; a
    stiff one beside it."""
    found = pynode.diagnose(lambda t, y: torch.cos(t) - y, vector(1.0), (0.0, 5.0), trials=False)
    assert found.costs.severity == 1 and not any(
        "Backsolve" in reason for reason in found.advice.reasons
    )
    stiff = pynode.diagnose(
        lambda t, y: 100 * (torch.cos(t) - y), vector(1.0), (0.0, 5.0), trials=False
    )
    assert any(
        "BacksolveAdjoint would amplify its errors by up to e^500" in reason
        for reason in stiff.advice.reasons
    )


def test_the_walk_is_taken_again_under_the_tolerances_proposed():
    f, y0, t, rtol, atol = next(case for case in CASES if case.name == "careless_robertson").make()
    found = pynode.diagnose(f, y0, t, rtol=rtol, atol=atol, trials=False)
    assert tuple(found.reference.tol.atol.tolist()) == found.advice.atol


def test_the_difference_from_the_walk():
    problem = pynode.problems.get("hires")
    found = pynode.diagnose(problem, rtol=1e-4)
    trial = next(trial for trial in found.trials if trial.finished)
    t0, t1 = found.reference.times[0], found.reference.reached
    times = [t0 + (t1 - t0) * i / 4 for i in range(5)]
    marks = torch.stack([found.reference.state(t) for t in times[1:]])
    with torch.no_grad():
        y = pynode.solve(
            problem.field, problem.y0, times, method=trial.method, rtol=1e-4, atol=found.advice.atol
        ).y[1:]
    off = (y - marks) / found.reference.tol.scale(marks)
    assert trial.difference == pytest.approx(float(off.square().mean().sqrt()), rel=1e-6)


def test_words():
    shown = {
        0: "0",
        0.0841: "0.084",
        152: "150",
        1.13e6: "1.1e6",
        1e6: "1e6",
        12345: "12,000",
        1.5e-4: "1.5e-4",
        -3.0: "-3",
    }
    assert {x: number(x) for x in shown} == shown and number(math.inf) == "inf"
    shown = {
        90: "1.5 min",
        5400: "1.5 h",
        2: "2 s",
        0.5: "500 ms",
        2e-5: "20 us",
        math.inf: "an unknown time",
    }
    assert {x: duration(x) for x in shown} == shown
