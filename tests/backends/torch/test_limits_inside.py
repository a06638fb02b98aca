"""Limits hold inside a step: evaluations of f, and the clock, also while an event is looked for."""

import pytest
import torch

from pynode import Event, SolveError, Status, solve
from tests.support.cases import FAMILIES, prothero, tensor


class Clock:
    """A clock that f or a condition moves on: a second a call."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("pynode.core.stop_conditions.time.monotonic", lambda: self.now)

    def ticking(self, function):
        def called(t, y):
            self.now += 1.0
            return function(t, y)

        return called


def relaxing(rate, calls):
    """y' = -rate (y - cos t), counted."""

    def f(t, y):
        calls.append(float(t))
        return -rate * (y - torch.cos(t))

    return f


@pytest.mark.parametrize("rate", [1e10, 1e14])
def test_a_step_of_many_stages_keeps_to_max_nfe(rate):
    """RKC takes up to 20,000 stages in a step, of which 1,000 may be made."""
    calls = []
    with pytest.raises(SolveError, match="stiff") as caught:
        solve(relaxing(rate, calls), tensor(1.0), (0.0, 1.0), method="rkc", max_nfe=1000)
    solution = caught.value.solution
    assert solution.status is Status.MAX_EVALUATIONS and solution.stats.nfe == 1000
    assert len(calls) < 1010 and bool(torch.isfinite(solution.y).all())


def test_many_stages_end_without_a_limit():
    """What max_steps stands for bounds the evaluations: else the default would run for hours."""
    calls = []
    with pytest.raises(SolveError, match="stiff") as caught:
        solve(relaxing(1e14, calls), tensor(1.0), (0.0, 1.0), method="rkc", max_steps=100)
    assert caught.value.status is Status.MAX_EVALUATIONS and len(calls) < 1010


def test_a_step_of_many_stages_keeps_to_max_seconds(monkeypatch):
    clock, calls = Clock(monkeypatch), []
    with pytest.raises(SolveError, match="wall-clock") as caught:
        f = clock.ticking(relaxing(1e14, calls))
        solve(f, tensor(1.0), (0.0, 1.0), method="rkc", max_seconds=300.0)
    assert caught.value.status is Status.MAX_SECONDS and len(calls) < 310


@pytest.mark.parametrize("method", [*FAMILIES, "Kvaerno5", "RKC", "RadauIIA5"])
@pytest.mark.parametrize("limit", [9, 40])
def test_no_method_goes_beyond_max_nfe(method, limit):
    """In stages and in Newton's iterations; what was reached before is kept, with its gradient."""
    y0 = tensor(1.0, requires_grad=True)
    solution = solve(
        prothero(-2.0), y0, [0.0, 1e-7, 100.0], method=method, max_nfe=limit, throw=False
    )
    assert solution.status is Status.MAX_EVALUATIONS and solution.stats.nfe <= limit
    solution.y[-1].sum().backward()
    assert 0.9 < float(y0.grad) <= 1.0


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
def test_the_search_for_an_event_keeps_to_max_seconds(method, monkeypatch):
    """A slow condition: its root is not found to the last digit first."""
    clock, calls = Clock(monkeypatch), []

    def condition(t, y):
        calls.append(t)
        return torch.exp(3 * y) - 5.0

    event = Event(clock.ticking(condition), terminal=True)
    with pytest.raises(SolveError, match="wall-clock") as caught:
        solve(
            lambda t, y: -y,
            tensor(1.0),
            (0.0, 2.0),
            method=method,
            events=event,
            max_seconds=8.0,
            first_step=0.9,
            rtol=1e-1,
            atol=1e-1,
        )
    assert caught.value.status is Status.MAX_SECONDS and len(calls) < 16
