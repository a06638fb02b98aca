"""The contract tests of the torch engine once more, with backend='julia' on a real Julia: orders,
tolerances, events, limits.

Each is the other file's own test, whose ``solve`` is Julia's here. Left out are those of what the
torch engine alone has.
"""

import operator

import pytest
import torch

from pynode.backends.julia import algorithms
from tests.backends.torch import test_events, test_limits
from tests.methods import test_orders
from tests.support.cases import Forced, leaf, smooth, smooth_exact, smooth_jac, tensor
from tests.support.juliacase import julia

FAMILIES = ["Tsit5", "Rodas5P", "QNDF"]
ORDERS = [
    "Tsit5",
    "Vern7",
    "Rosenbrock23",
    "Rodas4",
    "Rodas5P",
    "KenCarp4",
    "TRBDF2",
    "Kvaerno3",
    "Kvaerno4",
    "Kvaerno5",
]
WITH_METHOD = [
    (test_limits, name)
    for name in (
        "test_tstops_are_step_ends",
        "test_callback_sees_every_step_and_stops",
        "test_reject_step",
        "test_states_near_the_edge_of_the_domain",
        "test_nonnegative_keeps_a_decay_positive",
    )
] + [(test_events, "test_dosing")]
ALONE = [
    (test_limits, "test_callback_stops_at_a_reset"),
    (test_limits, "test_limits_are_checked_at_the_door"),
    (test_limits, "test_limits_hold_over_all_legs"),
    (test_events, "test_several_roots_in_a_step"),
    (test_events, "test_an_event_that_never_fires_says_so"),
    (test_events, "test_wrong_events_are_refused"),
]


@pytest.fixture(autouse=True)
def on_julia(monkeypatch):
    def solve(*arguments, adjoint="auto", batched=False, **options):
        chosen = "NativeGauss" if adjoint in ("auto", "discrete") else adjoint
        return julia(*arguments, adjoint=chosen, batched=batched, **options)

    for module in (test_events, test_limits, test_orders):
        monkeypatch.setattr(module, "solve", solve)


def named(case):
    return case[1] if isinstance(case, tuple) else case


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("case", WITH_METHOD, ids=named)
def test_by_family(case, method):
    getattr(*case)(method)


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("side", [operator.ge, operator.gt])
@pytest.mark.parametrize("direction", [1, -1])
def test_jumps_of_the_field(method, side, direction):
    test_events.test_jumps_of_the_field(method, side, direction)


@pytest.mark.parametrize("case", ALONE, ids=named)
def test_alone(case):
    getattr(*case)()


@pytest.mark.parametrize("method", ORDERS)
def test_order_on_a_non_autonomous_problem(method):
    """Newton's iteration must not be what limits it."""
    order = algorithms.get(method).order
    count = test_orders.STEPS[order] // 2
    errors = [
        test_orders.error_at_end(method, n, rtol=1e-12, atol=1e-12) for n in (count, 2 * count)
    ]
    assert test_orders.observed(errors) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("method", FAMILIES)
def test_backwards_is_the_mirror_of_forwards(method):
    test_orders.test_backwards_is_the_mirror_of_forwards(method)


@pytest.mark.parametrize("method", ["Rodas5P", "FBDF", "QNDF"])
def test_stiffness_costs_no_steps(method):
    test_orders.test_stiffness_costs_no_steps(method)


@pytest.mark.parametrize("method", FAMILIES)
def test_statistics_are_what_was_done(method):
    """Calls of f and of jac, steps, and the gradient's own counts beside them."""
    calls = {"f": 0, "jac": 0, "step": 0}

    def count(name, result):
        calls[name] += 1
        return result

    with torch.no_grad():
        stats = julia(
            lambda t, y: count("f", smooth(t, y)),
            smooth_exact(0.0),
            [0.0, 6.0],
            method=method,
            rtol=1e-6,
            first_step=3.0,
            jac=lambda t, y: count("jac", smooth_jac(t, y)),
            callback=lambda t, y, stats: count("step", False),
        ).stats
    asked = stats.njac if method == "Rodas5P" else 0  # for df/dt, which belongs to the Jacobian
    assert (stats.nfe + asked, stats.njac, stats.accepted) == (
        calls["f"],
        calls["jac"],
        calls["step"],
    )
    assert stats.rejected > 0 and stats.backward_nvjp == stats.switches == 0
    implicit = method != "Tsit5"
    assert (stats.njac > 0) == (stats.nlu > 0) == (
        stats.nsolve > stats.accepted / 2
    ) == implicit and stats.nlu >= stats.njac
    f = Forced()
    solution = julia(
        f, leaf(tensor(1.0, -0.5, 0.3)), [0.0, 1.0], method=method, adjoint="NativeGauss"
    )
    before = solution.stats.nfe, solution.stats.njac, solution.stats.accepted
    solution.y[-1].sum().backward()
    assert before == (solution.stats.nfe, solution.stats.njac, solution.stats.accepted)
    assert solution.stats.backward_nvjp > 0 and (solution.stats.backward_njac > 0) == implicit
