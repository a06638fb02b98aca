"""Measured orders: of the steps, of what lies between them, and of what the tolerances promise."""

import math

import pytest
import torch

from pynode import solve
from pynode.core.norm import Tolerance
from pynode.methods import registry
from pynode.methods.bdf.formulas import DifferenceHistory
from tests.support.cases import (
    IMPLICIT,
    METHODS,
    MULTISTEP,
    ONE_STEP,
    field_of,
    prothero,
    smooth,
    smooth_exact,
    smooth_jac,
    tensor,
)
from tests.support.orders import STEPS, observed


def error_at_end(method, count, **options):
    """Error at t = 1 of `count` equal steps from 0."""
    solution = solve(
        smooth, smooth_exact(0.0), [0.0, 1.0], method=method, step_size=1 / count, **options
    )
    assert solution.stats.accepted == count and solution.stats.rejected == 0
    return float((solution.y[-1] - smooth_exact(1.0)).norm())


@pytest.mark.parametrize("method", ONE_STEP)
def test_order_on_a_non_autonomous_problem(method):
    order = registry.get(method).order
    count = STEPS[order]
    assert observed([error_at_end(method, n) for n in (count, 2 * count)]) == pytest.approx(
        order, abs=0.2
    )


@pytest.mark.parametrize("method", [name for name in ONE_STEP if registry.get(name).implicit])
def test_order_with_a_given_jacobian(method):
    """df/dt is made apart from the Jacobian there; without it the order would fall to one or
    two."""
    order = registry.get(method).order
    errors = [error_at_end(method, n, jac=smooth_jac) for n in (STEPS[order], 2 * STEPS[order])]
    assert observed(errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("method", ONE_STEP)
def test_dense_order_between_the_ends_of_a_step(method):
    """From below only: at some thetas the leading term is small and the next one shows."""
    tableau = registry.get(method).tableau
    errors = []
    # A step of Radau's order 9 is exact to rounding long before its polynomial of order 5 would be
    # on those steps.
    count = 8 if tableau.order > 8 else STEPS[tableau.dense_order]
    for h in (1 / count, 0.5 / count):
        solution = solve(
            smooth, smooth_exact(0.3), [0.3, 0.3 + h], method=method, step_size=h, dense=True
        )
        times = 0.3 + h * tensor(0.3, 0.6)
        errors.append((solution(times) - smooth_exact(times)).norm(dim=1))
        assert solution.stats.accepted == 1
    assert (torch.log2(errors[0] / errors[1]) - 1 > tableau.dense_order - 0.2).all()


@pytest.mark.parametrize("method", METHODS)
def test_dense_output_is_as_good_as_the_steps(method):
    """At every tolerance: on a grid that meets no step's end, against the error at those ends."""
    rtol = 1e-4 if registry.get(method).order < 3 and method not in MULTISTEP else 1e-7
    solution = solve(
        smooth,
        smooth_exact(0.0),
        [0.0, 2.0],
        method=method,
        rtol=rtol,
        atol=rtol,
        dense=True,
        max_step=0.1,
    )
    ends = tensor(*[step.t + step.h for step in solution._trajectory.steps])
    at_ends = (solution(ends) - smooth_exact(ends)).abs().max()
    times = torch.linspace(0.0, 2.0, 101, dtype=torch.float64) + 1e-3
    between = (solution(times[:-1]) - smooth_exact(times[:-1])).abs().max()
    assert between <= 5 * at_ends + 10 * rtol


@pytest.mark.parametrize("method", METHODS)
def test_backwards_is_the_mirror_of_forwards(method):
    forwards = solve(
        lambda s, y: -smooth(-s, y),
        smooth_exact(1.0),
        [-1.0, -0.4, 0.0],
        method=method,
        rtol=1e-5,
        dense=True,
    )
    backwards = solve(
        smooth, smooth_exact(1.0), [1.0, 0.4, 0.0], method=method, rtol=1e-5, dense=True
    )
    torch.testing.assert_close(backwards.y, forwards.y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(backwards(0.77), forwards(-0.77), rtol=1e-10, atol=1e-10)
    assert backwards.stats == forwards.stats


# The implicit midpoint rule damps nothing, R(infinity) = -1, and follows the transient with small
# steps to its end.
@pytest.mark.parametrize("method", [name for name in IMPLICIT if name != "ImplicitMidpoint"])
def test_stiffness_costs_no_steps(method):
    """Prothero-Robinson with a rate of -1e6, from a point off the solution: a transient of 1e-6 and
    then cos t."""
    solution = solve(prothero(-1e6), tensor(1.5), [0.0, 5.0], method=method, rtol=1e-4, atol=1e-7)
    assert (solution.y[-1] - math.cos(5.0)).abs() < 1e-3
    assert solution.stats.accepted < 800


TOLERANCES = (1e-3, 1e-6, 1e-9)
PROBLEMS = {
    "smooth": (smooth, smooth_exact),
    "mild": (prothero(-1.0), lambda t: tensor(math.cos(t))),
    "fast": (prothero(-30.0), lambda t: tensor(math.cos(t))),
    "stiff": (prothero(-1e4), lambda t: tensor(math.cos(t))),
}
PAIRS = [
    (name, problem)
    for name in METHODS
    for problem in PROBLEMS
    if registry.get(name).order > 4 and (problem != "stiff" or registry.get(name).implicit)
]


@pytest.mark.parametrize(("method", "problem"), PAIRS)
def test_error_follows_the_tolerance(method, problem):
    """It stays in proportion, and falls with every tightening. (BDF's grows in proportion as
    tolerance^(5/6).)"""
    f, exact = PROBLEMS[problem]
    errors = []
    for rtol in TOLERANCES:
        y = solve(f, exact(0.0), [0.0, 3.0], method=method, rtol=rtol, atol=rtol).y[-1]
        errors.append(float((y - exact(3.0)).abs().max()))
    allowed = 300 if method in MULTISTEP else 30 if method == "AdamsPECE" else 3
    assert all(error <= allowed * rtol for error, rtol in zip(errors, TOLERANCES, strict=True)), (
        errors
    )
    # One end of one solve is a matter of luck within a factor of a few.
    assert all(errors[i] <= max(errors[i - 1] / 10, 3 * TOLERANCES[i]) for i in (1, 2)), errors


@pytest.mark.parametrize("method", MULTISTEP)
def test_orders_rise_to_five_where_it_pays(method):
    solution = solve(
        smooth, smooth_exact(0.0), [0.0, 3.0], method=method, rtol=1e-9, atol=1e-9, dense=True
    )
    orders = [step.tape[0] for step in solution._trajectory.steps]
    assert max(orders) == 5 and set(orders) <= {1, 2, 3, 4, 5}
    coarse = solve(smooth, smooth_exact(0.0), [0.0, 3.0], method=method, rtol=1e-5, atol=1e-5)
    # Order 5 takes 1e4^(1/6) = 4.6 times the steps, order 2 would take 22 times.
    assert solution.stats.accepted < 9 * coarse.stats.accepted


SYSTEM = tensor([-2.0, 1.0], [0.5, -1.0])


def curve(t):
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.stack((torch.cos(t), torch.exp(torch.sin(t))), dim=-1)


def pulled_to_the_curve(t, y):
    rate = torch.stack((-torch.sin(t), torch.cos(t) * torch.exp(torch.sin(t))))
    return SYSTEM @ (y - curve(t)) + rate


def held_at(method, k, count, uneven):
    """Error at t = 1 of `count` steps of order k from exact past values; uneven: steps 0.8 and 1.2
    as long in turn."""
    field, form = field_of(pulled_to_the_curve, curve(0.0)), method.history
    tol = Tolerance(1e-3, tensor(1e3), 2)
    h = 1 / count
    values = curve(-h * torch.arange(form.rows, dtype=torch.float64))
    if isinstance(form, DifferenceHistory):
        signs = [
            [(-1.0) ** j * math.comb(m, j) for j in range(form.rows)] for m in range(form.rows)
        ]
        z, past = tensor(*signs) @ values, ()
    else:
        z, past = values, tuple(h * j for j in range(form.rows))
    state = method.init(field, 0.0, values[0], field(0.0, values[0]), h, tol)._replace(
        z=z, past=past
    )
    t, y, equal = 0.0, values[0], 0
    for i in range(count):
        factor = (1.2 if i % 2 else 0.8) if uneven else 1.0
        step = method.step(field, t, y, h * factor, state._replace(order=k, equal=equal), tol)
        assert step.accepted
        t, y, state, equal = t + h * factor, step.y, step.state, 0 if uneven else equal + 1
    assert t == pytest.approx(1.0)
    return float((y - curve(1.0)).norm())


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("method", MULTISTEP)
def test_every_order_of_bdf(method, k, uneven):
    """Each order held by hand; the problem is linear, so Newton's iteration leaves nothing to the
    tolerance."""
    method = registry.get(method)
    count = 40 if k == 5 else 80
    assert observed([held_at(method, k, n, uneven) for n in (count, 2 * count)]) == pytest.approx(
        k, abs=0.2
    )
