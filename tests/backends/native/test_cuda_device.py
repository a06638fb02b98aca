"""The kernel over rows with the states and the field on a device: on the strict pretended one, in
numba's simulator, and on a GPU where there is one."""

import functools

import pytest
import torch

from tests.support.cuda_rows import KERNEL, difference, in_simulator, network, oscillators, solved

# Places where the host waits, of a solve with its gradient: none of them is in a loop.
READS = 16
SENT = 6


@functools.cache
def on_strict_device():
    pytest.importorskip("tests.support.strict_device")
    return in_simulator("tests.support.cuda_device")


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_the_same_as_on_the_cpu(method):
    """No operation mixes devices, and f is translated by copies of its tensors on the CPU."""
    found = on_strict_device()[method]
    assert found["device"] == "pretended:0"
    assert found["states"] <= 1e-12
    assert max(found["gradients"]) <= 1e-10


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_the_host_waits_for_no_step(method):
    waits = on_strict_device()[method]["waits"]
    assert sum(wait.startswith("read") for wait in waits) <= READS
    assert sum(wait.startswith("sent") for wait in waits) <= SENT


def moved(problem, device):
    """A problem on a device."""
    f, start, args, times = problem
    if isinstance(f, torch.nn.Module):
        f = f.to(device)
    leaves = [x.detach().to(device).requires_grad_() for x in (start, *args)]
    return f, leaves[0], tuple(leaves[1:]), times.to(device)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
@pytest.mark.parametrize("problem", [oscillators, network])
def test_on_a_gpu(problem, method):
    """Its rounding can tip a decision, so the values agree to the tolerance of the solve."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    pytest.importorskip("numba_cuda")
    kernel, mine = solved(KERNEL, moved(problem(), "cuda"), method, rtol=1e-9, atol=1e-11)
    native, theirs = solved("native", problem(), method, rtol=1e-9, atol=1e-11)
    assert kernel.y.is_cuda
    assert kernel.statuses == native.statuses
    assert kernel.stats.accepted == pytest.approx(native.stats.accepted, rel=0.01)
    assert difference(kernel.y.cpu(), native.y) <= 1e-8
    for a, b in zip(mine, theirs, strict=True):
        assert difference(a.cpu(), b) <= 1e-7
