"""NativeBackend: the native engine on the CPU, or its kernel."""

from importlib.util import find_spec

import pytest
import torch

from pynode import NativeBackend, solve
from pynode.backends import packages

START = torch.ones((2, 1), dtype=torch.float64)


def decay(t, y):
    return -y


def test_on_the_cpu_it_is_the_native_engine():
    solution = solve(decay, START[0], (0.0, 1.0), method="tsit5", backend=NativeBackend())
    assert solution.backend == "native"
    expected = solve(decay, START[0], (0.0, 1.0), method="tsit5", backend="native")
    assert torch.equal(solution.y, expected.y)


def test_an_unknown_device():
    with pytest.raises(ValueError, match="unknown device 'tpu' of NativeBackend: choose 'cpu' or"):
        NativeBackend(device="tpu")


def test_without_numba_cuda(monkeypatch):
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.setattr(packages, "find_spec", lambda name: name != "numba_cuda" or None)
    packages.missing_for_cuda.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"needs numba-cuda: pip install 'torch-.*\[cuda\]'"):
            solve(decay, START, (0.0, 1.0), batched=True, backend=NativeBackend(device="cuda"))
    finally:
        packages.missing_for_cuda.cache_clear()


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="no numba-cuda")
def test_states_on_the_cpu():
    """The kernel is for a GPU: the message says what to do."""
    with pytest.raises(ValueError, match="needs the states on a GPU, but y0 is on cpu: move y0"):
        solve(
            decay,
            START,
            (0.0, 1.0),
            method="tsit5",
            batched=True,
            backend=NativeBackend(device="cuda"),
        )
