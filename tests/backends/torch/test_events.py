"""Events of one system where the torch engine offers more than the contract: adjoint="direct", a
module as a reset, dense output across resets."""

import math
import operator

import pytest
import torch
from torch import nn

from pynode import Event, PresetTimes, Status, solve
from tests.support.cases import Forced, directional, tensor
from tests.support.events import ACCURACY, TIGHT, each_method, falling, height, swinging


class Bounce(nn.Module):
    """Reset of a ball that keeps a share of its speed."""

    def __init__(self, kept):
        super().__init__()
        self.kept = nn.Parameter(tensor(kept)[0])

    def forward(self, t, y, *args):
        return torch.stack((torch.zeros_like(y[0]), -self.kept * y[1]))


def bounces(count, g, kept, h):
    """Times of the bounces and the speeds just after each, of a ball dropped from h: a geometric
    series."""
    first, speed = torch.sqrt(2 * h / g), torch.sqrt(2 * g * h)
    times = [first + 2 * first * sum(kept**j for j in range(1, k)) for k in range(1, count + 1)]
    return torch.stack(times), torch.stack([speed * kept**k for k in range(1, count + 1)])


@each_method
@pytest.mark.parametrize("adjoint", ["discrete", "direct"])
def test_bouncing_ball(method, adjoint):
    """Times, states and their gradients in gravity, restitution (inside a module) and height."""
    g, h = tensor(9.81, requires_grad=True), tensor(2.0, requires_grad=True)
    bounce = Bounce(0.8)
    leaves = (g, bounce.kept, h)
    ground = Event(height, direction=-1, reset=bounce, name="ground")
    start = torch.cat((h, tensor(0.0)))
    options = {"method": method, "adjoint": adjoint, "events": ground, **TIGHT}
    solution = solve(falling, start, [0.0, 3.0, 4.0], args=(g[0],), **options)
    times, speeds = bounces(5, g[0], bounce.kept, h[0])
    found = torch.stack([record.t for record in solution.events])
    after = torch.stack([record.after[1] for record in solution.events])
    accuracy = ACCURACY[method]
    assert torch.allclose(found, times, rtol=0, atol=accuracy)
    assert torch.allclose(after, speeds, rtol=0, atol=10 * accuracy)
    elapsed = 4.0 - times[-1]
    final = torch.stack((speeds[-1] * elapsed - g[0] * elapsed**2 / 2, speeds[-1] - g[0] * elapsed))
    assert torch.allclose(solution.y[-1], final, rtol=0, atol=20 * accuracy)
    for computed, exact in (
        (found[-1], times[-1]),
        (after[-1], speeds[-1]),
        (solution.y[-1, 0], final[0]),
    ):
        left = torch.autograd.grad(computed, leaves, retain_graph=True)
        right = torch.autograd.grad(exact, leaves, retain_graph=True, allow_unused=True)
        for a, b in zip(left, right, strict=True):
            assert torch.allclose(
                a, torch.zeros_like(a) if b is None else b, rtol=0, atol=100 * accuracy
            )


@each_method
def test_period_of_a_pendulum(method):
    """A terminal event at its second occurrence: the period is 4 K(sin(a / 2)), from the
    arithmetic-geometric mean."""
    a = tensor(2.0, requires_grad=True)
    b, c = torch.ones_like(a), torch.cos(a / 2)
    for _ in range(6):
        b, c = (b + c) / 2, torch.sqrt(b * c)
    period = 2 * math.pi / b
    event = Event(lambda t, y: y[1:], direction=-1, terminal=1)

    def pendulum(t, y):
        return torch.stack((y[1], -torch.sin(y[0])))

    solution = solve(
        pendulum,
        torch.cat((a, tensor(0.0))),
        [0.0, 1.0, 50.0],
        method=method,
        events=event,
        **TIGHT,
    )
    assert solution.status is Status.EVENT and solution.success and len(solution.y) == 2
    assert "terminal event" in solution.message
    found = solution.events[-1].t
    accuracy = 1e-7 if method != "QNDF" else 2e-6
    assert torch.allclose(found, period, rtol=0, atol=accuracy)
    left, right = (torch.autograd.grad(x, a)[0] for x in (found, period))
    assert torch.allclose(left, right, rtol=0, atol=10 * accuracy)


