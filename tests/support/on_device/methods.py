"""Every method, for one system and for rows, with gradients and dense output."""

import pytest
import torch

from pynode import solve
from pynode.methods import registry
from pynode.methods.batched.base import STEPPERS
from tests.support.cases import METHODS, Forced
from tests.support.on_device import fixed, leaf, same

BATCHED = [name for name in METHODS if STEPPERS.get(registry.get(name)) is not None]
FAMILIES = ["Tsit5", "Rodas5P", "Kvaerno5", "RadauIIA5", "QNDF", "FBDF"]
START = [1.0, -0.5, 0.3]
LOOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.mark.parametrize("method", METHODS)
def test_one_system(method):
    def compute(device):
        f = Forced().to(device)
        y0 = leaf(START, device)
        t = leaf([0.0, 0.4, 1.0], device)
        solution = solve(f, y0, t, method=method, dense=True, **LOOSE)
        between = leaf([0.25, 0.7], device)
        inside = solution(between)
        loss = solution.y.square().sum() + inside.sum()
        grads = torch.autograd.grad(loss, [y0, t, between, *f.parameters()])
        return [solution.y, inside, solution.derivative(0.6), *grads]

    same(compute)


@pytest.mark.parametrize("method", BATCHED)
def test_rows(method):
    def compute(device):
        rate = leaf([0.5, 1.0, 3.0], device)
        y0 = leaf([[1.0, 0.2]] * 3, device)
        t = leaf([[0.0, 0.0, 0.1], [0.4, 0.5, 0.4], [1.0, 1.0, 0.8]], device)

        def f(t, y, rate):
            return -rate.unsqueeze(-1) * y * y + torch.sin(t)

        y = solve(f, y0, t, args=(rate,), method=method, batched=True, **LOOSE).y
        return [y, *torch.autograd.grad(y.square().sum(), [y0, t, rate])]

    same(compute)


@pytest.mark.parametrize(
    ("method", "batched"),
    [(name, False) for name in FAMILIES] + [(name, True) for name in FAMILIES if name in BATCHED],
)
def test_float32(method, batched):
    def compute(device):
        y0 = leaf([[1.0, 0.2]] * 2, device, torch.float32)

        def f(t, y):
            return -y * y + torch.sin(t)

        y = solve(f, y0, [0.0, 0.4, 1.0], method=method, batched=batched, **LOOSE).y
        return [y, *torch.autograd.grad(y.sum(), [y0])]

    same(compute, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "Kvaerno5"])
def test_fixed_steps_stops_and_structures(method):
    """A tree of states, steps of a size, stops, and no gradient."""

    def compute(device):
        y0 = {"a": fixed([1.0, 2.0], device), "b": (fixed(3.0, device),)}

        def f(t, y):
            return {"a": -y["a"], "b": (y["a"].sum() - y["b"][0],)}

        with torch.no_grad():
            plain = solve(f, y0, [0.0, 0.4, 1.0], method=method, tstops=[0.3], **LOOSE).y
            stepped = solve(f, y0, [0.0, 0.4, 1.0], method=method, step_size=0.05).y
        return [plain["a"], plain["b"][0], stepped["a"], stepped["b"][0]]

    same(compute)


@pytest.mark.parametrize("batched", [False, True], ids=["single", "rows"])
@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "Kvaerno5", "QNDF", "FBDF"])
@pytest.mark.parametrize("grad", [False, True], ids=["plain", "grad"])
def test_times_of_the_cpu(method, batched, grad):
    """The times may stay on the CPU, and their gradient comes back there."""

    def compute(device):
        y0 = leaf([[1.0, 0.2]] * 3, device)
        t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64, requires_grad=grad)

        def f(t, y):
            return -y * y + torch.sin(t)

        y = solve(f, y0, t, method=method, batched=batched, **LOOSE).y
        leaves = [y0, t] if grad else [y0]
        found = torch.autograd.grad(y.square().sum(), leaves)
        assert all(g.device == x.device for g, x in zip(found, leaves, strict=True))
        return [y, *(g.to(device) for g in found)]

    same(compute)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF", "Kvaerno5"])
def test_rows_that_end_at_different_times(method, monkeypatch):
    """One-step methods leave ended rows out only when they are an eighth of all: few copies of the
    others, and the same numbers."""
    count = 64
    copies = []
    stepper = STEPPERS.get(registry.get(method))
    select = stepper.select

    def counted(self, keep):
        copies.append(len(keep))
        return select(self, keep)

    monkeypatch.setattr(stepper, "select", counted)

    def compute(device):
        copies.clear()
        y0 = leaf([[1.0 + 0.1 * i, 0.2] for i in range(count)], device)
        rate = leaf([0.5 + 0.2 * i for i in range(count)], device)
        ends = torch.linspace(0.2, 2.0, count, dtype=torch.float64)
        t = torch.stack((0 * ends, 0.4 * ends, ends)).to(device)

        def f(t, y, rate):
            return -rate.unsqueeze(-1) * y * y + torch.sin(t)

        y = solve(f, y0, t, args=(rate,), method=method, batched=True, **LOOSE).y
        return [y, *torch.autograd.grad(y.square().sum(), [y0, rate])]

    same(compute)
    if stepper.carries_ended:
        # Each copy drops an eighth of what is left: 64 rows are gone after at most 25.
        assert 1 <= len(copies) <= 25
    else:
        assert len(copies) > 1


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_ended_rows_may_fail_while_others_go_on(method):
    """f is not finite beyond the end of the first rows, and in a row that fails."""

    def compute(device):
        y0 = fixed([[1.0], [1.0], [1.0], [-1.0]], device)
        ends = torch.tensor([0.5, 0.5, 2.0, 2.0], dtype=torch.float64)
        t = torch.stack((0 * ends, ends)).to(device)

        def f(t, y):
            return torch.where((t > 0.5) & (y < 0), torch.nan, -y)

        options = {"method": method, "batched": True, "throw": False, **LOOSE}
        solution = solve(f, y0, t, **options)
        assert [status.name for status in solution.statuses[:3]] == ["SUCCESS"] * 3
        assert not solution.statuses[3].success
        return [solution.y[:, :3]]

    same(compute)
