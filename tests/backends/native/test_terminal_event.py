"""A solve to one terminal event takes the short way from its second time on: the same end, record
and gradients as the long way."""

import pytest
import torch
from torch import nn

from pynode import Event, solve
from pynode.backends.native import terminal_event
from tests.support.cases import tensor

pytest.importorskip("numba")
METHODS = ["tsit5", "rodas5p", "qndf", "fbdf", "kencarp47", "radau"]


def number(x):
    return torch.tensor(x, dtype=torch.float64)


class Swing(nn.Module):
    """A damped oscillator."""

    def __init__(self):
        super().__init__()
        self.stiffness = nn.Parameter(number(4.0))

    def forward(self, t, y, level):
        return torch.stack((y[1], -self.stiffness * y[0] - 0.1 * y[1]))


def below(t, y, level):
    return y[0] - level


class Shifted(nn.Module):
    """A condition with a parameter, which depends on t."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(number(0.3))

    def forward(self, t, y, level):
        return y[..., 0] - level - self.shift * t


@pytest.fixture
def short(monkeypatch):
    """How many solves have taken the short way."""
    found = []
    original = terminal_event._Search.watch

    def counted(self, step):
        cut = original(self, step)
        if cut is not None:
            found.append(cut.t)
        return cut

    monkeypatch.setattr(terminal_event._Search, "watch", counted)
    return found


def solved(field, y0, event, method, level, **options):
    settings = {"rtol": 1e-7, "atol": 1e-10, "backend": "native", **options}
    return solve(field, y0, [0.0, 0.2, 3.0], method=method, args=(level,), events=event, **settings)


def both(field, y0, condition, method, direction, level):
    """(the solution by the long way, by the short way). A second event that never occurs asks for
    the long way."""
    event = Event(condition, direction=direction, terminal=True, name="below")
    never = Event(lambda t, y, level: y[0] + 100.0, name="never")
    solved(field, y0, event, method, level)  # the first solve of a field takes the long way
    long = solved(field, y0, [event, never], method, level)
    return long, solved(field, y0, event, method, level)


@pytest.mark.parametrize("direction", [-1, 0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_the_end_of_the_long_way(method, direction, short):
    field = Swing()
    with torch.no_grad():
        long, found = both(field, tensor(1.0, 0.0), below, method, direction, number(0.2))
    assert len(short) == 1
    assert found.status is long.status
    assert found.message == long.message
    assert found.t.tolist() == long.t.tolist() == [0.0, 0.2]
    torch.testing.assert_close(found.y, long.y)
    (record,) = found.events
    (expected,) = long.events
    assert (record.event, record.index, record.name) == (0, 0, "below")
    torch.testing.assert_close(record.t, expected.t, rtol=1e-12, atol=0)
    torch.testing.assert_close(record.y, expected.y, rtol=1e-9, atol=1e-9)
    assert found.stats.accepted == long.stats.accepted


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "fbdf"])
def test_gradients_of_the_long_way(method, short):
    """In the start, in parameters of f and of the condition, and in args."""
    field = Swing()
    condition = Shifted()
    y0 = tensor(1.0, 0.0).requires_grad_()
    level = number(0.2).requires_grad_()
    wanted = [y0, level, field.stiffness, condition.shift]
    gradients = []
    for solution in both(field, y0, condition, method, -1, level):
        (record,) = solution.events
        value = record.t * 3.0 + record.y[1] + solution.y[-1].sum()
        gradients.append(torch.autograd.grad(value, wanted))
    assert len(short) >= 1
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_forward_sensitivities(short):
    field = Swing()
    y0 = tensor(1.0, 0.0)
    event = Event(below, direction=-1, terminal=True)
    gradients = []
    for adjoint in ("discrete", "discrete", "forward"):
        solution = solved(field, y0, event, "rodas5p", number(0.2), adjoint=adjoint)
        gradients.append(torch.autograd.grad(solution.events[0].t, field.stiffness)[0])
    assert len(short) == 2
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-9, atol=0)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=0)


def test_an_event_that_does_not_occur(short):
    field = Swing()
    with torch.no_grad():
        long, found = both(field, tensor(1.0, 0.0), below, "tsit5", 1, number(-50.0))
    assert not short
    assert found.success
    assert not found.events
    assert "'below' did not occur" in found.message
    assert found.t.tolist() == [0.0, 0.2, 3.0]
    torch.testing.assert_close(found.y, long.y)


@pytest.mark.parametrize(
    "event",
    [
        Event(lambda t, y, level: torch.stack((y[0] - level, y[1] + 1.0)), terminal=True),
        Event(lambda t, y, level: y[0] - 1.0, terminal=True),  # zero at the start
        Event(below, terminal=2),
        Event(below, terminal=True, reset=lambda t, y, level: y),
        Event(lambda t, y, level: torch.relu(0.9 - y[0]) - 0.0 * level, terminal=True),
    ],
    ids=["two values", "zero", "second", "reset", "stays zero"],
)
def test_other_events_take_the_long_way(event, short):
    field = Swing()
    level = number(0.2)
    with torch.no_grad():
        first = solved(field, tensor(1.0, 0.0), event, "tsit5", level)
        again = solved(field, tensor(1.0, 0.0), event, "tsit5", level)
    assert not short
    assert first.status is again.status
    assert [record.t.item() for record in first.events] == [
        record.t.item() for record in again.events
    ]
