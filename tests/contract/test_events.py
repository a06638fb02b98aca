"""Events, resets, preset times and jumps against closed forms, with their gradients."""

import math
import operator

import pytest
import torch

from pynode import Event, PresetTimes, Status
from tests.support.cases import Forced, directional, tensor
from tests.support.events import ACCURACY, TIGHT, each_method, falling, height, swinging


@each_method
def test_bouncing_ball(engine, method):
    """Times, states and their gradients in gravity, restitution and height, of three bounces."""
    g, kept, h = (tensor(value, requires_grad=True) for value in (9.81, 0.8, 2.0))

    def bounce(t, y, g):
        return torch.stack((0 * y[0], -kept[0] * y[1]))

    found = engine.solve(
        falling,
        torch.cat((h, tensor(0.0))),
        [0.0, 3.0],
        args=(g[0],),
        method=method,
        events=Event(height, direction=-1, reset=bounce),
        **TIGHT,
    )
    first, speed = torch.sqrt(2 * h / g), torch.sqrt(2 * g * h)
    times = [first * (1 + 2 * sum(kept**j for j in range(1, k))) for k in range(1, 4)]
    elapsed, rising = 3.0 - times[-1], speed * kept**3
    end = torch.cat((rising * elapsed - g * elapsed**2 / 2, rising - g * elapsed))
    accuracy = ACCURACY[method]
    assert len(found.events) == 3
    for record, time in zip(found.events, times, strict=True):
        assert torch.allclose(record.t, time, rtol=0, atol=accuracy)
    assert torch.allclose(found.events[-1].after[1], rising, rtol=0, atol=10 * accuracy)
    assert torch.allclose(found.y[-1], end, rtol=0, atol=20 * accuracy)
    for computed, exact in ((found.events[-1].t, times[-1][0]), (found.y[-1, 0], end[0])):
        left = torch.autograd.grad(computed, (g, kept, h), retain_graph=True)
        right = torch.autograd.grad(exact, (g, kept, h), retain_graph=True)
        for a, b in zip(left, right, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=100 * accuracy)


@each_method
@pytest.mark.parametrize("end", [20.0, -20.0], ids=["forward", "backward"])
def test_zeros_of_a_sine(engine, method, end):
    """Each direction of crossing, in both directions of time. The zero at the start must not
    fire."""
    events = [Event(height, direction=d, name=str(d)) for d in (-1, 0, 1)]
    options = {"method": method, "events": events, "rtol": 1e-9, "atol": 1e-12}
    with torch.no_grad():
        found = engine.solve(swinging, tensor(0.0, 1.0), [0.0, end], **options)
    zeros = [math.copysign(k * math.pi, end) for k in range(1, 7)]
    by_name = {
        name: [float(r.t) for r in found.events if r.name == name] for name in ("-1", "0", "1")
    }
    # In the order of integration, sin falls through its first zero forward and rises backward.
    odd, even = ("-1", "1") if end > 0 else ("1", "-1")
    within = 1e-6 if method == "QNDF" else 3e-9
    assert by_name["0"] == pytest.approx(zeros, abs=within)
    assert by_name[odd] == pytest.approx(zeros[::2], abs=within)
    assert by_name[even] == pytest.approx(zeros[1::2], abs=within)
    times = [float(record.t) * end for record in found.events]
    assert times == sorted(times)


@each_method
def test_a_terminal_event_ends_the_solve(engine, method):
    """The fall from a height takes sqrt(2 h / g), with its gradient."""
    h = tensor(2.0, requires_grad=True)
    found = engine.solve(
        falling,
        torch.cat((h, tensor(0.0))),
        [0.0, 0.1, 50.0],
        args=(9.81,),
        method=method,
        events=Event(height, terminal=True),
        **TIGHT,
    )
    exact = torch.sqrt(2 * h / 9.81)
    accuracy = ACCURACY[method]
    assert found.status is Status.EVENT
    assert len(found.y) == 2
    assert "terminal event" in found.message
    assert found.reached == pytest.approx(float(exact), abs=accuracy)
    assert torch.allclose(found.events[-1].t, exact, rtol=0, atol=accuracy)
    left, right = (torch.autograd.grad(x, h)[0] for x in (found.events[-1].t, exact))
    assert torch.allclose(left, right, rtol=0, atol=10 * accuracy)


