"""What stops a solve or refuses a step, and the derivative of the dense output."""

import math
import time

import pytest
import torch

from pynode import Event, RejectStep, SolveError, Status, solve
from tests.support.cases import FAMILIES, MULTISTEP, Forced, smooth, smooth_exact, tensor

each_family = pytest.mark.parametrize("method", FAMILIES)


def decay(t, y):
    return -y


@each_family
def test_tstops_are_step_ends(method):
    """Every stop is met exactly, forward and backward, and the step size recovers after it."""
    stops = [1.5, 0.3, 0.3 + 1e-6, 7.0]
    for span in ([0.0, 2.0], [2.0, 0.0]):
        ends = []

        def note(t, y, stats, ends=ends):
            ends.append(t)

        solve(
            smooth,
            smooth_exact(span[0]),
            span,
            method=method,
            tstops=stops,
            rtol=1e-4,
            atol=1e-4,
            callback=note,
        )
        assert {0.3, 0.3 + 1e-6, 1.5} <= set(ends) and ends[-1] == span[1]
        assert ends == sorted(ends, reverse=span[1] < span[0])
        assert len(ends) < 60


@each_family
def test_callback_sees_every_step_and_stops(method):
    seen = []

    def callback(t, y, stats):
        seen.append((t, y["a"].clone(), stats.accepted))
        return len(seen) == 5

    y0 = {"a": tensor(1.0, requires_grad=True), "b": tensor(2.0, 3.0)}
    field = lambda t, y: {"a": -y["a"], "b": y["b"]}  # noqa: E731
    solution = solve(field, y0, [0.0, 1e-9, 9.0], method=method, callback=callback)
    assert solution.status is Status.CALLBACK and solution.success
    assert [accepted for _, _, accepted in seen] == [1, 2, 3, 4, 5]
    assert len(solution.t) == 2 and "callback" in solution.message
    # The states that a user gets to see may be used in a graph of their own.
    (seen[-1][1] * y0["a"]).sum().backward()
    assert torch.allclose(seen[-1][1], torch.exp(tensor(-seen[-1][0])), rtol=1e-4)


def test_callback_stops_at_a_reset():
    """What the callback asks is not lost where the same step ends at an event."""
    event = Event(lambda t, y: y - 0.5, reset=lambda t, y: 2 * y)
    solution = solve(
        decay,
        tensor(1.0),
        [0.0, 2.0],
        method="Tsit5",
        events=event,
        callback=lambda t, y, stats: bool(y < 0.51),
    )
    assert solution.status is Status.CALLBACK and len(solution.events) == 1
    assert float(solution.events[0].t) == pytest.approx(math.log(2), abs=1e-6)


def test_wall_clock_limit():
    def slow(t, y):
        time.sleep(0.005)
        return torch.sin(50 * t) * y

    begun = time.monotonic()
    solution = solve(slow, tensor(1.0), [0.0, 1e4], method="Tsit5", max_seconds=0.2, throw=False)
    assert solution.status is Status.MAX_SECONDS and "raise max_seconds" in solution.message
    assert time.monotonic() - begun < 2.0


@each_family
def test_reject_step(method):
    """sqrt refuses negative states: wide steps overshoot and are tried again, also from inside
    Newton's iteration."""
    refused = []

    def draining(t, y):
        if bool((y < 0).any()):
            refused.append(float(t))
            raise RejectStep
        return -torch.sqrt(y)

    solution = solve(
        draining, tensor(1.0), [0.0, 1.9], method=method, rtol=1e-3, atol=1e-3, first_step=10.0
    )
    assert refused and solution.stats.rejected > 0
    assert float(solution.y[-1]) == pytest.approx(0.05**2, abs=5e-3)
    beyond = solve(
        draining, tensor(1.0), [0.0, 2.5], method=method, rtol=1e-6, atol=1e-12, throw=False
    )
    assert beyond.status in (Status.DOMAIN, Status.SUCCESS)
    if beyond.status is Status.DOMAIN:
        assert (
            float(beyond._trajectory.t) == pytest.approx(2.0, abs=1e-2)
            and "RejectStep" in beyond.message
        )


def test_a_start_outside_the_domain_is_told():
    def never(t, y):
        raise RejectStep

    for options in (
        {"f": never},
        {"f": decay, "nonnegative": True},
        {"f": decay, "domain": lambda t, y: y[0] > 0},
    ):
        with pytest.raises(SolveError, match="domain") as caught:
            solve(options.pop("f"), tensor(-1.0), [0.0, 1.0], **options)
        assert caught.value.status is Status.DOMAIN


@each_family
def test_states_near_the_edge_of_the_domain(method):
    """The states at which the Jacobian is tried out must not be taken for rejected steps."""

    def capped(t, y):
        if bool((y > 1.0).any()):
            raise RejectStep
        return -y * torch.exp(-t)

    solution = solve(capped, tensor(1.0, 0.5), [0.0, 1.0], method=method)
    assert float(solution.y[-1, 0]) == pytest.approx(math.exp(math.exp(-1) - 1), rel=1e-5)


