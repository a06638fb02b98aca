"""Events, resets, preset times, limits, and reports of failures."""

import pytest
import torch

from pynode import Event, PresetTimes, SolveError, solve
from tests.support.on_device import NAME, fixed, leaf, same, strict

METHODS = ["Tsit5", "Rodas5P", "Kvaerno5", "QNDF", "FBDF"]
every_method = pytest.mark.parametrize("method", METHODS)
rows_or_one = pytest.mark.parametrize("batched", [False, True], ids=["single", "rows"])


def falling(t, y, rate, *rest):
    return -rate.unsqueeze(-1) * y


@rows_or_one
@every_method
def test_events(method, batched):
    """An event that resets, one that ends, preset times and a jump: all gradients."""

    def compute(device):
        rate = leaf([1.0, 2.0] if batched else 1.0, device)
        level = leaf([0.5, 0.4] if batched else 0.5, device)
        push = leaf(0.2, device)
        events = [
            Event(
                lambda t, y, rate, level: y[..., 0] - level,
                direction=-1,
                reset=lambda t, y, rate, level: y + 1.0,
            ),
            Event(lambda t, y, *args: (t - 1.8 + 0 * y)[..., 0], terminal=True),
            PresetTimes([0.7], lambda t, y, rate, level, push=push: y + push),
        ]
        y0 = torch.ones((2, 2) if batched else 2, dtype=torch.float64, device=device)
        solution = solve(
            falling,
            y0,
            [0.0, 1.0, 2.0],
            args=(rate, level),
            params=(rate, level, push),
            method=method,
            events=events,
            jumps=[0.3],
            batched=batched,
        )
        found = solution.events[0] if batched else solution.events
        reached = solution.y.nan_to_num()
        loss = reached.square().sum() + found[0].t + found[0].y.sum()
        return [reached, found[0].y, *torch.autograd.grad(loss, (rate, level, push))]

    same(compute, rtol=1e-5, atol=1e-7)


@rows_or_one
@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
def test_limits(method, batched):
    """A callback, a domain and states that are not negative."""

    def compute(device):
        rate = fixed([1.0, 2.0] if batched else 1.0, device)
        seen = []
        y0 = torch.ones((2, 2) if batched else 2, dtype=torch.float64, device=device)
        solution = solve(
            falling,
            y0,
            [0.0, 0.4, 1.0],
            args=(rate,),
            method=method,
            batched=batched,
            nonnegative=True,
            domain=lambda t, y, *args: (y < 2.0).all(-1),
            callback=lambda *args: seen.append(args[0]) and None,
        )
        assert seen
        return [solution.y]

    same(compute)


def square(t, y):
    return y * y


def root(t, y):
    return -torch.sqrt(y) - 1.0


def relay(t, y):
    return -1e3 * torch.sign(y - 0.5)


@rows_or_one
@pytest.mark.parametrize(
    ("f", "method"),
    [
        (square, "Tsit5"),
        (square, "Rodas5P"),
        (square, "QNDF"),
        (root, "Tsit5"),
        (root, "Kvaerno5"),
        (relay, "Tsit5"),
        (relay, "FBDF"),
    ],
)
def test_reports(f, method, batched, monkeypatch):
    """The report of a failure names the same cause."""
    # On a busy machine the pretended device would spend it, and the search for the cause would end.
    monkeypatch.setattr("pynode.failure.rerun.PATIENCE", 60.0)
    causes = []
    for name in ("cpu", NAME):
        with strict():
            y0 = torch.ones((2, 2) if batched else 2, dtype=torch.float64).to(name)
            options = {"method": method, "max_steps": 300, "batched": batched}
            with pytest.raises(SolveError) as caught:
                solve(f, y0, [0.0, 3.0], backend="torch", **options)
            report = caught.value.report()
            assert str(report)
            causes.append(report.cause)
    assert causes[0] == causes[1]
