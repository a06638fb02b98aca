"""States on another device: all stays there, and the numbers are those of the CPU. Runs on what the
machine has."""

import math
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pynode import Event, PresetTimes, TorchBackend, problems, solve
from pynode.adjoints import registry
from pynode.backends.torch import masked_loop
from pynode.nn import NeuralODE
from tests.support.cases import FAMILIES, Forced, tensor

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
every_device = pytest.mark.parametrize("device", DEVICES)
every_family = pytest.mark.parametrize("method", FAMILIES)


@every_device
@every_family
def test_solution_and_gradient(method, device):
    results = []
    for where in ("cpu", device):
        f, y0 = Forced().to(where), tensor(1.0, -0.5, 0.3).to(where).requires_grad_()
        t = tensor(0.0, 0.4, 1.5).to(where).requires_grad_()
        solution = solve(f, y0, t, method=method, rtol=1e-5, dense=True)
        loss = solution.y.square().sum() + solution(1.0).sum()
        assert solution.y.device.type == solution(1.0).device.type == torch.device(where).type
        grads = torch.autograd.grad(loss, [y0, t, *f.parameters()])
        results.append([x.detach().cpu() for x in (*grads, solution.y)])
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@every_device
@pytest.mark.parametrize(
    "adjoint", [name for name in registry.names() if name not in ("DiscreteAdjoint", "direct")]
)
def test_other_adjoints(adjoint, device):
    results = []
    for where in ("cpu", device):
        f, y0 = Forced().to(where), tensor(1.0, -0.5, 0.3).to(where).requires_grad_()
        y = solve(f, y0, [0.0, 0.4, 1.0], method="Tsit5", rtol=1e-5, adjoint=adjoint).y
        found = torch.autograd.grad(y.square().sum(), [y0, *f.parameters()])
        assert all(g.device.type == torch.device(where).type for g in found)
        results.append([g.cpu() for g in found])
    for found, expected in zip(*results[::-1], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@every_device
@every_family
def test_stiff_problem(method, device):
    """With an atol for each component, given on the CPU."""
    problem = problems.get("robertson", device=device)
    end = 1.0 if method == "Tsit5" else 1e3
    with torch.no_grad():
        y = solve(
            problem.field,
            problem.y0,
            [0.0, end],
            method=method,
            rtol=1e-5,
            atol=tensor(*problem.atol),
        ).y[-1]
    assert y.device.type == device and float(y.sum()) == pytest.approx(1.0, abs=1e-6)


@every_device
@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "qndf", "fbdf"])
def test_batch(method, device):
    """With a tensor for each row, an atol for each state, and a last row that fails."""
    rate = torch.logspace(0, 2, 4, dtype=torch.float64, device=device)
    y0, atol = torch.ones(4, 2, dtype=torch.float64, device=device), tensor(1e-8, 1e-9)
    y0[3] = 1e200
    solution = solve(
        lambda t, y, r: -r.unsqueeze(1) * y * y * torch.cos(t),
        y0,
        [0.0, 0.1, 1.0],
        args=(rate,),
        method=method,
        atol=atol,
        batched=True,
        throw=False,
    )
    assert (
        solution.y.device.type == device
        and [status.name for status in solution.statuses[:3]] == ["SUCCESS"] * 3
    )
    exact = 1 / (1 + rate[:3, None] * math.sin(1.0))
    torch.testing.assert_close(solution.y[2, :3], exact.expand(3, 2), rtol=1e-4, atol=1e-6)
    assert not solution.success and torch.isnan(solution.y[2, 3]).all()


@every_device
@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "qndf", "fbdf"])
def test_gradient_and_events_of_a_batch(method, device):
    """Rows that bounce at a level of their own and get a push: gradients in rate, level and
    push."""
    results = []
    for where in ("cpu", device):
        rate, level = (
            tensor(*values).to(where).requires_grad_()
            for values in ((1.0, 2.0, 3.0), (0.5, 0.4, 0.3))
        )
        push = tensor(0.2).squeeze().to(where).requires_grad_()

        def f(t, y, rate, level):
            return -rate.unsqueeze(1) * y

        events = [
            Event(
                lambda t, y, rate, level: y[:, 0] - level,
                direction=-1,
                reset=lambda t, y, rate, level: y + 1.0,
            ),
            PresetTimes([0.7], lambda t, y, rate, level, push=push: y + push),
        ]
        y0 = torch.ones(3, 2, dtype=torch.float64, device=where)
        solution = solve(
            f,
            y0,
            [0.0, 1.0, 2.0],
            args=(rate, level),
            params=(rate, level, push),
            method=method,
            events=events,
            batched=True,
        )
        assert (
            solution.y.device.type
            == solution.events[0][0].y.device.type
            == torch.device(where).type
        )
        loss = solution.y.square().sum() + solution.events[1][1].t
        results.append(
            [
                x.cpu()
                for x in (*torch.autograd.grad(loss, (rate, level, push)), solution.y.detach())
            ]
        )
    for found, expected in zip(results[1], results[0], strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@every_device
def test_module_moves_as_a_whole(device):
    model = NeuralODE(Forced()).to(device)
    assert model.t.device.type == device
    assert model(tensor(1.0, -0.5, 0.3).to(device)).device.type == device


def test_parts_on_two_devices_are_refused():
    with pytest.raises(ValueError, match="parts of y0 disagree"):
        solve(
            lambda t, y: y,
            (tensor(1.0), torch.zeros(1, dtype=torch.float64, device="meta")),
            [0.0, 1.0],
        )


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("tree", [False, True])
def test_a_device_without_float64_is_refused(tree, batched):
    """That of a Mac; here its tensors hold no numbers."""
    with FakeTensorMode():
        y0 = torch.ones(3, 2, device="mps")
        y0 = {"y": y0} if tree else y0
        with pytest.raises(ValueError, match=r"on mps:0, which has no float64.*y0\.cpu\(\)"):
            solve(lambda t, y: y, y0, [0.0, 1.0], method="tsit5", batched=batched)


@every_device
@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf"])
def test_passes_without_the_host(method, device, monkeypatch):
    """On CUDA they are captured: a warning would say if they are not. Rows leave in between."""
    monkeypatch.setattr(masked_loop, "SMALLEST", 2)
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for where, backend in (("cpu", "torch"), (device, TorchBackend(passes=4))):
            rate = tensor(0.5, 1.0, 3.0, 0.1).to(where).requires_grad_()
            y0 = tensor([1.0, 0.5], [1.0, 0.1], [0.3, 1.0], [2.0, 0.5]).to(where).requires_grad_()
            times = tensor(0.0, 0.3, 1.0).unsqueeze(1) * tensor(0.2, 1.0, 3.0, 9.0)
            options = {"method": method, "batched": True, "backend": backend, "rtol": 1e-5}
            y = solve(driven, y0, times.to(where), args=(rate,), **options).y
            grads = torch.autograd.grad(y.square().sum(), [y0, rate])
            results.append([x.detach().cpu() for x in (y, *grads)])
    # Rounding can change a step of BDF, within the tolerance.
    margin = 1e-4 if method == "qndf" else 1e-7
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=margin, atol=margin)


def driven(t, y, rate):
    return torch.sin(3 * t) - rate.unsqueeze(1) * y
