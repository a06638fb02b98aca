"""Events, resets and preset times of every row of a batch, against closed forms and against the
rows alone."""

import math

import pytest
import torch

from pynode import Event, PresetTimes, SolveError, Status, solve
from tests.support.cases import tensor

each_method = pytest.mark.parametrize("method", ["tsit5", "qndf", "fbdf", "rodas5p", "kvaerno5"])
TIGHT = {"rtol": 1e-9, "atol": 1e-11}
# Largest error at these tolerances: one-step methods follow a parabola exactly, BDF does not.
ACCURACY = {"qndf": 3e-7, "fbdf": 3e-7}


def falling(t, y, g, kept):
    return torch.stack((y[..., 1], -g + 0 * y[..., 0]), -1)


def height(t, y, *args):
    return y[..., 0]


def bounce(t, y, g, kept):
    return torch.stack((torch.zeros_like(y[..., 0]), -kept * y[..., 1]), -1)


def landing(g, kept, h, end, most=40):
    """Times of the bounces before the end and the state at the end, of a ball dropped from h: a
    geometric series."""
    first, speed = torch.sqrt(2 * h / g), torch.sqrt(2 * g * h)
    times = []
    while len(times) < most:
        k = len(times)
        time = first + 2 * first * sum(kept**j for j in range(1, k + 1))
        if time >= end:
            break
        times.append(time)
    elapsed, up = end - times[-1], speed * kept ** len(times)
    return torch.stack(times), torch.stack((up * elapsed - g * elapsed**2 / 2, up - g * elapsed))


@each_method
def test_bouncing_balls(method):
    """64 balls of their own heights and restitutions: times, states, and gradients in both and in
    gravity."""
    count = 64 if method == "tsit5" else 8
    h = torch.linspace(0.5, 3.0, count, dtype=torch.float64).requires_grad_()
    kept = torch.linspace(0.9, 0.7, count, dtype=torch.float64).requires_grad_()
    g, accuracy = tensor(9.81, requires_grad=True), ACCURACY.get(method, 3e-9)
    ground = Event(height, direction=-1, reset=bounce, name="ground")
    y0 = torch.stack((h, torch.zeros_like(h)), -1)
    solution = solve(
        falling,
        y0,
        [0.0, 1.5, 2.1],
        method=method,
        args=(g, kept),
        events=ground,
        batched=True,
        **TIGHT,
    )
    exact = [landing(g[0], kept[i], h[i], 2.1) for i in range(count)]
    for records, (times, _) in zip(solution.events, exact, strict=True):
        assert len(records) == len(times) and all(record.name == "ground" for record in records)
        assert torch.allclose(
            torch.stack([record.t for record in records]), times, rtol=0, atol=accuracy
        )
    assert len({len(records) for records in solution.events}) > 1
    final = torch.stack([state for _, state in exact])
    assert torch.allclose(solution.y[-1], final, rtol=0, atol=100 * accuracy)
    losses = (solution.y[-1, :, 0].sum(), sum(r[-1].t + r[-1].after[1] for r in solution.events))
    closed = (
        final[:, 0].sum(),
        sum(
            x[-1] + torch.sqrt(2 * g[0] * h[i]) * kept[i] ** len(x)
            for i, (x, _) in enumerate(exact)
        ),
    )
    for loss, expected in zip(losses, closed, strict=True):
        left, right = (
            torch.autograd.grad(x, (g, kept, h), retain_graph=True) for x in (loss, expected)
        )
        for a, b in zip(left, right, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=3e3 * accuracy)


@each_method
def test_dosing(method):
    """Doses at preset times into a decay with a rate of each row, one of them backwards; gradients
    in all."""
    rate, dose, when = (
        tensor(*v, requires_grad=True) for v in ((0.7, 1.3, 0.4), (2.0,), (1.0, 2.5, 4.0))
    )
    doses = PresetTimes(when, lambda t, y, rate: y + dose, name="dose")
    t = tensor(
        [0.0, 0.5, 1.0, 3.0, 4.0, 5.0],
        [2.0, 2.1, 2.4, 2.5, 2.9, 3.0],
        [3.0, 2.8, 2.6, 2.5, 1.5, 1.2],
    ).T
    y0 = torch.full((3, 1), 3.0, dtype=torch.float64)
    options = {
        "method": method,
        "args": (rate,),
        "events": doses,
        "params": (rate, dose),
        "batched": True,
        **TIGHT,
    }
    solution = solve(lambda t, y, rate: -rate.unsqueeze(-1) * y, y0, t, **options)

    def exact(i, s):
        forward = bool(t[-1, i] > t[0, i])
        met = [w for w in when if (t[0, i] <= w <= s if forward else s <= w <= t[0, i])]
        return 3.0 * torch.exp(-rate[i] * (s - t[0, i])) + dose * sum(
            torch.exp(-rate[i] * (s - w)) for w in met
        )

    expected = torch.stack([torch.stack([exact(i, s) for i, s in enumerate(row)]) for row in t])
    accuracy = {"qndf": 1e-6, "fbdf": 1e-6, "kvaerno5": 1e-7}.get(method, 1e-8)
    assert torch.allclose(solution.y, expected, rtol=0, atol=accuracy)
    assert [[record.index for record in records] for records in solution.events] == [
        [0, 1, 2],
        [1],
        [1],
    ]
    assert torch.allclose(
        solution.events[0][1].after - solution.events[0][1].y, dose, rtol=0, atol=1e-14
    )
    left, right = (
        torch.autograd.grad(y.sum(), (rate, dose, when)) for y in (solution.y[-1], expected[-1])
    )
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=30 * accuracy)


