"""Conditions of events in compiled code: what they find, and when Python looks."""

import math

import pytest
import torch
from torch import nn

from pynode import Event, Status, solve
from pynode.backends.torch.event_detection import EventDetector
from tests.support.cases import leaf, tensor

pytest.importorskip("numba")
pytest.importorskip("llvmlite")

FAMILIES = ["Tsit5", "Vern7", "Rodas5P", "QNDF", "FBDF", "Kvaerno5", "RadauIIA5"]


def swinging(t, y):
    return torch.stack((y[1], -y[0]))


def wave(t, y):
    return 0 * y + torch.cos(5 * t)


def height(t, y):
    return y[0]


@pytest.fixture
def looks(monkeypatch):
    """The ends of the steps in which Python has looked for events."""
    ends = []
    check_step = EventDetector.check_step

    def noted(self, step, end, coefficients):
        ends.append(end)
        return check_step(self, step, end, coefficients)

    monkeypatch.setattr(EventDetector, "check_step", noted)
    return ends


def found(backend, events, f=swinging, y0=(0.5, 0.0), t=(0.0, 10.0), **options):
    """[(name, time)] of the events, and the solution."""
    y0 = y0 if isinstance(y0, (torch.Tensor, dict)) else tensor(*y0)
    options = {"method": "tsit5", "rtol": 1e-8, "atol": 1e-10, **options}
    with torch.no_grad():
        solution = solve(f, y0, t, events=events, backend=backend, **options)
    return [(record.name, float(record.t)) for record in solution.events], solution


def same(events, within=1e-9, **options):
    """Assert that both engines find the same events. Returns them, and the native solution."""
    theirs, _ = found("torch", events, **options)
    mine, solution = found("native", events, **options)
    assert [name for name, _ in mine] == [name for name, _ in theirs]
    assert [t for _, t in mine] == pytest.approx([t for _, t in theirs], abs=within)
    return mine, solution


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("end", [10.0, -10.0])
def test_python_looks_only_near_events(looks, method, end):
    events = [Event(height, name="height"), Event(lambda t, y: y[1] - 2.0, name="never")]
    within = 1e-6 if method in ("QNDF", "FBDF") else 1e-9
    same(events, within, method=method, t=(0.0, end))
    looks.clear()
    records, solution = found("native", events, method=method, t=(0.0, end))
    assert [name for name, _ in records] == ["height"] * 3
    assert len(looks) <= 4
    assert solution.stats.accepted > 3 * len(looks)


def test_without_crossings_python_never_looks(looks):
    records, solution = found("native", Event(lambda t, y: y[0] - 2.0, terminal=True))
    assert records == []
    assert solution.status is Status.SUCCESS
    assert looks == []


@pytest.mark.parametrize(
    "condition",
    [
        lambda t, y: torch.relu(1.0 - t),
        lambda t, y: (t - 1.0) ** 2,
        lambda t, y: (t - 1.0) ** 3,
        lambda t, y: torch.sin(40 * t),
        lambda t, y: torch.where(t < 1.0, torch.ones_like(t), torch.zeros_like(t)),
        lambda t, y: torch.stack((t - 0.5, t - 1.0, y[0] + 9)),
        lambda t, y: (y[0] - y[0]) + 0 * t,
        lambda t, y: 1e-30 * (t - 1.0),
        lambda t, y: 1e30 * (t - 1.0),
    ],
    ids=["stays zero", "touches", "triple", "many", "jump", "vector", "zero", "tiny", "huge"],
)
@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("options", [{"step_size": 0.25}, {"max_step": 0.3}, {}])
def test_odd_zeros(condition, start, options):
    """Roots at the ends of steps and inside, at the start, several in a step, and none."""
    same(Event(condition), 1e-8, f=wave, t=(start, 2.0), **options)


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_nan_in_a_condition(backend):
    event = Event(lambda t, y: torch.sqrt(2.0 - t), name="root")
    with pytest.raises(ValueError, match="'root' is NaN"):
        found(backend, event)


def test_nan_inside_a_step_alone():
    """At the samples inside a step NaN is no side, and no event."""
    event = Event(lambda t, y: torch.where((t - 1.1).abs() < 0.05, torch.nan, 1.0) + 0 * t)
    same(event, f=lambda t, y: 0 * y, step_size=0.2, t=(0.0, 2.0))


