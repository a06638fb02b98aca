"""What stops a solve or refuses a step."""

import math

import pytest
import torch

from pynode import Event, RejectStep, SolveError, Status
from tests.support.cases import prothero, smooth, smooth_exact, tensor

each_method = pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
STOPS = [1.5, 0.3, 0.3 + 1e-6, 7.0]
INSIDE = {0.3, 0.3 + 1e-6, 1.5}


def decay(t, y):
    return -y


@each_method
@pytest.mark.parametrize("span", [[0.0, 2.0], [2.0, 0.0]], ids=["forward", "backward"])
@pytest.mark.uses("python")
def test_f_is_asked_at_the_stops(engine, method, span):
    asked = set()

    def f(t, y):
        asked.add(float(t))
        return smooth(t, y)

    options = {"method": method, "tstops": STOPS, "rtol": 1e-4, "atol": 1e-4}
    with torch.no_grad():
        found = engine.solve(f, smooth_exact(span[0]), span, **options)
    assert asked >= INSIDE
    assert found.reached == span[1]
    assert found.stats.accepted < 60


@each_method
@pytest.mark.uses("callback")
@pytest.mark.parametrize("span", [[0.0, 2.0], [2.0, 0.0]], ids=["forward", "backward"])
def test_steps_end_at_the_stops(engine, method, span):
    """Every stop is met exactly, and the step size recovers after it."""
    ends = []
    engine.solve(
        smooth,
        smooth_exact(span[0]),
        span,
        method=method,
        tstops=STOPS,
        rtol=1e-4,
        atol=1e-4,
        callback=lambda t, y, stats: ends.append(t),
    )
    assert set(ends) >= INSIDE
    assert ends[-1] == span[1]
    assert ends == sorted(ends, reverse=span[1] < span[0])
    assert len(ends) < 60


@each_method
@pytest.mark.uses("callback")
def test_callback_sees_every_step_and_stops(engine, method):
    seen = []

    def callback(t, y, stats):
        seen.append((t, y["a"].clone(), stats.accepted))
        return len(seen) == 5

    def field(t, y):
        return {"a": -y["a"], "b": y["b"]}

    y0 = {"a": tensor(1.0, requires_grad=True), "b": tensor(2.0, 3.0)}
    found = engine.solve(field, y0, [0.0, 1e-9, 9.0], method=method, callback=callback)
    assert found.status is Status.CALLBACK
    assert [accepted for _, _, accepted in seen] == [1, 2, 3, 4, 5]
    assert len(found.t) == 2
    assert "callback" in found.message
    # A user may use these states in another graph.
    t, state, _ = seen[-1]
    (state * y0["a"]).sum().backward()
    assert torch.allclose(state, torch.exp(tensor(-t)), rtol=1e-4)


@pytest.mark.uses("callback")
def test_callback_stops_at_a_reset(engine):
    """The answer of the callback counts, although the same step ends at an event."""
    found = engine.solve(
        decay,
        tensor(1.0),
        [0.0, 2.0],
        method="Tsit5",
        events=Event(lambda t, y: y - 0.5, reset=lambda t, y: 2 * y),
        callback=lambda t, y, stats: bool(y < 0.51),
    )
    assert found.status is Status.CALLBACK
    assert len(found.events) == 1
    assert float(found.events[0].t) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.uses("max_seconds")
def test_a_slow_field_meets_max_seconds(engine, clock):
    """The clock moves a second in each call of f."""
    f = clock.ticking(lambda t, y: torch.sin(50 * t) * y)
    options = {"method": "Tsit5", "max_seconds": 100.0, "throw": False}
    with torch.no_grad():
        found = engine.solve(f, tensor(1.0), [0.0, 1e4], **options)
    assert found.status is Status.MAX_SECONDS
    assert "raise max_seconds" in found.message
    assert clock.now < 120


@each_method
@pytest.mark.uses("RejectStep")
def test_rejected_states_shorten_the_step(engine, method):
    """Wide steps overshoot, also inside Newton's iteration: sqrt refuses negative states."""
    refused = []

    def draining(t, y):
        if bool((y < 0).any()):
            refused.append(float(t))
            raise RejectStep
        return -torch.sqrt(y)

    options = {"method": method, "rtol": 1e-3, "atol": 1e-3, "first_step": 10.0}
    found = engine.solve(draining, tensor(1.0), [0.0, 1.9], **options)
    assert refused
    assert found.stats.rejected > 0
    assert float(found.y[-1]) == pytest.approx(0.05**2, abs=5e-3)