def swinging(t, y, w):
    return torch.stack((w * y[..., 1], -w * y[..., 0]), -1)


def compare(together, w, y0, t, events, **options):
    """Every row as if it were alone; returns the number of records."""
    total = 0
    for i in range(len(w)):
        alone = solve(swinging, y0[i], t[:, i], args=(w[i],), events=events, **options)
        reached = len(alone.y)
        assert together.statuses[i] is alone.status
        torch.testing.assert_close(together.y[:reached, i], alone.y, rtol=1e-6, atol=1e-6)
        assert torch.isnan(together.y[reached:, i]).all()
        assert len(together.events[i]) == len(alone.events)
        for a, b in zip(together.events[i], alone.events, strict=True):
            assert (a.name, a.event, a.index) == (b.name, b.event, b.index)
            for x, z in ((a.t, b.t), (a.y, b.y), (a.after, b.after)):
                torch.testing.assert_close(x, z, rtol=1e-6, atol=1e-6)
        total += len(alone.events)
    return total


def threshold(t, y, w):
    return y[..., 0] - 0.4 * torch.cos(t / 5).reshape(y[..., 0].shape)


@each_method
def test_rows_with_events_equal_rows_alone(method):
    """Directions, several conditions, a kick, stops at the first and at a later occurrence, limits,
    both ways in time."""
    w = tensor(1.0, 2.0, 0.3, 1.5, 1.0)
    y0 = tensor([0.0, 1.0], [1.0, 0.5], [0.3, 0.2], [0.0, -1.0], [2.0, 2.0])
    span = tensor(9.0, 7.0, 5.0, -8.0, 9.0)
    t = span * tensor(0.0, 0.3, 0.6, 1.0).unsqueeze(1)
    events = [
        Event(lambda t, y, w: y, direction=1, name="rising"),
        Event(threshold, direction=1, reset=lambda t, y, w: y + tensor(0.3, 0.0), name="kick"),
        PresetTimes([1.0, 2.0], lambda t, y, w: y + 0.1, name="push"),
        Event(lambda t, y, w: y[..., 1] + 0.2, direction=-1, terminal=2, name="stop"),
    ]
    options = {"method": method, "rtol": 1e-7, "atol": 1e-9}
    together = solve(swinging, y0, t, args=(w,), events=events, batched=True, **options)
    with torch.no_grad():
        assert compare(together, w, y0, t, events, **options) > 20
    assert {Status.EVENT, Status.SUCCESS} <= set(together.statuses)
    assert together.success and "stopped at a terminal event" in together.message


def test_limits_by_row():
    """A row whose events exceed their limit, and a ball that comes to rest, end; the others go
    on."""
    w, y0 = tensor(1.0, 3.0), tensor([1.0, 0.5], [1.0, 0.5])
    t = tensor(0.0, 6.0).unsqueeze(1).repeat(1, 2)
    events = Event(height, max_events=3)
    together = solve(
        swinging, y0, t, method="tsit5", args=(w,), events=events, batched=True, throw=False
    )
    compare(together, w, y0, t, events, method="tsit5", throw=False)
    assert together.statuses == [Status.SUCCESS, Status.MAX_EVENTS]
    ground = Event(height, direction=-1, reset=bounce)
    y0 = tensor([1.0, 0.0], [100.0, 0.0])
    with pytest.raises(SolveError, match=r"1 of 2 rows failed.*max_events") as caught:
        solve(
            falling,
            y0,
            [0.0, 5.0],
            method="tsit5",
            args=(9.81, tensor(0.5, 0.5)),
            events=ground,
            batched=True,
        )
    solution = caught.value.solution
    assert abs(solution.reached[0] - 3 * math.sqrt(2 / 9.81)) < 1e-3 and solution.reached[1] == 5.0