class Level(nn.Module):
    """A condition with a parameter."""

    def __init__(self, level, factor=1.0):
        super().__init__()
        self.level = nn.Parameter(tensor(level))
        self.factor = factor

    def forward(self, t, y):
        return self.factor * (y[0] - self.level)


def test_parameters_are_read_anew(looks):
    condition = Level(0.3)
    for level in (0.3, -0.2, 0.45):
        with torch.no_grad():
            condition.level.fill_(level)
        records, _ = found("native", Event(condition, direction=-1), t=(0.0, 3.0))
        # y = cos(t) / 2
        assert [t for _, t in records] == pytest.approx([math.acos(2 * level)], abs=1e-8)
    assert len(looks) <= 6


def test_gradients_at_event_times():
    grads = []
    for backend in ("torch", "native"):
        condition = Level(0.3)
        y0 = leaf(tensor(0.5, 0.1))
        options = {"method": "rodas5p", "rtol": 1e-9, "atol": 1e-11, "backend": backend}
        event = Event(condition, reset=lambda t, y: -y)
        solution = solve(swinging, y0, (0.0, 4.0), events=event, **options)
        assert len(solution.events) == 2
        loss = solution.events[1].t + solution.y[-1].sum()
        grads.append(torch.autograd.grad(loss, [y0, condition.level]))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9)


def test_changed_conditions_are_translated_anew():
    """A number in the module, in a closure and in a global."""
    condition = Level(0.0)
    condition.factor = tensor(1.0)
    shift = 0.25

    def shifted(t, y):
        return y[0] - shift

    for value in (0.25, -0.25, 0.1):
        shift = value
        condition.factor = value
        test_changed_conditions_are_translated_anew.number = value
        records, _ = found("native", [Event(shifted, direction=-1)], t=(0.0, 3.0))
        assert [t for _, t in records] == pytest.approx([math.acos(2 * value)], abs=1e-8)
        records, _ = found("native", [Event(by_global, direction=-1)], t=(0.0, 3.0))
        assert [t for _, t in records] == pytest.approx([math.acos(2 * value)], abs=1e-8)


def by_global(t, y):
    return y[0] - test_changed_conditions_are_translated_anew.number


def test_closures_of_one_code():
    def at(level):
        return Event(lambda t, y: y[0] - level, name=str(level))

    records, _ = same([at(0.25), at(-0.25), at(tensor(0.1)[0])], t=(0.0, 3.0))
    assert sorted(t for _, t in records) == pytest.approx(
        sorted(math.acos(2 * level) for level in (0.25, -0.25, 0.1)), abs=1e-8
    )


def test_a_reset_that_changes_what_the_condition_reads():
    """A thermostat: the reset switches the level that is watched next."""

    def records(backend):
        mode = {"level": 0.2}

        def switch(t, y):
            mode["level"] = -mode["level"]
            return y.clone()

        event = Event(lambda t, y: y[0] - mode["level"], reset=switch)
        return found(backend, event)[0]

    mine, theirs = records("native"), records("torch")
    assert len(mine) == len(theirs) > 3
    assert [t for _, t in mine] == pytest.approx([t for _, t in theirs], abs=1e-8)


@pytest.mark.parametrize("seen", [[], None])
def test_what_cannot_be_translated_is_asked_in_python(looks, seen):
    """A Python number, and a condition that keeps what it sees: every step is shown."""

    def condition(t, y):
        if seen is not None:
            seen.append(t)
        elif float(t) > 100:
            return y[0] + 1
        return y[0]

    same(Event(condition))
    looks.clear()
    _, solution = found("native", Event(condition))
    assert len(looks) == solution.stats.accepted


def test_a_callback_sees_every_step(looks):
    ends = []
    _, solution = found("native", Event(height), callback=lambda t, y, stats: ends.append(t))
    assert looks == ends
    assert len(ends) == solution.stats.accepted


def test_nested_states_args_and_float32():
    def f(t, y, rate):
        return {"a": -rate["k"] * y["a"], "b": -y["b"]}

    def condition(t, y, rate):
        return y["a"][1] - 0.5 * rate["k"]

    y0 = {"a": torch.tensor([1.0, 2.0]), "b": torch.ones(2, 2)}
    options = {"f": f, "y0": y0, "args": ({"k": torch.tensor(1.0)},), "rtol": 1e-5, "atol": 1e-6}
    records, _ = same(Event(condition), 1e-5, t=(0.0, 3.0), **options)
    assert records[0][1] == pytest.approx(math.log(4.0), rel=1e-4)
