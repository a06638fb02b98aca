"""Events, domains, callbacks and shared limits of rows that are native solves."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pynode import Event, PresetTimes, Status, solve
from pynode.backends.torch.batched_event_detection import BatchEventDetector
from tests.support.cases import leaf, tensor

pytest.importorskip("numba")
pytest.importorskip("llvmlite")

ROWS = 7


def falling(t, y, g):
    return torch.stack((y[:, 1], -g - 0.3 * y[:, 1]), 1)


class Ground(nn.Module):
    """Zero where a ball meets the ground. level: of all rows."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(tensor(0.1)[0])

    def forward(self, t, y, g):
        return y[:, 0] - self.level


def bounce(t, y, g):
    return torch.stack((y[:, 0], -0.8 * y[:, 1]), 1)


def balls(backend, make, threads=1, gradient=True, **options):
    """(solution, gradients in the starts, in g and in the level of the ground)."""
    ground = Ground()
    y0 = leaf(torch.stack((torch.linspace(1, 3, ROWS), torch.zeros(ROWS)), 1).double())
    g = leaf(torch.linspace(8, 12, ROWS).double())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    options = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-11, "throw": False, **options}
    t = options.pop("t", torch.linspace(0, 2.5, 6).double())
    try:
        solution = solve(
            falling, y0, t, args=(g,), events=make(ground), batched=True, backend=backend, **options
        )
        assert solution.backend == backend
        loss = solution.y.nan_to_num().square().sum()
        for records in solution.events:
            for k, record in enumerate(records):
                loss = loss + (k + 1) * record.t + record.y.sum()
        if not gradient:
            return solution, None
        return solution, torch.autograd.grad(loss, [y0, g, ground.level], allow_unused=True)
    finally:
        torch.set_num_threads(before)


def assert_same(mine, theirs, within=1e-7):
    """The same events, ends and gradients."""
    (mine, grads), (theirs, their_grads) = mine, theirs
    assert mine.statuses == theirs.statuses
    assert mine.reached == pytest.approx(theirs.reached, abs=within)
    for own, other in zip(mine.events, theirs.events, strict=True):
        assert [(r.name, r.index) for r in own] == [(r.name, r.index) for r in other]
        for a, b in zip(own, other, strict=True):
            torch.testing.assert_close(a.t, b.t, rtol=0, atol=within)
            torch.testing.assert_close(a.y, b.y, rtol=0, atol=10 * within)
    torch.testing.assert_close(mine.y, theirs.y, rtol=0, atol=10 * within, equal_nan=True)
    for a, b in zip(grads, their_grads, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=100 * within, atol=100 * within)


def bouncing(ground):
    return [
        Event(ground, direction=-1, reset=bounce, name="ground"),
        Event(lambda t, y, g: y[:, 1] + 1.0, name="speed"),
    ]


EVENTS = {
    "bouncing": bouncing,
    "terminal": lambda ground: Event(ground, terminal=True),
    "second": lambda ground: [Event(ground, direction=-1, reset=bounce, terminal=2)],
    "recorded": lambda ground: Event(lambda t, y, g: torch.stack((y[:, 1] + 1, y[:, 1] + g), 1)),
    "limit": lambda ground: Event(ground, direction=-1, reset=bounce, max_events=1),
    "doses": lambda ground: [*bouncing(ground), PresetTimes([0.3, 1.1], bounce)],
    "python": lambda ground: Event(
        lambda t, y, g: y[:, 0] - float(ground.level.detach()), reset=bounce, direction=-1
    ),
}


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf", "kvaerno5"])
@pytest.mark.parametrize("events", EVENTS)
def test_rows_beside_torch(method, events):
    within = 1e-5 if method == "qndf" else 1e-7
    found = [balls(backend, EVENTS[events], method=method) for backend in ("native", "torch")]
    assert_same(*found, within)
    assert any(found[0][0].events)


def test_rows_that_go_back_in_time():
    t = torch.linspace(0, -1.2, 5).double()
    assert_same(*(balls(backend, bouncing, t=t) for backend in ("native", "torch")))


def test_rows_do_not_depend_on_threads_or_on_other_rows():
    one, grads = balls("native", bouncing)
    other, other_grads = balls("native", bouncing, threads=3)
    assert torch.equal(one.y, other.y)
    assert all(map(torch.equal, grads, other_grads))
    for i in range(ROWS):
        ground = Ground()
        start = torch.linspace(1, 3, ROWS).double()[i]
        alone = solve(
            falling,
            torch.stack((start, 0 * start)).unsqueeze(0),
            torch.linspace(0, 2.5, 6).double(),
            args=(torch.linspace(8, 12, ROWS).double()[i : i + 1],),
            events=bouncing(ground),
            batched=True,
            backend="native",
            method="tsit5",
            rtol=1e-9,
            atol=1e-11,
        )
        torch.testing.assert_close(alone.y[:, 0], one.y[:, i].detach(), rtol=1e-11, atol=1e-12)
        times = [
            [float(r.t.detach()) for r in events] for events in (alone.events[0], one.events[i])
        ]
        assert times[0] == pytest.approx(times[1], abs=1e-12)