@each_method
def test_dosing(method):
    """Doses at preset times into an exponential decay; gradients in rate, dose and the times of the
    doses."""
    rate, dose, when = (tensor(*v, requires_grad=True) for v in ((0.7,), (2.0,), (1.0, 2.5, 4.0)))
    doses = PresetTimes(when, lambda t, y, rate: y + dose)
    outputs = [0.0, 0.5, 1.0, 3.0, 4.0, 5.0]
    solution = solve(
        lambda t, y, rate: -rate * y,
        tensor(3.0),
        outputs,
        args=(rate,),
        method=method,
        events=doses,
        dense=True,
        **TIGHT,
    )
    exact = torch.stack(
        [
            3.0 * torch.exp(-rate * t)
            + dose * sum(torch.exp(-rate * (t - w)) for w in when if w <= t)
            for t in outputs
        ]
    )
    accuracy = 1e-8 if method != "QNDF" else 1e-6
    assert torch.allclose(solution.y, exact, rtol=0, atol=accuracy)
    assert torch.allclose(solution(2.5) - solution.events[1].y, dose, rtol=0, atol=1e-14)
    assert torch.allclose(solution(tensor(3.0, 0.5)), solution.y[[3, 1]], rtol=0, atol=accuracy)
    left = torch.autograd.grad(solution.y[-1, 0], (rate, dose, when))
    right = torch.autograd.grad(exact[-1, 0], (rate, dose, when))
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=10 * accuracy)
    assert [record.index for record in solution.events] == [0, 1, 2]


def test_an_event_that_never_fires_says_so():
    event = Event(lambda t, y: y[0] + 1, terminal=True, name="below minus one")
    solution = solve(swinging, tensor(0.5, 0.0), [0.0, 5.0], events=event)
    assert solution.status is Status.SUCCESS and solution.events == []
    assert "'below minus one' did not occur" in solution.message


@each_method
@pytest.mark.parametrize("side", [operator.ge, operator.gt])
@pytest.mark.parametrize("direction", [1, -1])
def test_jumps_of_the_field(method, side, direction):
    """A switched field, right where the jump is told; the gradient in the time of the jump, in both
    directions of time."""
    when = tensor(0.7, requires_grad=True)
    switch = float(when.detach())

    def field(t, y):
        return direction * (-y + (3.0 if side(t, switch) == (direction > 0) else 1.0))

    times = [0.0, 0.7, 2.0] if direction > 0 else [1.4, 0.7, -0.6]
    solution = solve(field, tensor(0.0), times, method=method, jumps=when, dense=True, **TIGHT)
    length = when if direction > 0 else 1.4 - when
    middle = 1 - torch.exp(-length)
    exact = torch.stack((0 * when, middle, 3 + (middle - 3) * torch.exp(length - 2.0)))
    accuracy = 2e-8 if method != "QNDF" else 1e-6
    assert torch.allclose(solution.y, exact, rtol=0, atol=accuracy)
    assert torch.allclose(solution(tensor(*times)), exact, rtol=0, atol=accuracy)
    left, right = (torch.autograd.grad(x[-1, 0], when)[0] for x in (solution.y, exact))
    assert torch.allclose(left, right, rtol=0, atol=10 * accuracy)


@each_method
def test_gradient_against_differences(method):
    """A network with a threshold that depends on time and a parameter, and a reset with one:
    float64 differences."""
    field, level, kick = Forced(3), tensor(0.1, requires_grad=True), tensor(0.4, requires_grad=True)
    event = Event(
        lambda t, y: y[0] - level * torch.cos(t),
        reset=lambda t, y: y + kick * torch.sin(t) * y.flip(0),
    )
    y0 = tensor(1.0, -0.5, 0.3, requires_grad=True)
    leaves = [y0, level, kick, *field.parameters()]

    def loss():
        solution = solve(
            field, y0, [0.0, 1.0, 5.7], method=method, events=event, rtol=1e-10, atol=1e-12
        )
        assert len(solution.events) >= 2
        return solution.y.square().sum() + solution.events[1].t

    exact, difference = directional(loss, leaves)
    assert difference == pytest.approx(exact, rel=1e-5 if method != "QNDF" else 1e-3)


def test_directions_are_checked():
    with pytest.raises(ValueError, match="direction"):
        Event(height, direction=2)
