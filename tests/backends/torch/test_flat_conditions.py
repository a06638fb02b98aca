"""Conditions of events that become zero and stay zero: the event is where they do first, and its
time has a derivative."""

import math

import pytest
import torch

from pynode import Event, odeint_event, solve
from pynode.backends.torch.crossings import bracketed_root
from tests.support.cases import tensor
from tests.support.engines import ENGINES
from tests.support.flat_conditions import CONDITIONS, steady

each_condition = pytest.mark.parametrize("name", CONDITIONS)


def growth(t, y, k):
    return k * y


METHODS = ["tsit5", "dp8", "qndf", "rodas5p", "kencarp4", "radauiia5", "adamspece"]


@pytest.mark.parametrize(
    ("engine", "method"),
    [*(("single", m) for m in METHODS), *(("julia", m) for m in ("tsit5", "rodas5p", "qndf"))],
    indirect=["engine"],
)
@each_condition
def test_first_zero(engine, name, method):
    """To rounding where the method has a straight line to rounding. SciML's QNDF has it to the
    tolerance only."""
    event = Event(CONDITIONS[name], terminal=True)
    options = {"method": method, "events": event, "max_step": 1.0}
    with torch.no_grad():
        record = engine.solve(steady, tensor(0.3), (0.0, 5.0), **options).events[0]
    within = 1e-6 if method == "qndf" and engine is ENGINES["julia"] else 1e-12
    assert abs(float(record.t) - 0.7) < within
    assert abs(float(record.y[0]) - 1) < within


@pytest.mark.parametrize("method", ["tsit5", "qndf", "rodas5p", "kencarp4"])
@each_condition
def test_first_zero_of_rows(name, method):
    event, y0 = Event(CONDITIONS[name], terminal=True), tensor(0.3, 0.1, 0.5).unsqueeze(1)
    found = solve(steady, y0, (0.0, 5.0), method=method, events=event, batched=True, max_step=1.0)
    for records, expected in zip(found.events, (0.7, 0.9, 0.5), strict=True):
        assert abs(float(records[0].t) - expected) < 1e-12


@pytest.mark.parametrize("method", ["bosh3", "dopri5", "tsit5", "rk4"])
def test_first_zero_of_torchdiffeq(method):
    options = {"step_size": 0.25} if method == "rk4" else None
    t, y = odeint_event(
        steady,
        tensor(0.3),
        tensor(0.0),
        event_fn=CONDITIONS["relu"],
        method=method,
        options=options,
    )
    assert abs(float(t) - 0.7) < 1e-6
    assert abs(float(y[-1, 0]) - 1) < 1e-6


def test_backward_in_time():
    found = solve(
        lambda t, y: -steady(t, y),
        tensor(0.3),
        (5.0, 0.0),
        method="tsit5",
        events=CONDITIONS["relu"],
    )
    assert [abs(float(record.t) - 4.3) < 1e-12 for record in found.events] == [True]


def test_direction():
    """What falls to zero is no rise; what rises to zero is."""
    for sign, direction, count in ((1, -1, 1), (1, 1, 0), (-1, 1, 1), (-1, -1, 0)):
        event = Event(lambda t, y, sign=sign: sign * CONDITIONS["relu"](t, y), direction=direction)
        assert (
            len(solve(steady, tensor(0.3), (0.0, 5.0), method="tsit5", events=event).events)
            == count
        )


def test_zero_at_the_start_fires_when_it_comes_back():
    """relu(sin t - 0.5) is zero at the start, positive from pi / 6 on, and zero again from 5 pi / 6
    on."""
    event = Event(lambda t, y: torch.relu(torch.sin(t) - 0.5).reshape(1))
    found = solve(
        lambda t, y: torch.zeros_like(y),
        tensor(1.0),
        (0.0, 6.0),
        method="tsit5",
        max_step=0.5,
        events=event,
    )
    assert [round(float(record.t), 9) for record in found.events] == [round(5 * math.pi / 6, 9)]


