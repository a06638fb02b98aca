"""Edges of Julia's solves that the other engines do not have in this form.

What all engines have in common is in tests/contract, and in the tests with an ``engine``.
"""

import pytest
import torch

from pynode import RejectStep, Status, solve
from pynode.adjoints.julia import NATIVE
from tests.support.cases import leaf, tensor
from tests.support.juliacase import julia
from tests.support.odd_fields import KINDS, Y0, Field

FAMILIES = ["Tsit5", "Rodas5P", "QNDF"]
each_family = pytest.mark.parametrize("method", FAMILIES)
# Limits hold inside a step.


@each_family
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_step_of_slow_evaluations_keeps_to_max_seconds(method, backward, clock):
    """The clock is looked at in every evaluation: the first step is not finished."""
    calls = []
    f = clock.ticking(lambda t, y: calls.append(t) or -y)
    times = [1.0, 0.0] if backward else [0.0, 1.0]
    with torch.no_grad():
        solution = julia(f, tensor(1.0), times, method=method, max_seconds=4.0, throw=False)
    assert solution.status is Status.MAX_SECONDS and solution.stats.accepted == 0
    assert solution.t.tolist() == times[:1] and len(calls) < 12


# What else may happen inside f.


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, "Tsit5") for kind in KINDS] + [("checkpoint", "Rodas5P"), ("custom", "Rodas5P")],
)
def test_gradients_through_everything(kind, method):
    """Hooks inside f run as in the loop; checkpoints and functions without a rule for vmap are no
    obstacle.

    Hooks with explicit methods alone: they change the Jacobian, without which a Rosenbrock step is
    of low order.
    """
    f = Field(kind)
    options = {"rtol": 1e-8, "atol": 1e-10}
    y = julia(f, Y0, (0.0, 1.0), method=method, adjoint=NATIVE, **options).y
    (found,) = torch.autograd.grad(y[-1].sum(), f.linear.weight)
    y = solve(f, Y0, (0.0, 1.0), method="tsit5", adjoint="direct", **options).y
    (wanted,) = torch.autograd.grad(y[-1].sum(), f.linear.weight)
    assert torch.allclose(found, wanted, rtol=1e-4)


@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_refused_state_is_the_cause(method, dtype):
    """Whatever digits of the time f is told."""

    def f(t, y):
        if float(y.max()) >= 0.5:
            raise RejectStep
        return torch.ones_like(y)

    with torch.no_grad():
        y0 = torch.zeros(1, dtype=dtype)
        options = {"rtol": 1e-4, "atol": 1e-4, "max_steps": 2000, "throw": False}
        solution = julia(f, y0, [0.0, 0.1, 2.0], method=method, **options)
    # In single precision steps that are too short to change y are accepted, one after another.
    wanted = {Status.DOMAIN} if dtype == torch.float64 else {Status.DOMAIN, Status.MAX_STEPS}
    assert solution.status in wanted and len(solution.t) == 2


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_cotangent_of_the_start_that_is_not_finite_stays_there(backward):
    """The first output is y0 itself; nothing of its cotangent passes through the solve."""
    k, y0 = leaf(tensor(0.7)), leaf(tensor(1.0, 2.0))
    times = [1.0, 0.0] if backward else [0.0, 1.0]
    y = julia(lambda t, y: -k * y, y0, times, method="Tsit5", adjoint=NATIVE).y
    weights = torch.ones_like(y)
    weights[0, 1] = float("inf")
    found = torch.autograd.grad(y, (k, y0), weights)
    assert bool(found[0].isfinite().all()) and found[1].isfinite().tolist() == [True, False]
