"""Events at one time: those that a reset or a preset change makes true, in which order they occur,
and their gradients."""

import pytest
import torch

from pynode import Event, PresetTimes, SolveError, Status, solve
from tests.support.cases import directional, tensor

each_engine = pytest.mark.parametrize("batched", [False, True], ids=["one", "rows"])
ROWS = 2


def solved(f, y0, t, events, batched, **options):
    """(states at t (T, n), records) of one system, alone or as the first of two rows."""
    start = y0.expand(ROWS, -1) if batched else y0
    solution = solve(f, start, t, events=events, batched=batched, **{"method": "tsit5", **options})
    return (solution.y[:, 0], solution.events[0]) if batched else (solution.y, solution.events)


def steady(t, y):
    return torch.stack((1 + 0 * y[..., 0], 0 * y[..., 1]), -1)


def setting(i, value):
    """A reset that gives component i a value, a number or a function of y."""

    def reset(t, y):
        new = value(y) if callable(value) else value + 0 * y[..., i]
        return torch.stack([new if j == i else y[..., j] for j in range(y.shape[-1])], -1)

    return reset


def reaches(i, level):
    return lambda t, y: y[..., i] - level


@each_engine
@pytest.mark.parametrize("method", ["tsit5", "qndf", "rodas5p"])
def test_a_reset_fires_another_event(method, batched):
    """SBML Level 3, sec. 4.11.6: x = 5 at x >= 1 makes x >= 4 true, which sets y = 10 at the same
    time."""
    one = Event(reaches(0, 1.0), direction=1, reset=setting(0, 5.0), max_events=1, name="one")
    two = Event(reaches(0, 4.0), direction=1, reset=setting(1, 10.0), name="two")
    states, records = solved(
        steady, tensor(0.0, 0.0), [0.0, 1.5, 2.0], [one, two], batched, method=method
    )
    torch.testing.assert_close(states[1:], tensor([5.5, 10.0], [6.0, 10.0]), rtol=0, atol=1e-8)
    assert [record.name for record in records] == ["one", "two"]
    assert float(records[0].t) == float(records[1].t) == pytest.approx(1.0, abs=1e-8)
    torch.testing.assert_close(records[1].y, records[0].after)
    torch.testing.assert_close(records[1].after, tensor(5.0, 10.0))


@each_engine
@pytest.mark.parametrize("priority", [0, 1])
def test_order_of_simultaneous_events(priority, batched):
    """The list decides, or a priority; a root that differs in its last digits does not."""

    def at_one(scale):
        return lambda t, y: scale * (t - 1).reshape(y[..., 0].shape) + 0 * y[..., 0]

    x = Event(at_one(1.0), reset=setting(0, lambda y: y[..., 1] + 1), name="x")
    y = Event(at_one(0.3), reset=setting(1, lambda y: 2 * y[..., 0]), name="y", priority=priority)
    start, f = tensor(3.0, 7.0), lambda t, y: 0 * y
    for events in ([x, y], [y, x]):
        states, records = solved(f, start, [0.0, 2.0], events, batched)
        first = "y" if priority else events[0].name
        assert [record.name for record in records] == [first, "x" if first == "y" else "y"]
        torch.testing.assert_close(
            states[-1], tensor(8.0, 16.0) if first == "x" else tensor(7.0, 6.0)
        )


@each_engine
def test_higher_priority_goes_before_what_waits(batched):
    """Of three at one time the first one makes a fourth of high priority true: it occurs before the
    two that wait."""
    order = []

    def at_one(t, y):
        return (t - 1).reshape(y[..., 0].shape) + 0 * y[..., 0]

    events = [Event(at_one, reset=setting(0, lambda y: y[..., 0] + 5), name="first")]
    events += [
        Event(at_one, reset=setting(1, lambda y, k=k: 10 * y[..., 1] + k), name=str(k))
        for k in (1, 2)
    ]
    events.append(
        Event(reaches(0, 4.0), priority=1, reset=setting(1, lambda y: 10 * y[..., 1] + 9), name="9")
    )
    states, records = solved(lambda t, y: 0 * y, tensor(0.0, 0.0), [0.0, 2.0], events, batched)
    order = [record.name for record in records]
    assert order == ["first", "9", "1", "2"] and float(states[-1, 1]) == 912.0


@each_engine
@pytest.mark.parametrize("method", ["tsit5", "qndf", "rodas5p"])
def test_gradient_through_a_cascade(method, batched):
    """Times, resets and states after a cascade of three, against differences and a closed form."""
    rate, level, kick = (tensor(v)[0].requires_grad_() for v in (1.3, 0.9, 2.0))
    one = Event(
        lambda t, y: y[..., 0] - level,
        direction=1,
        reset=setting(0, lambda y: y[..., 0] + kick),
        max_events=1,
    )
    two = Event(
        reaches(0, 2.0), direction=1, reset=setting(1, lambda y: y[..., 1] + kick * y[..., 0] ** 2)
    )
    three = Event(
        reaches(1, 3.0), direction=1, reset=lambda t, y: y * torch.stack((rate, 1 + 0 * rate))
    )
    leaves = [rate, level, kick]

    def f(t, y):
        return torch.stack((rate + 0 * y[..., 0], -rate * y[..., 1]), -1)

    def loss():
        options = {"method": method, "rtol": 1e-10, "atol": 1e-12, "params": leaves}
        states, records = solved(
            f, tensor(0.0, 0.1), [0.0, 2.0], [one, two, three], batched, **options
        )
        assert [record.event for record in records] == [0, 1, 2]
        return states[-1, 0] + states[-1, 1] + records[2].t + records[1].y.sum()

    def closed():
        t = level / rate
        x, y = level + kick, 0.1 * torch.exp(-rate * t)
        z = y + kick * x**2
        return (x * rate + rate * (2 - t) + z * torch.exp(-rate * (2 - t)) + t + x + y).sum()

    accuracy = 1e-8 if method != "qndf" else 2e-5
    for a, b in zip(
        torch.autograd.grad(loss(), leaves), torch.autograd.grad(closed(), leaves), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=accuracy, atol=accuracy)
    exact, difference = directional(loss, leaves)
    assert difference == pytest.approx(exact, rel=1e-5 if method != "qndf" else 1e-3)


