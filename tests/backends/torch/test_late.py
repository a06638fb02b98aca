"""Captured graphs, as far as they can be seen without a GPU: what follows when a capture fails."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from pynode import TorchBackend, solve
from pynode.backends.torch import late
from tests.support.cases import tensor


class NoGraph:
    """A graph whose capture fails, as torch's does after a copy to the host."""

    def capture_begin(self, capture_error_mode):
        assert capture_error_mode == "thread_local"

    def capture_end(self):
        raise RuntimeError("capture ended badly")


@pytest.fixture
def no_graphs(monkeypatch):
    """A CUDA device that captures nothing, as far as a SideStream can see."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    begin = late.SideStream.__init__

    def with_stream(self, device):
        begin(self, device)
        self._stream = stream

    monkeypatch.setattr(late.SideStream, "__init__", with_stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", NoGraph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)


def test_f_that_cannot_be_captured(no_graphs):
    """One warning says why, and the passes run."""

    def f(t, y):
        return -y

    options = {"method": "tsit5", "batched": True}
    y0 = tensor([1.0], [2.0])
    expected = solve(f, y0, [0.0, 9.0], **options)
    with pytest.warns(UserWarning, match="capture ended badly") as warned:
        found = solve(f, y0, [0.0, 9.0], backend=TorchBackend(passes=2), **options)
    assert len(warned) == 1
    torch.testing.assert_close(found.y, expected.y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("error", [RuntimeError("not while capturing"), torch.OutOfMemoryError()])
def test_failures_in_a_capture(error, no_graphs):
    """The first error counts. Memory that runs out is no reason to go on."""

    def function():
        raise error

    stream = late.SideStream(torch.device("cpu"))
    if isinstance(error, torch.OutOfMemoryError):
        with pytest.raises(torch.OutOfMemoryError):
            stream.captured(function)
    else:
        with pytest.warns(UserWarning, match="not while capturing"):
            assert stream.captured(function) is None


def test_a_device_without_graphs():
    """It runs what it is given, and captures nothing."""
    done = []
    stream = late.SideStream(torch.device("cpu"))
    stream.run(lambda: done.append(1))
    assert stream.captured(lambda: done.append(2)) is None
    assert done == [1]


def test_copies_of_the_cpu_are_read_at_once():
    assert late.LateCopy(tensor(3.0, 4.0)).read() == [3.0, 4.0]