def test_an_output_at_an_event_that_ends_a_row():
    """The output is the state at the event, with its gradient."""

    def grads(backend):
        y0 = leaf(tensor(1.0, 2.0).unsqueeze(1))
        event = Event(lambda t, y: t.reshape(-1, 1) - 0.5, terminal=True)
        options = {"method": "rodas5p", "batched": True, "backend": backend, "events": event}
        found = solve(lambda t, y: -(y**2), y0, (0.0, 0.5, 1.0), rtol=1e-8, **options)
        assert found.statuses == [Status.EVENT] * 2
        return torch.autograd.grad(found.y[1].sum(), y0)[0]

    torch.testing.assert_close(grads("native"), grads("torch"), rtol=1e-7, atol=0)


def test_python_looks_only_near_events(monkeypatch):
    looks = []
    check_step = BatchEventDetector.check_step

    def noted(self, clock, result, *rest):
        looks.append(len(clock.index))
        return check_step(self, clock, result, *rest)

    monkeypatch.setattr(BatchEventDetector, "check_step", noted)
    found, _ = balls("native", EVENTS["terminal"], gradient=False)
    assert found.statuses == [Status.EVENT] * ROWS
    assert sum(looks) <= 2 * ROWS < found.stats.accepted


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_a_callback_sees_the_passes(backend):
    """All rows, after each pass; it ends one row, and then all."""
    seen = []

    def callback(t, y, stats):
        seen.append((t.numpy().copy(), y.numpy().copy(), stats.accepted))
        if len(seen) == 4:
            return torch.arange(ROWS) == 2
        return len(seen) == 8

    found, _ = balls(backend, EVENTS["recorded"], gradient=False, callback=callback)
    assert found.statuses == [Status.CALLBACK] * ROWS
    assert len(seen) == 8
    times = np.stack([t for t, _, _ in seen])
    assert (np.diff(times, axis=0)[:3] >= 0).all()
    assert (times[4:, 2] == times[3, 2]).all()
    assert [count for _, _, count in seen] == sorted(count for _, _, count in seen)
    assert found.reached == pytest.approx(times[-1].tolist())
    assert seen[0][1].shape == (ROWS, 2)


def test_both_engines_show_a_callback_the_same_passes():
    found = {}
    for backend in ("native", "torch"):
        seen = found[backend] = []

        def callback(t, y, stats, seen=seen):
            seen.append(t.tolist())

        solve(
            lambda t, y: torch.cos(3 * t) - y**3,
            tensor(0.2, 1.0, 2.0).unsqueeze(1),
            (0.0, 2.0),
            events=Event(lambda t, y: y[:, 0] - 0.6, terminal=2),
            batched=True,
            backend=backend,
            method="rodas5p",
            callback=callback,
        )
    assert len(found["native"]) == len(found["torch"])
    np.testing.assert_allclose(found["native"], found["torch"], rtol=1e-6)


@pytest.mark.parametrize("most", [60, 200, 400])
def test_evaluations_of_all_rows_together(most):
    """Rows end in the pass in which the sum reaches the limit."""
    for backend in ("native", "torch"):
        found, _ = balls(backend, EVENTS["recorded"], gradient=False, max_nfe=most)
        assert set(found.statuses) == {Status.MAX_EVALUATIONS}
        assert most - 60 <= found.stats.nfe <= most + 60
        assert 0 < max(found.reached) < 2.5


def test_a_domain_of_rows():
    """y = start - t leaves the domain at the start of row 0, and later in the others."""

    def solved(backend):
        return solve(
            lambda t, y: -torch.ones_like(y),
            tensor(-0.5, 0.5, 1.0, 9.0).unsqueeze(1),
            (0.0, 2.0),
            batched=True,
            method="tsit5",
            domain=lambda t, y: y[:, 0] >= 0,
            throw=False,
            backend=backend,
        )

    mine, theirs = solved("native"), solved("torch")
    assert mine.statuses == theirs.statuses == [Status.DOMAIN] * 3 + [Status.SUCCESS]
    assert mine.reached == pytest.approx([0.0, 0.5, 1.0, 2.0], abs=1e-6)


def test_errors_of_the_users_functions():
    def fails(t, y, g):
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match="of the user"):
        balls("native", lambda ground: [], domain=lambda t, y: fails(t, y, 0))
    with pytest.raises(ZeroDivisionError, match="of the user"):
        balls("native", lambda ground: Event(ground, reset=fails), gradient=False)
    with pytest.raises(ValueError, match="'log' is NaN"):
        event = Event(lambda t, y, g: torch.log(y[:, 0] - 0.5), name="log")
        balls("native", lambda ground: event, gradient=False)
    assert math.isfinite(balls("native", bouncing)[0].reached[0])