@each_engine
def test_preset_changes_fire_events(batched):
    """A dose that carries the state over a threshold, at the start and later, and an event at the
    time of a dose."""
    dose = PresetTimes([0.0, 1.0], lambda t, y: y + 3.0, name="dose")
    high = Event(
        reaches(0, 2.0), direction=1, reset=setting(1, lambda y: y[..., 1] + 1), name="high"
    )
    clock = Event(lambda t, y: (t - 1).reshape(y[..., 0].shape) + 0 * y[..., 0], name="clock")

    def f(t, y):
        return torch.stack((-2 * y[..., 0], 0 * y[..., 1]), -1)

    states, records = solved(
        f, tensor(0.0, -3.0), [0.0, 0.9, 1.0, 2.0], [high, clock, dose], batched
    )
    assert [(r.name, float(r.t)) for r in records] == [
        ("dose", 0.0),
        ("high", 0.0),
        ("dose", 1.0),
        ("high", 1.0),
        ("clock", 1.0),
    ]
    torch.testing.assert_close(states[:, 1], tensor(1.0, 1.0, 5.0, 5.0))


@each_engine
def test_its_own_reset_does_not_fire_an_event(batched):
    """A counter that starts anew from half, watched in both directions; and one that is thrown back
    by another event."""
    half = Event(reaches(0, 1.0), reset=setting(0, 0.5), name="half")
    states, records = solved(steady, tensor(0.0, 0.0), [0.0, 2.25], half, batched)
    assert [float(r.t) for r in records] == pytest.approx([1.0, 1.5, 2.0], abs=1e-9)
    assert float(states[-1, 0]) == pytest.approx(0.75, abs=1e-9)
    falls = Event(reaches(0, 0.8), direction=-1, name="falls")
    _, records = solved(steady, tensor(0.0, 0.0), [0.0, 1.25], [half, falls], batched)
    assert [r.name for r in records] == ["half", "falls"]


@each_engine
def test_sides_are_kept_from_leg_to_leg(batched):
    """Up by one reset, which a falling event ignores, and down by a later one, which fires it."""
    up, down = PresetTimes([1.0], lambda t, y: y + 5), PresetTimes([1.5], lambda t, y: y - 5)
    falls = Event(reaches(0, 4.0), direction=-1, name="falls")
    _, records = solved(
        lambda t, y: 0 * y, tensor(1.0, 0.0), [0.0, 2.0], [up, down, falls], batched
    )
    assert [(r.event, float(r.t)) for r in records] == [(0, 1.0), (1, 1.5), (2, 1.5)]


@each_engine
def test_a_cascade_may_end_the_solve(batched):
    """A terminal event that a reset makes true stops the solve with the state that it found, and so
    does max_events."""
    one = Event(reaches(0, 1.0), direction=1, reset=setting(0, 5.0), max_events=1, name="one")
    stop = Event(reaches(0, 4.0), terminal=True, reset=setting(0, 50.0), name="stop")
    start = tensor(0.0, 0.0).expand(ROWS, -1) if batched else tensor(0.0, 0.0)
    solution = solve(
        steady, start, [0.0, 0.5, 2.0], method="tsit5", events=[one, stop], batched=batched
    )
    status, records = (
        (solution.statuses[0], solution.events[0])
        if batched
        else (solution.status, solution.events)
    )
    assert status is Status.EVENT and "terminal event" in solution.message
    assert [r.name for r in records] == ["one", "stop"]
    torch.testing.assert_close(records[1].y, tensor(5.0, 0.0))
    once = Event(reaches(0, 4.0), direction=1, max_events=1, name="once")
    again = PresetTimes([0.2, 0.4], lambda t, y: y + 5)
    back = PresetTimes([0.3], lambda t, y: y - 5)
    with pytest.raises(SolveError, match="max_events"):
        solve(
            steady, start, [0.0, 2.0], method="tsit5", events=[once, again, back], batched=batched
        )


@each_engine
def test_an_endless_cascade_ends_with_a_sentence(batched):
    """Two events whose resets make each other true."""
    up = Event(reaches(0, 1.0), direction=1, reset=setting(0, -1.0), name="up")
    down = Event(reaches(0, 0.0), direction=-1, reset=setting(0, 2.0), name="down")
    start = tensor(0.5, 0.0).expand(ROWS, -1) if batched else tensor(0.5, 0.0)
    with pytest.raises(SolveError, match="fire one another at one time without end") as caught:
        solve(steady, start, [0.0, 2.0], method="tsit5", events=[up, down], batched=batched)
    solution = caught.value.solution
    assert (solution.statuses[1] if batched else solution.status) is Status.CASCADE
    assert "up" in str(caught.value.solution.report(*([0] if batched else [])))


def test_wrong_priorities_are_refused():
    with pytest.raises(ValueError, match="priority must be a number"):
        Event(reaches(0, 1.0), priority="first")
