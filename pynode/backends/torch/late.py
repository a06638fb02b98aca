"""What lets the host work ahead of a device: numbers that it reads late, and captured graphs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class LateCopy:
    """A copy of a tensor to the host that does not wait for the device. ``read`` waits for it."""

    def __init__(self, numbers: Tensor) -> None:
        self._event: Any = None
        self._host = numbers
        if numbers.is_cpu:
            return
        self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        self._host.copy_(numbers, non_blocking=True)
        self._event = torch.Event(numbers.device)
        self._event.record()

    def read(self) -> list[Any]:
        """The numbers. It waits for the operations that were begun before the copy, and no
        others."""
        if self._event is not None:
            # A device without events has no queue, and nothing to wait for.
            with contextlib.suppress(RuntimeError):
                self._event.synchronize()
        return self._host.tolist()


class SideStream:
    """A block whose operations run on another stream of a CUDA device, as a capture needs them to
    have run once. Other devices run them as usual."""

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = None
        self._device = device
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)

    def run(self, function: Callable[[], None]) -> None:
        """Call the function there, after everything that was begun here, and before everything that
        follows here."""
        if self._stream is None:
            function()
            return
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            function()
        here.wait_stream(self._stream)


def can_capture(device: torch.device) -> bool:
    """Whether operations of this device can become a graph."""
    return device.type == "cuda"


def captured(function: Callable[[], None]) -> Callable[[], None] | None:
    """The operations of function() as one CUDA graph: calling the result runs them again, on the
    same tensors. function() itself does not change any number. It has run once before, on a side
    stream.

    None, with a warning that says why, if it cannot be captured: it reads numbers of the device on
    the host, for example.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads, such as loaders of data, may use the device meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            function()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        warnings.warn(
            "the passes of this solve are not one CUDA graph and run one operation after the other,"
            f" because f cannot be captured ({_first_line(error)}): it must not read numbers of the"
            " device on the host",
            stacklevel=2,
        )
        return None
    return graph.replay


def _first_line(error: BaseException) -> str:
    """The beginning of the message of the error that came first."""
    while error.__context__ is not None:
        error = error.__context__
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]
