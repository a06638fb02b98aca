"""Masked passes (backends/torch/masked_loop.py): the numbers of the CPU, and no synchronisation."""

import pytest
import torch

from pynode import TorchBackend, solve
from pynode.backends.torch import masked_loop
from tests.support.on_device import fixed, leaf, same
from tests.support.strict_device import NAME, strict

METHODS = ["Tsit5", "Rodas5P", "QNDF", "FBDF"]
MASKED = TorchBackend(passes=4)


def driven(t, y, rate):
    return -rate.unsqueeze(-1) * y + torch.sin(3 * t)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", METHODS)
def test_numbers_and_gradients(method, dtype, monkeypatch):
    """Rows leave in several buckets."""
    monkeypatch.setattr(masked_loop, "SMALLEST", 2)

    def compute(device):
        rate = leaf([0.5, 1.0, 3.0, 0.1], device, dtype)
        y0 = leaf([[1.0, 0.2]] * 4, device, dtype)
        end = leaf([0.1, 0.5, 1.0, 4.0], device)
        part = fixed([0.0, 0.3, 1.0], device)
        t = part.unsqueeze(1) * end
        options = {"method": method, "batched": True, "rtol": 1e-3, "atol": 1e-4}
        y = solve(driven, y0, t, args=(rate,), backend=MASKED, **options).y
        return [y, *torch.autograd.grad(y.square().sum(), [y0, end, rate])]

    if dtype is torch.float64:
        same(compute, 1e-5, 1e-6)
    else:
        same(compute, 1e-2, 1e-3)


def waits_of(method, backend, end, grad):
    """(the Waits of a solve to this end, its attempted steps)."""
    with strict() as waits:
        device = torch.device(NAME, 0)
        rate = fixed([0.5, 1.0, 3.0], device).requires_grad_(grad)
        y0 = fixed([[1.0, 0.2]] * 3, device)
        options = {"method": method, "batched": True, "backend": backend, "rtol": 1e-4}
        stats = solve(driven, y0, [0.0, 0.1, end], args=(rate,), **options).stats
        return list(waits), stats.accepted + stats.rejected


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_passes_do_not_wait(method, grad):
    """A solve of many passes waits as one of few does, and the ordinary loop more often."""
    short, few = waits_of(method, MASKED, 0.2, grad)
    long, many = waits_of(method, MASKED, 4.0, grad)
    assert many > 2 * few
    assert len(long) <= len(short), "\n".join(wait.place for wait in long)
    ordinary, _ = waits_of(method, "torch", 4.0, grad)
    assert len(ordinary) > len(long) + many / 3