def test_reset_and_count():
    """A state that is set back at every event: each occurs where the condition first becomes
    zero."""
    event = Event(CONDITIONS["relu"], reset=lambda t, y: torch.full_like(y, 0.5))
    found = solve(steady, tensor(0.3), (0.0, 2.0), method="tsit5", events=event)
    assert torch.allclose(
        torch.stack([r.t for r in found.events]), tensor(0.7, 1.2, 1.7), rtol=0, atol=1e-12
    )
    rows = solve(
        steady,
        tensor(0.3, 0.4).unsqueeze(1),
        (0.0, 2.0),
        method="tsit5",
        events=event,
        batched=True,
    )
    for records, first in zip(rows.events, (0.7, 0.6), strict=True):
        assert torch.allclose(
            torch.stack([r.t for r in records]), first + tensor(0.0, 0.5, 1.0), rtol=0, atol=1e-12
        )


@each_condition
def test_gradient_of_the_time(name):
    """y = y0 e^(k t) reaches 1 at -log(y0) / k."""
    event = Event(CONDITIONS[name], terminal=True)
    k, y0 = tensor(0.5, requires_grad=True), tensor(0.3, requires_grad=True)
    expected = tensor(math.log(0.3) / 0.25), tensor(-1 / (0.5 * 0.3))
    found = solve(
        growth, y0, (0.0, 5.0), method="tsit5", args=(k,), events=event, rtol=1e-9, atol=1e-9
    )
    for a, b in zip(torch.autograd.grad(found.events[0].t, (k, y0)), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-6)
    rows = solve(
        growth,
        y0.reshape(1, 1).expand(2, 1),
        (0.0, 5.0),
        method="tsit5",
        args=(k,),
        events=event,
        batched=True,
        rtol=1e-9,
        atol=1e-9,
    )
    for a, b in zip(torch.autograd.grad(rows.events[1][0].t, (k, y0)), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-6)
    t, _ = odeint_event(
        lambda t, y: k * y, y0, tensor(0.0), event_fn=CONDITIONS[name], rtol=1e-9, atol=1e-9
    )
    for a, b in zip(torch.autograd.grad(t, (k, y0)), expected, strict=True):
        assert torch.allclose(a.reshape(1), b, rtol=1e-6)


def test_conditions_without_a_derivative_are_refused():
    """A sign says nothing of when it changes: no zero gradient, and no NaN."""
    k, y0 = tensor(0.5, requires_grad=True), tensor(0.3, requires_grad=True)
    event = Event(lambda t, y, *args: torch.sign(1 - y[..., 0]), terminal=True, name="sign")
    options = {"method": "tsit5", "args": (k,), "events": event}
    found = solve(growth, y0, (0.0, 5.0), **options).events[0].t
    with pytest.raises(RuntimeError, match=r"'sign' has no derivative.*goes through zero"):
        found.backward()
    rows = (
        solve(growth, y0.reshape(1, 1).expand(2, 1), (0.0, 5.0), batched=True, **options)
        .events[0][0]
        .t
    )
    with pytest.raises(RuntimeError, match="'sign' has no derivative"):
        rows.backward()


@pytest.mark.parametrize(
    ("g", "root"),
    [
        (lambda x: min(x - 0.3, 0.0), 0.3),
        (lambda x: max(0.3 - x, 0.0), 0.3),
        (lambda x: min((x - 0.3) ** 3, 0.0), 0.3),
        (lambda x: x - 1.0, 1.0),
        (lambda x: x - 0.5, 0.5),
        (lambda x: -1.0 if x < 0.9 else 0.0, 0.9),
        (lambda x: min(x - 1e-9, 0.0), 1e-9),
        (lambda x: min(math.expm1(50 * (x - 0.3)), 0.0), 0.3),
    ],
    ids=["line", "late line", "cubic", "end", "middle", "jump", "early", "exponential"],
)
def test_root_search(g, root):
    asked = []

    def counted(x):
        asked.append(x)
        return g(x)

    found = bracketed_root(counted, 0.0, 1.0, g(0.0), g(1.0), 1e-14)
    assert abs(found - root) < (
        1e-5 if g(root + 1e-6) == 0 and abs(g(root - 1e-6)) < 1e-15 else 1e-13
    )
    assert len(asked) < 60
