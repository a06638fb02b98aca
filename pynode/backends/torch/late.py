"""What lets the host work ahead of a device: numbers that it reads late, and captured graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...core.memory import raise_if_exhausted


class LateCopy:
    """A copy of a tensor to the host that does not wait for the device. ``read`` waits for it."""

    def __init__(self, numbers: Tensor) -> None:
        self._event: Any = None
        self._host = numbers
        # Other devices can be without events. They have no queue, and nothing to wait for.
        self._may_lack_events = numbers.device.type != "cuda"
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
            try:
                self._event.synchronize()
            except RuntimeError as error:
                raise_if_exhausted(error)
                if not self._may_lack_events:
                    raise
        return self._host.tolist()


class SideStream:
    """Another stream of a CUDA device. Operations are captured there, after they have run there
    once. Other devices have one queue, and nothing to capture."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
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

    def captured(self, function: Callable[[], None]) -> Callable[[], None] | None:
        """The operations of function() as one CUDA graph: calling the result runs them again, on
        the same tensors. Here they do not run.

        None if this is no CUDA device; and None, with a warning that says why, if function() cannot
        be captured, because it reads numbers of the device on the host, for example.
        """
        if self._stream is None:
            return None
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        try:
            # Not torch.cuda.graph: it waits for the device, empties torch's store of memory, and
            # stays on its own stream after a failure.
            with torch.cuda.stream(self._stream):
                # Other threads, such as loaders of data, may use the device meanwhile.
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    function()
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            raise_if_exhausted(error)
            cause = _first(error)
            raise_if_exhausted(cause)
            lines = str(cause).splitlines() or [type(cause).__name__]
            warnings.warn(
                "the passes of this solve run one operation after the other instead of as a CUDA"
                f" graph, because they cannot be captured ({lines[0][:200]}): f must not read"
                " numbers of the device on the host",
                stacklevel=2,
            )
            return None
        return graph.replay


def _first(error: BaseException) -> BaseException:
    """The error during whose handling the others came."""
    while error.__context__ is not None:
        error = error.__context__
    return error
