"""Limits hold inside a step: evaluations of f, and the clock, also while an event is looked for."""

import pytest
import torch

from pynode import SolveError, Status, solve
from tests.support.cases import FAMILIES, prothero, tensor


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


def test_a_step_of_many_stages_keeps_to_max_seconds(clock):
    calls = []
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