def test_simultaneous_resets():
    """Two walls met at one time in one row, one wall in the other: every reset is applied, and its
    record has its own state."""
    turn = tensor(1.0, 1.0, -1.0, 1.0)
    walls = Event(
        lambda t, y: 1 - y[..., :2], direction=-1, reset=lambda t, y: y * turn, name="walls"
    )
    stop = Event(
        lambda t, y: t.expand(len(y), 1) - 1.0, reset=lambda t, y: y + tensor(0.0, 0.0, 0.0, 5.0)
    )

    def f(t, y):
        return torch.cat((y[..., 2:3], y[..., 2:3], 0 * y[..., :2]), -1)

    y0 = tensor([0.0, -1.0, 1.0, 0.0], [0.5, -1.0, 1.0, 0.0])
    solution = solve(f, y0, [0.0, 1.0, 2.0], method="tsit5", events=[walls, stop], batched=True)
    assert sorted((r.name, r.index) for r in solution.events[0]) == [("<lambda>", 0), ("walls", 0)]
    expected = tensor(
        [[1.0, 0.0, -1.0, 5.0], [0.5, -1.0, -1.0, 5.0]],
        [[0.0, -1.0, -1.0, 5.0], [-0.5, -2.0, -1.0, 5.0]],
    )
    assert torch.allclose(solution.y[1:], expected, atol=1e-12)
    first, second = solution.events[0]
    alone = tensor(1.0, 0.0, -1.0, 0.0) if first.name == "walls" else tensor(1.0, 0.0, 1.0, 5.0)
    assert torch.allclose(first.after, alone) and torch.allclose(second.after, expected[0, 0])


@pytest.mark.parametrize("method", ["rk4", "sdirk2"])
def test_stops_are_met(method):
    """Fixed steps of 0.4 over a span of 2: the stops, at the corner of an input, make six of five,
    in both directions."""

    def f(t, y):
        return torch.clamp(t - 1.25, min=0) + torch.clamp(0.5 - t, min=0) + 0 * y

    t, y0 = tensor([0.0, 2.0], [2.0, 0.0]).T, torch.zeros(2, 1, dtype=torch.float64)
    options = {"method": method, "step_size": 0.4, "batched": True}
    assert solve(f, y0, t, **options).stats.accepted == 10
    solution = solve(f, y0, t, tstops=[1.25, 0.5], **options)
    assert solution.stats.accepted == 12
    exact = (0.5**2 + 0.75**2) / 2
    assert torch.allclose(solution.y[-1], tensor([exact], [-exact]), rtol=0, atol=1e-14)


@each_method
@pytest.mark.parametrize("side", [torch.ge, torch.gt])
@pytest.mark.parametrize("direction", [1, -1])
def test_jumps_of_the_field(method, side, direction):
    """A switched field, right where the jump is told, in rows that meet it at other times of
    theirs; gradient in its time."""
    when = tensor(0.7, requires_grad=True)
    switch = float(when.detach())

    def field(t, y, rate):
        return direction * (
            -rate.unsqueeze(1) * y + torch.where(side(direction * t, direction * switch), 3.0, 1.0)
        )

    rate, t = tensor(1.0, 2.0), tensor([0.0, 0.7, 2.0], [0.5, 0.9, 1.5]).T
    t = t if direction > 0 else 1.4 - t
    options = {"method": method, "args": (rate,), "jumps": when, "batched": True, **TIGHT}
    solution = solve(field, torch.zeros(2, 1, dtype=torch.float64), t, **options)
    before, after = direction * (when - t[0]), direction * (t[-1] - when)
    middle = (1 - torch.exp(-rate * before)) / rate
    exact = 3 / rate + (middle - 3 / rate) * torch.exp(-rate * after)
    accuracy = 3 * ACCURACY.get(method, 1e-8)
    assert torch.allclose(solution.y[-1, :, 0], exact, rtol=0, atol=accuracy)
    assert solution.events == [[], []]
    left, right = (torch.autograd.grad(x.sum(), when)[0] for x in (solution.y[-1], exact))
    assert torch.allclose(left, right, rtol=0, atol=10 * accuracy)


def test_wrong_events_are_refused():
    y0 = torch.ones(3, 2, dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"one or several for each row, as f gets them: y\[\.\.\., 0\], not y\[0\]"
    ):
        solve(lambda t, y: -y, y0, [0.0, 1.0], events=lambda t, y: y[0], batched=True)
    with pytest.raises(ValueError, match="in the reset of 'dose'"):
        solve(
            lambda t, y: -y,
            y0,
            [0.0, 1.0],
            events=PresetTimes([0.5], lambda t, y: y[:1], name="dose"),
            batched=True,
        )
    with pytest.raises(ValueError, match="is NaN"):
        solve(
            lambda t, y: -1 + 0 * y,
            y0,
            [0.0, 5.0],
            events=Event(lambda t, y: torch.log(y[..., 0])),
            batched=True,
        )