@each_family
def test_a_domain_that_cannot_be_kept_ends_the_solve(method):
    """y = 1 - t turns negative at 1, whatever the step."""
    for limit in (
        {"nonnegative": True},
        {"nonnegative": [0]},
        {"domain": lambda t, y: bool(y[0] >= 0)},
    ):
        solution = solve(
            lambda t, y: -torch.ones_like(y),
            tensor(1.0),
            [0.0, 2.0],
            method=method,
            throw=False,
            **limit,
        )
        assert solution.status is Status.DOMAIN
        assert solution._trajectory.t == pytest.approx(1.0, abs=1e-9)


@each_family
def test_nonnegative_keeps_a_decay_positive(method):
    """With tolerances this wide the states would swing below zero, which the check prevents."""

    def rate(t, y):
        return -50.0 * y * tensor(1.0, 0.1)

    lowest = []
    solve(
        rate,
        tensor(1.0, 1.0),
        [0.0, 0.5],
        method=method,
        rtol=1e-1,
        atol=1e-1,
        nonnegative=True,
        callback=lambda t, y, stats: lowest.append(float(y.min())),
    )
    assert min(lowest) >= 0


def test_limits_are_checked_at_the_door():
    cases = [
        ({"nonnegative": [3]}, ValueError),
        ({"nonnegative": [0.5]}, TypeError),
        ({"max_seconds": 0}, ValueError),
        ({"callback": 1}, TypeError),
        ({"domain": "y > 0"}, TypeError),
        ({"tstops": [math.nan]}, ValueError),
        ({"events": [1.0]}, TypeError),
        ({"max_seconds": 9, "batched": True}, ValueError),
        ({"jac": decay, "batched": True}, ValueError),
    ]
    for options, error in cases:
        with pytest.raises(error):
            solve(decay, tensor(1.0), [0.0, 1.0], **options)


def test_limits_hold_over_all_legs():
    """max_steps counts the steps of the whole solve, not of each segment."""
    with pytest.raises(SolveError) as caught:
        solve(
            decay,
            tensor(1.0),
            [0.0, 10.0],
            method="Tsit5",
            jumps=[0.1 * k for k in range(1, 90)],
            max_steps=50,
        )
    assert caught.value.status is Status.MAX_STEPS
    assert caught.value.solution.stats.accepted <= 50


@each_family
@pytest.mark.parametrize("end", [2.0, -2.0])
def test_derivative_of_the_dense_output(method, end):
    """Values against f, the gradient in t against the derivative, and in y0 and parameters against
    differences."""
    field, y0 = Forced(3), tensor(1.0, -0.5, 0.3, requires_grad=True)
    queries = [0.0, 0.3 * end, 0.77 * end, end]
    options = {"method": method, "rtol": 1e-9, "atol": 1e-11, "dense": True}
    solution = solve(field, y0, [0.0, end], **options)
    slopes = solution.derivative(queries)
    exact = torch.stack([field(tensor(t)[0], solution(t)) for t in queries])
    # BDF starts at order 1, whose straight line has the slope of its end.
    accuracy = 4e-4 if method in MULTISTEP else 2e-5
    assert torch.allclose(slopes, exact, atol=accuracy)
    assert torch.allclose(slopes[1:], exact[1:], atol=2e-5)
    assert solution.derivative(queries[1]).shape == (3,)
    t = tensor(*queries, requires_grad=True)
    (by_t,) = torch.autograd.grad(solution(t).sum(), t)
    assert torch.allclose(by_t, slopes.sum(1), atol=1e-12)
    leaves = [y0, *field.parameters()]
    left = torch.autograd.grad(slopes[1:].square().sum(), leaves, retain_graph=True)
    right = torch.autograd.grad(exact[1:].square().sum(), leaves)
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, atol=2e-4)


def test_dense_output_across_a_reset():
    """The polynomials of the segment that a time belongs to, in one call."""
    event = Event(lambda t, y: y[0] - 0.5, reset=lambda t, y: 2 * y)
    solution = solve(
        decay,
        tensor(1.0),
        [0.0, 2.0],
        method="Tsit5",
        events=event,
        dense=True,
        rtol=1e-9,
        atol=1e-12,
    )
    t = torch.linspace(0, 2, 41, dtype=torch.float64).flip(0)
    exact = torch.exp(-t) * 2 ** torch.floor(t / math.log(2))
    assert len(solution.events) == 2
    assert torch.allclose(solution(t)[:, 0], exact, atol=1e-7)
    assert torch.allclose(solution.derivative(t)[:, 0], -exact, atol=1e-5)


def test_a_watch_leaves_the_steps_alone():
    """An event that never fires changes neither the steps nor, where the polynomial is free, the
    evaluations of f."""
    plain = solve(smooth, smooth_exact(0.0), [0.0, 2.0], method="Tsit5")
    watched = solve(
        smooth,
        smooth_exact(0.0),
        [0.0, 2.0],
        method="Tsit5",
        events=lambda t, y: y[0] + 9,
        max_seconds=99,
    )
    assert torch.equal(plain.y, watched.y)
    assert plain.stats == watched.stats