@each_method
@pytest.mark.uses("RejectStep")
def test_a_field_that_refuses_every_later_state_ends_the_solve(engine, method):
    """y = t reaches 0.5 where f refuses it, whatever the step."""

    def f(t, y):
        if float(y.max()) >= 0.5:
            raise RejectStep
        return torch.ones_like(y)

    options = {"method": method, "throw": False, "max_steps": 2000}
    with torch.no_grad():
        found = engine.solve(f, tensor(0.0), [0.0, 0.1, 2.0], **options)
    assert found.status is Status.DOMAIN
    assert "RejectStep" in found.message
    assert found.reached == pytest.approx(0.5, abs=1e-3)


@each_method
@pytest.mark.uses("python")
def test_states_near_the_edge_of_the_domain(engine, method):
    """The engine does not take the states of a Jacobian's differences for rejected steps."""

    def capped(t, y):
        if bool((y > 1.0).any()):
            raise RejectStep
        return -y * torch.exp(-t)

    found = engine.solve(capped, tensor(1.0, 0.5), [0.0, 1.0], method=method)
    assert float(found.y[-1, 0]) == pytest.approx(math.exp(math.exp(-1) - 1), rel=1e-5)


@each_method
@pytest.mark.parametrize(
    "limit",
    [
        pytest.param({"nonnegative": True}, marks=pytest.mark.uses("nonnegative"), id="all"),
        pytest.param({"nonnegative": [0]}, marks=pytest.mark.uses("nonnegative"), id="one"),
        pytest.param(
            {"domain": lambda t, y: bool(y[0] >= 0)}, marks=pytest.mark.uses("domain"), id="domain"
        ),
    ],
)
def test_a_domain_that_cannot_be_kept_ends_the_solve(engine, method, limit):
    """y = 1 - t becomes negative at 1, whatever the step."""
    options = {"method": method, "throw": False, **limit}
    found = engine.solve(lambda t, y: -torch.ones_like(y), tensor(1.0), [0.0, 2.0], **options)
    assert found.status is Status.DOMAIN
    assert found.reached == pytest.approx(1.0, abs=1e-6)


@each_method
@pytest.mark.uses("nonnegative", "callback")
def test_nonnegative_keeps_a_decay_positive(engine, method):
    """At these tolerances the states would swing below zero."""
    lowest = []
    engine.solve(
        lambda t, y: -50.0 * y * tensor(1.0, 0.1),
        tensor(1.0, 1.0),
        [0.0, 0.5],
        method=method,
        rtol=1e-1,
        atol=1e-1,
        nonnegative=True,
        callback=lambda t, y, stats: lowest.append(float(y.min())),
    )
    assert min(lowest) >= 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_seconds": 0}, ValueError),
        ({"tstops": [math.nan]}, ValueError),
        ({"events": [1.0]}, TypeError),
        ({"max_steps": 0}, ValueError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_limits_that_make_no_sense(engine, options, error):
    with pytest.raises(error):
        engine.solve(decay, tensor(1.0), [0.0, 1.0], **options)


def test_max_steps_counts_the_steps_of_all_segments(engine):
    jumps = [0.1 * k for k in range(1, 90)]
    options = {"method": "Tsit5", "jumps": jumps, "max_steps": 50, "throw": False}
    found = engine.solve(decay, tensor(1.0), [0.0, 10.0], **options)
    assert found.status is Status.MAX_STEPS
    assert found.stats.accepted <= 50


def test_a_limit_raises_an_error_with_its_status(engine):
    with pytest.raises(SolveError) as caught:
        engine.solve(decay, tensor(1.0), [0.0, 10.0], method="Tsit5", max_steps=3)
    assert caught.value.status is Status.MAX_STEPS


@each_method
def test_no_method_goes_beyond_max_nfe(engine, method):
    """In stages and in Newton's iterations. The outputs before it keep their gradient."""
    y0 = tensor(1.0, requires_grad=True)
    options = {"method": method, "max_nfe": 40, "throw": False}
    found = engine.solve(prothero(-2.0), y0, [0.0, 1e-7, 100.0], **options)
    assert found.status is Status.MAX_EVALUATIONS
    assert found.stats.nfe <= 40
    found.y[-1].sum().backward()
    assert 0.9 < float(y0.grad) <= 1.0


@each_method
@pytest.mark.uses("max_seconds")
def test_the_search_for_an_event_keeps_to_max_seconds(engine, method, clock):
    """The condition is slow: the engine does not find its root to the last digit."""
    calls = []

    def condition(t, y):
        calls.append(t)
        return torch.exp(3 * y) - 5.0

    found = engine.solve(
        decay,
        tensor(1.0),
        (0.0, 2.0),
        method=method,
        events=Event(clock.ticking(condition), terminal=True),
        max_seconds=8.0,
        first_step=0.9,
        rtol=1e-1,
        atol=1e-1,
        throw=False,
    )
    assert found.status is Status.MAX_SECONDS
    assert len(calls) < 16