@each_method
def test_dosing(engine, method):
    """Doses at preset times into a decay. Gradients in rate, dose and the times of the doses."""
    rate, dose, when = (tensor(*v, requires_grad=True) for v in ((0.7,), (2.0,), (1.0, 2.5, 4.0)))
    outputs = [0.0, 0.5, 1.0, 3.0, 4.0, 5.0]
    found = engine.solve(
        lambda t, y, rate: -rate * y,
        tensor(3.0),
        outputs,
        args=(rate,),
        method=method,
        events=PresetTimes(when, lambda t, y, rate: y + dose),
        **TIGHT,
    )
    exact = torch.stack(
        [
            3.0 * torch.exp(-rate * t)
            + dose * sum(torch.exp(-rate * (t - w)) for w in when if w <= t)
            for t in outputs
        ]
    )
    accuracy = 1e-6 if method == "QNDF" else 1e-8
    assert torch.allclose(found.y, exact, rtol=0, atol=accuracy)
    for record in found.events:
        assert torch.allclose(record.after - record.y, dose, rtol=0, atol=1e-14)
    left = torch.autograd.grad(found.y[-1, 0], (rate, dose, when))
    right = torch.autograd.grad(exact[-1, 0], (rate, dose, when))
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=10 * accuracy)
    assert [record.index for record in found.events] == [0, 1, 2]


def test_gradient_against_differences(engine):
    """A network, a threshold that depends on time and a parameter, and a reset with another."""
    field, level, kick = Forced(3), tensor(0.1, requires_grad=True), tensor(0.4, requires_grad=True)
    event = Event(
        lambda t, y: y[0] - level * torch.cos(t),
        reset=lambda t, y: y + kick * torch.sin(t) * y.flip(0),
    )
    y0 = tensor(1.0, -0.5, 0.3, requires_grad=True)
    options = {"method": "Tsit5", "events": event, "rtol": 1e-10, "atol": 1e-12}

    def loss():
        found = engine.solve(field, y0, [0.0, 1.0, 5.7], **options)
        assert len(found.events) >= 2
        return found.y.square().sum() + found.events[1].t

    exact, difference = directional(loss, [y0, level, kick, *field.parameters()])
    assert difference == pytest.approx(exact, rel=1e-5)


def test_several_roots_in_a_step(engine):
    """Eight zeros of sin(20 t) on a straight line, in steps that see each of them."""
    event = Event(lambda t, y: torch.sin(20 * t) + 0 * y[0])
    options = {"method": "Tsit5", "max_step": 0.4, "first_step": 0.4, "events": event}
    with torch.no_grad():
        found = engine.solve(lambda t, y: 0 * y, tensor(1.0), [0.05, 1.3], **options)
    exact = [k * math.pi / 20 for k in range(1, 9)]
    assert found.stats.accepted < 8
    assert [float(record.t) for record in found.events] == pytest.approx(exact, abs=1e-14)


def test_two_resets_at_one_time(engine):
    """Both are applied, and the records say which component fired."""
    turn = tensor(1.0, 1.0, -1.0, 1.0)
    walls = Event(lambda t, y: 1 - y[:2], direction=-1, reset=lambda t, y: y * turn, name="walls")
    kick = Event(
        lambda t, y: t - 1.0, reset=lambda t, y: y + tensor(0.0, 0.0, 0.0, 5.0), name="kick"
    )
    found = engine.solve(
        lambda t, y: torch.cat((y[2:3], y[2:3], 0 * y[:2])),
        tensor(0.0, -1.0, 1.0, 0.0),
        [0.0, 1.5, 2.0],
        method="Tsit5",
        events=[walls, kick],
    )
    # Rounding may put one of the two times before the other, and both before or behind t = 1.
    assert len(found.events) == 2
    assert {(record.name, record.index) for record in found.events} == {("walls", 0), ("kick", 0)}
    wanted = tensor((0.5, -0.5, -1.0, 5.0), (0.0, -1.0, -1.0, 5.0))
    assert torch.allclose(found.y[1:], wanted, atol=1e-12)


