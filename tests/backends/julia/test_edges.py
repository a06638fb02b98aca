"""Starts, limits and copies at the edges, with backend='julia' on a real Julia.

As in test_contract.py most are the torch engine's own tests, whose ``solve`` is Julia's here.
"""

import copy

import pytest
import torch

from pynode import RejectStep, Status, solve
from pynode.adjoints.julia import NATIVE
from tests.algebra import test_infinite_jacobian, test_newton_rounding
from tests.backends.torch import test_limits_inside, test_starts
from tests.core import test_batched_evaluation as test_mapping
from tests.core import test_copies
from tests.support.cases import leaf, tensor
from tests.support.juliacase import julia

FAMILIES = ["Tsit5", "Rodas5P", "QNDF"]
STIFF = ["Rodas5P", "QNDF", "KenCarp4"]
each_family = pytest.mark.parametrize("method", FAMILIES)
each_stiff = pytest.mark.parametrize("method", STIFF)
MODULES = (
    test_copies,
    test_infinite_jacobian,
    test_limits_inside,
    test_newton_rounding,
    test_starts,
)


@pytest.fixture(autouse=True)
def on_julia(monkeypatch):
    def solve(*arguments, **options):
        return julia(*arguments, **{"adjoint": NATIVE, **options})

    for module in MODULES:
        monkeypatch.setattr(module, "solve", solve)


# Limits hold inside a step.


@each_family
def test_no_method_goes_beyond_max_nfe(method):
    test_limits_inside.test_no_method_goes_beyond_max_nfe(method, 40)


@each_family
def test_the_search_for_an_event_keeps_to_max_seconds(method, monkeypatch):
    test_limits_inside.test_the_search_for_an_event_keeps_to_max_seconds(method, monkeypatch)


@each_family
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_step_of_slow_evaluations_keeps_to_max_seconds(method, backward, monkeypatch):
    """The clock is looked at in every evaluation: the first step is not finished."""
    clock, calls = test_limits_inside.Clock(monkeypatch), []
    f = clock.ticking(lambda t, y: calls.append(t) or -y)
    times = [1.0, 0.0] if backward else [0.0, 1.0]
    with torch.no_grad():
        solution = julia(f, tensor(1.0), times, method=method, max_seconds=4.0, throw=False)
    assert solution.status is Status.MAX_SECONDS and solution.stats.accepted == 0
    assert solution.t.tolist() == times[:1] and len(calls) < 12


# Derivatives that are infinite at the start.


@each_stiff
@pytest.mark.filterwarnings("ignore:the Jacobian of the vector field")
def test_infinite_derivatives_at_the_start(method):
    test_infinite_jacobian.test_a_root_of_a_state_that_is_zero(method, False)
    test_infinite_jacobian.test_a_root_of_the_time(method, False)
    test_infinite_jacobian.test_structures(method, "sparse")


def test_an_infinite_derivative_is_told():
    test_infinite_jacobian.test_it_is_said("Rodas5P", False)


# Starts and stops.


@each_family
@pytest.mark.parametrize("stops", [[0.5, 0.5], [5e-324, 0.5], [0.5, 0.5 + 2e-16]])
def test_stops_that_repeat_or_hardly_differ(method, stops):
    test_starts.test_stops_that_repeat_or_hardly_differ(method, False, stops)


@each_family
@pytest.mark.parametrize("start", [1.0, -50.0, 1.7e9])
def test_a_span_of_one_unit_in_the_last_place(method, start):
    test_starts.test_a_span_of_one_unit_in_the_last_place(method, False, start)


@each_family
def test_a_first_step_below_the_resolution_of_the_start(method):
    test_starts.test_a_first_step_below_the_resolution_of_the_start(method, False, 1e-6, 1.7e9)


@each_stiff
def test_easy_solves_of_newton(method):
    """Constant slopes, starts from zero, steady states."""
    test_newton_rounding.test_a_constant_slope(method, False, torch.float64)
    test_newton_rounding.test_a_start_from_zero(method, False)
    test_newton_rounding.test_a_steady_state(method, False)


# What else may happen inside f.


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, "Tsit5") for kind in test_mapping.KINDS]
    + [("checkpoint", "Rodas5P"), ("custom", "Rodas5P")],
)
def test_gradients_through_everything(kind, method):
    """Hooks inside f run as in the loop; checkpoints and functions without a rule for vmap are no
    obstacle.

    Hooks with explicit methods alone: they change the Jacobian, without which a Rosenbrock step is
    of low order.
    """
    f = test_mapping.Field(kind)
    options = {"rtol": 1e-8, "atol": 1e-10}
    y = julia(f, test_mapping.Y0, (0.0, 1.0), method=method, adjoint=NATIVE, **options).y
    (found,) = torch.autograd.grad(y[-1].sum(), f.linear.weight)
    y = solve(f, test_mapping.Y0, (0.0, 1.0), method="tsit5", adjoint="direct", **options).y
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


# Copies.


@pytest.mark.parametrize("way", [test_copies.again, copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("kind", ["explicit", "bdf", "event"])
def test_dense_output_and_counts_come_along(kind, way):
    test_copies.test_dense_output_and_counts_come_along(kind, way)


def test_a_copy_says_that_it_has_no_graph():
    test_copies.test_a_copy_says_that_it_has_no_graph(test_copies.again)
