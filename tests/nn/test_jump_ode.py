"""JumpODE: times and states of jumps in closed form, what is learned of them, rows, copies,
mistakes."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from pynode import SolveError
from pynode.nn import JumpODE, KineticEnergy
from tests.support.cases import tensor


class Falling(nn.Module):
    """Height and velocity of a ball under gravity and drag (1/time)."""

    def __init__(self, gravity=9.81, drag=0.0):
        super().__init__()
        self.gravity, self.drag = nn.Parameter(tensor(gravity)[0]), nn.Parameter(tensor(drag)[0])

    def forward(self, y):
        return torch.stack((y[..., 1], -self.gravity - self.drag * y[..., 1]), -1)


class Ground(nn.Module):
    def __init__(self, level=0.0):
        super().__init__()
        self.level = nn.Parameter(tensor(level)[0])

    def forward(self, y):
        return y[..., 0] - self.level


class Bounce(nn.Module):
    def __init__(self, kept=0.8):
        super().__init__()
        self.kept = nn.Parameter(tensor(kept)[0])

    def forward(self, t, y):
        return y * torch.stack((torch.ones_like(self.kept), -self.kept))


def ball(gravity=9.81, drag=0.0, level=0.0, kept=0.8, t=(0.0, 1.0), **options):
    options = {"method": "tsit5", "rtol": 1e-7, "atol": 1e-9, **options}
    return JumpODE(Falling(gravity, drag), Ground(level), Bounce(kept), t, direction=-1, **options)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_times_and_states_in_closed_form(method):
    """Dropped from 2 above the ground, with the gradient of everything in gravity, level and
    restitution."""
    model = ball(level=0.5, t=[0.0, 2.0], method=method, rtol=1e-9, atol=1e-11)
    y = model(tensor(2.5, 0.0))
    leaves = [model.field.gravity, model.event.level, model.jump.kept]
    g, level, kept = leaves
    first = torch.sqrt(2 * (2.5 - level) / g)
    second, speed = first * (1 + 2 * kept), g * first
    elapsed = 2.0 - second
    exact = torch.stack(
        (level + kept**2 * speed * elapsed - g * elapsed**2 / 2, kept**2 * speed - g * elapsed)
    )
    torch.testing.assert_close(y, exact, rtol=0, atol=1e-7)
    assert [record.name for record in model.events] == ["Ground", "Ground"]
    torch.testing.assert_close(
        torch.stack([r.t for r in model.events]), torch.stack((first, second)), rtol=0, atol=1e-8
    )
    for found, expected in (
        (y[0], exact[0]),
        (model.events[1].t, second),
        (model.events[0].after[1], kept * speed),
    ):
        left, right = (
            torch.autograd.grad(x, leaves, retain_graph=True, allow_unused=True)
            for x in (found, expected)
        )
        for a, b in zip(left, right, strict=True):
            torch.testing.assert_close(
                a, torch.zeros_like(a) if b is None else b, rtol=0, atol=1e-6
            )


def test_unknowns_are_learned_from_heights():
    """Gravity, drag, level and restitution, from heights before and after two bounces."""
    t, y0 = torch.linspace(0, 1.4, 15), tensor(2.0, 1.0)
    truth = {"gravity": 9.81, "drag": 0.3, "level": 0.1, "kept": 0.75}
    with torch.no_grad():
        data = ball(**truth, t=t, last_only=False)(y0)[:, 0]
    model = ball(9.0, 0.0, 0.0, 0.9, t=t, last_only=False)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (model(y0)[:, 0] - data).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = model.field.gravity, model.field.drag, model.event.level, model.jump.kept
    for value, expected in zip(found, truth.values(), strict=True):
        assert value.item() == pytest.approx(expected, abs=0.02)


def test_rows_jump_at_their_own_times():
    y0 = tensor((2.0, 0.0), (1.0, 0.0), (0.5, 1.0))
    batched, single = ball(t=[0.0, 0.5, 1.0], batched=True), ball(t=[0.0, 0.5, 1.0])
    found = batched(y0)
    for row, start in enumerate(y0):
        torch.testing.assert_close(found[row], single(start), rtol=1e-6, atol=1e-6)
        times = [
            [record.t.item() for record in events]
            for events in (batched.events[row], single.events)
        ]
        assert times[0] == pytest.approx(times[1], abs=1e-7) and times[0][0] == pytest.approx(
            (float(start[1]) + math.sqrt(float(start[1]) ** 2 + 2 * 9.81 * float(start[0]))) / 9.81,
            abs=1e-7,
        )


def test_copies_jump_with_modules_of_their_own():
    model, y0 = ball(), tensor(2.0, 0.0)
    before = model(y0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(y0), before)
        with torch.no_grad():
            twin.jump.kept.mul_(0.5)
        assert not torch.equal(twin(y0), before) and torch.equal(model(y0), before)
    assert set(model.state_dict()) == {"field.gravity", "field.drag", "event.level", "jump.kept"}
    assert "events" not in repr(model)


def test_mistakes_are_told():
    with pytest.raises(TypeError, match=r"jump must be an nn\.Module.*not function"):
        JumpODE(Falling(), Ground(), lambda t, y: y)
    with pytest.raises(ValueError, match="direction must be -1"):
        JumpODE(Falling(), Ground(), Bounce(), direction=2)
    with pytest.raises(ValueError, match="remove events and regularisers"):
        JumpODE(Falling(), Ground(), Bounce(), regularisers=KineticEnergy())
    with torch.no_grad(), pytest.raises(SolveError, match="max_events"):
        JumpODE(Falling(), Ground(), Bounce(0.5), (0.0, 5.0), direction=-1, max_events=4)(
            tensor(1.0, 0.0)
        )