@pytest.mark.parametrize("end", [1.0, 2.0])
def test_a_crossing_at_the_end_of_a_step_fires_once(engine, end):
    """At t = 1, the end of the span or of one of its steps. Times have no rounding here."""
    options = {"method": "Tsit5", "step_size": 0.25, "events": Event(lambda t, y: t - 1.0)}
    found = engine.solve(lambda t, y: torch.ones_like(y), tensor(-1.0), [0.0, end], **options)
    assert [float(record.t) for record in found.events] == pytest.approx([1.0], abs=1e-12)


def test_an_event_that_never_fires_changes_nothing(engine):
    plain = engine.solve(swinging, tensor(0.5, 0.0), [0.0, 5.0], method="Tsit5")
    event = Event(lambda t, y: y[0] + 1, terminal=True)
    watched = engine.solve(swinging, tensor(0.5, 0.0), [0.0, 5.0], method="Tsit5", events=event)
    assert watched.status is Status.SUCCESS
    assert watched.events == []
    assert torch.allclose(plain.y, watched.y, rtol=1e-12, atol=0)


@pytest.mark.parametrize("limit", [7, None])
def test_a_ball_that_comes_to_rest_ends_the_solve(engine, limit):
    """Its bounces pile up at 3 sqrt(2 / g)."""
    ground = Event(
        height,
        direction=-1,
        reset=lambda t, y, g: torch.stack((0 * y[0], -0.5 * y[1])),
        max_events=limit,
    )
    options = {"method": "Tsit5", "args": (9.81,), "events": ground, "throw": False}
    with torch.no_grad():
        found = engine.solve(falling, tensor(1.0, 0.0), [0.0, 5.0], **options)
    assert found.status is Status.MAX_EVENTS
    assert "max_events" in found.message
    assert limit is None or len(found.events) == limit
    assert float(found.events[-1].t) < 3 * math.sqrt(2 / 9.81) + 1e-9


@each_method
@pytest.mark.parametrize("side", [operator.ge, operator.gt], ids=["from", "after"])
@pytest.mark.parametrize("direction", [1, -1], ids=["forward", "backward"])
@pytest.mark.uses("python")
def test_jumps_of_the_field(engine, method, side, direction):
    """A field that switches, with the gradient in the time of the jump."""
    when = tensor(0.7, requires_grad=True)
    switch = float(when.detach())

    def field(t, y):
        return direction * (-y + (3.0 if side(t, switch) == (direction > 0) else 1.0))

    times = [0.0, 0.7, 2.0] if direction > 0 else [1.4, 0.7, -0.6]
    found = engine.solve(field, tensor(0.0), times, method=method, jumps=when, **TIGHT)
    length = when if direction > 0 else 1.4 - when
    middle = 1 - torch.exp(-length)
    exact = torch.stack((0 * when, middle, 3 + (middle - 3) * torch.exp(length - 2.0)))
    accuracy = 1e-6 if method == "QNDF" else 2e-8
    assert torch.allclose(found.y, exact, rtol=0, atol=accuracy)
    left, right = (torch.autograd.grad(x[-1, 0], when)[0] for x in (found.y, exact))
    assert torch.allclose(left, right, rtol=0, atol=10 * accuracy)


@each_method
@pytest.mark.parametrize("when", [0.0, 1e-9])
@pytest.mark.uses("python")
def test_a_jump_far_from_the_other_times(engine, method, when):
    """The end of a step of size 1 is rounded to 1e-16, but times here lie closer together."""

    def field(t, y):
        return 0 * y + (1.0 if t >= when else 0.0)

    found = engine.solve(field, tensor(0.0), [-1.0, 1.0], method=method, jumps=[when])
    assert torch.allclose(found.y[-1], tensor(1.0 - when), rtol=0, atol=1e-13)


def dose_of_another_shape(t, y):
    return y[:1]


@pytest.mark.parametrize(
    ("events", "error", "words"),
    [
        (Event(lambda t, y: y[0] > 0, name="sign"), TypeError, "floating-point tensor"),
        (PresetTimes([0.5], dose_of_another_shape, name="dose"), ValueError, "'dose'"),
        (Event(lambda t, y: torch.log(y[0])), ValueError, "is NaN"),
    ],
    ids=["a bool", "another shape", "NaN"],
)
def test_wrong_events_are_refused(engine, events, error, words):
    with pytest.raises(error, match=words), torch.no_grad():
        engine.solve(swinging, tensor(1.0, 0.0), [0.0, 5.0], method="Tsit5", events=events)
