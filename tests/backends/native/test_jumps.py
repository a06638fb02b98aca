"""Jumps of f inside one native solve: nothing is asked across, and one solve crosses them all."""

import operator

import numpy as np
import pytest
import torch

from pynode import Event, PresetTimes, solve
from pynode.backends.native.jumps import crossed_inside, stops_and_restarts

pytest.importorskip("numba", reason="the native engine needs numba")

DOUBLE = torch.float64
METHODS = ["tsit5", "rodas5p", "kencarp4", "radauiia5", "qndf"]
TIGHT = {"rtol": 1e-9, "atol": 1e-11, "backend": "native"}
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path_factory.getbasetemp() / "native"))


class Switched(torch.nn.Module):
    """dy/dt = level - rate y, whose level is another one from (or after) each of the times."""

    def __init__(self, times, side=operator.ge, direction=1.0):
        super().__init__()
        self.times = times
        self.side = side
        self.direction = direction
        self.levels = torch.nn.Parameter(torch.cos(torch.arange(9, dtype=DOUBLE)))

    def forward(self, t, y):
        level = self.levels[0] + 0 * t
        for time, jump in zip(self.times, self.levels[1:]):
            level = torch.where(self.side(t, time), level + jump, level)
        return self.direction * (level - 2.0 * y)


def pieces(field, times, ends):
    """The states at the ends by one solve for each piece between two times, y(first) = 1."""
    bounds = sorted({0.0, *times, *ends})
    y = torch.ones(1, dtype=DOUBLE)
    found = {0.0: y}
    for low, high in zip(bounds, bounds[1:]):
        middle = torch.tensor((low + high) / 2, dtype=DOUBLE)

        def still(t, y, at=middle):
            return field(at, y)

        y = solve(still, y, [low, high], method="vern7", rtol=1e-11, atol=1e-12).y[-1]
        found[high] = y
    return torch.stack([found[end] for end in ends])


@each_method
@pytest.mark.parametrize("side", [operator.ge, operator.gt], ids=["from", "after"])
@pytest.mark.parametrize("adjoint", ["discrete", "forward"])
def test_values_and_gradients(method, side, adjoint):
    """Also at a jump that is an output."""
    field = Switched([0.3, 0.7, 1.1], side)
    ends = [0.0, 0.5, 0.7, 2.0]
    expected = pieces(field, field.times, ends)
    with torch.no_grad():
        plain = solve(
            field, torch.ones(1, dtype=DOUBLE), ends, method=method, jumps=field.times, **TIGHT
        )
    found = solve(
        field,
        torch.ones(1, dtype=DOUBLE),
        ends,
        method=method,
        jumps=field.times,
        adjoint=adjoint,
        **TIGHT,
    )
    assert len(plain._segments) == 1
    assert len(found._segments) == (4 if method == "qndf" else 1)
    for solution in (plain, found):
        assert torch.allclose(solution.y, expected, rtol=0, atol=1e-6)
    left, right = (
        torch.autograd.grad(y.square().sum(), field.levels)[0] for y in (found.y, expected)
    )
    assert torch.allclose(left, right, rtol=0, atol=1e-5)


def test_backwards_in_time():
    field = Switched([0.3, 0.7])
    forwards = solve(
        field, torch.ones(1, dtype=DOUBLE), [0.0, 1.0], method="vern7", jumps=[0.3, 0.7], **TIGHT
    )
    back = solve(
        field, forwards.y[-1].detach(), [1.0, 0.7, 0.0], method="vern7", jumps=[0.3, 0.7], **TIGHT
    )
    assert len(back._segments) == 1
    assert torch.allclose(back.y[-1], torch.ones(1, dtype=DOUBLE), atol=1e-6)


def test_second_derivatives_know_where_a_step_begins_anew():
    """tsit5 takes its first stage from the step before, but not behind a jump."""
    found = []
    for backend in ("torch", "native"):
        field = Switched([0.5])
        options = {**TIGHT, "backend": backend}
        y = solve(
            lambda t, y, field=field: field(t, y) * y,
            torch.ones(1, dtype=DOUBLE),
            [0.0, 1.0],
            method="tsit5",
            jumps=[0.5],
            params=[field.levels],
            **options,
        ).y[-1]
        (first,) = torch.autograd.grad(y.sum(), field.levels, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), field.levels)
        found.append(second)
    assert torch.allclose(*found, rtol=1e-5, atol=1e-7)


def test_rows_have_their_own_jumps():
    def field(t, y, when):
        return torch.where(t >= when, 2.0, 1.0) + 0 * y

    when = torch.tensor([[0.25], [0.5], [0.75]], dtype=DOUBLE)
    starts = torch.zeros(3, 1, dtype=DOUBLE)
    jumps = torch.cat((when, torch.full_like(when, torch.nan)), 1)
    found = solve(field, starts, [0.0, 0.5, 1.0], args=(when,), batched=True, jumps=jumps, **TIGHT)
    assert torch.allclose(found.y[-1], 2 - when, atol=1e-12)
    assert torch.allclose(found.y[1], 0.5 + (0.5 - when).clamp(min=0), atol=1e-12)


@pytest.mark.parametrize(
    "other", [{"events": PresetTimes([0.3], lambda t, y: y + 1)}, {"dense": True}]
)
def test_what_divides_the_solve_still_does(other):
    field = Switched([0.3, 0.7])
    options = {"method": "tsit5", "jumps": [0.3, 0.7], **TIGHT, **other}
    with torch.no_grad():
        found = solve(field, torch.ones(1, dtype=DOUBLE), [0.0, 1.0], **options)
        expected = solve(
            field, torch.ones(1, dtype=DOUBLE), [0.0, 1.0], **{**options, "backend": "torch"}
        )
    assert len(found._segments) == (2 if "events" in other else 3)
    assert torch.allclose(found.y, expected.y, atol=1e-8)


def test_events_between_jumps():
    field = Switched([0.3, 0.7])
    high = Event(lambda t, y: y[0] - 0.9, name="high")
    options = {"method": "tsit5", "jumps": [0.3, 0.7], "events": high}
    start = torch.ones(1, dtype=DOUBLE)
    found = [
        solve(field, start, [0.0, 1.0], **{**options, **TIGHT, "backend": backend}).events
        for backend in ("native", "torch")
    ]
    times = [[record.t.item() for record in events] for events in found]
    assert times[0] and np.allclose(*times, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_stops_and_restarts(dtype, sign):
    jumps = sign * np.array([0.5, np.nan, 0.5, 0.0, 1.0, 2.0])
    stops, restarts = stops_and_restarts([sign * 0.25, sign * 0.5], jumps, 0.0, sign, dtype)
    spacing = np.finfo(dtype).eps
    beside = sign * (0.5 - spacing)
    beyond = sign * (0.5 + spacing)
    assert stops.tolist() == [sign * 0.25, float(beside), sign]
    assert restarts.tolist() == [sign * 0.25, float(beyond), sign]


def test_jumps_at_presets_are_left():
    inside = crossed_inside(
        np.array([0.0, 0.2, 0.5, 1.0]), [np.array([0.2])], np.array([0.0]), np.array([1.0])
    )
    assert inside.tolist() == [False, False, True, False]
