"""The C functions of Julia that pynode calls (julia/src/entries.jl)."""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import TYPE_CHECKING, Any

from .request import MESSAGE_BYTES, SERVED, STOPPED, VERSION, GradientRequest, Request, RowsRequest
from .signals import FaultHandler

if TYPE_CHECKING:
    import numpy as np

_LONG = ctypes.c_int64
_POINTER = ctypes.c_void_p
# (result, arguments) of each.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "forward": (ctypes.c_int, _POINTER),
    "forward_rows": (ctypes.c_int, _POINTER),
    "gradient": (ctypes.c_int, _POINTER),
    "gradient_rows": (ctypes.c_int, _POINTER),
    "choose": (_LONG, ctypes.c_char_p, _LONG, _LONG, _POINTER, _LONG),
    "release": (ctypes.c_int, _LONG),
    "release_rows": (ctypes.c_int, _POINTER, _LONG),
    "steps": (_LONG, _LONG),
    "sample": (ctypes.c_int, _LONG, _POINTER, _LONG, _POINTER, _POINTER),
    "extend": (ctypes.c_int, _LONG, _LONG, _POINTER),
}


class JuliaError(RuntimeError):
    """Julia failed during a solve. The message is Julia's."""


class Entries:
    """Functions of Julia, called by their addresses.

    parallel: whether Python's lock is open during a call, so that other threads go on. It stays
    closed where only one thread at a time may be in Julia.
    """

    def __init__(self, addresses: dict[str, int], parallel: bool) -> None:
        prototype = ctypes.CFUNCTYPE if parallel else ctypes.PYFUNCTYPE
        self.parallel = parallel
        self._fault_handler = None
        if parallel and sys.platform != "win32":
            self._fault_handler = FaultHandler()
        self._functions = {
            name: prototype(*signature)(addresses[name]) for name, signature in _SIGNATURES.items()
        }
        self.steps = self._functions["steps"]
        self.sample = self._functions["sample"]
        self.extend = self._functions["extend"]
        self.release = self._functions["release"]
        self.release_rows = self._functions["release_rows"]

    def forward(self, request: Request) -> bool:
        """Solve. Returns whether there is a result; without one a hook or a limit stopped it."""
        return self._served("forward", request)

    def gradient(self, request: GradientRequest) -> bool:
        """Compute the gradient of a kept solve, with the same result."""
        return self._served("gradient", request)

    def choose(self, name: str, krylov: bool) -> int:
        """The number of SciML's algorithm of this name. krylov: whether GMRES solves its linear
        systems."""
        room = ctypes.create_string_buffer(MESSAGE_BYTES)
        text = name.encode()
        number = self._functions["choose"](
            text, len(text), krylov, ctypes.addressof(room), MESSAGE_BYTES
        )
        if number < 0:
            raise JuliaError(f"Julia failed: {room.value.decode(errors='replace')}")
        return number

    def forward_rows(self, request: RowsRequest) -> bool:
        """Solve all rows of a batch. Returns False if it was interrupted."""
        return self._served("forward_rows", request)

    def gradient_rows(self, request: RowsRequest) -> bool:
        """Compute the gradients of kept rows, with the same result."""
        return self._served("gradient_rows", request)

    def _served(self, name: str, request: Any) -> bool:
        request.version = VERSION
        room = ctypes.create_string_buffer(MESSAGE_BYTES)
        request.message = ctypes.addressof(room)
        request.room = MESSAGE_BYTES
        if self._fault_handler is not None:
            self._fault_handler.restore()
        answer = self._functions[name](ctypes.addressof(request))
        if request.error[0]:
            # Raises what the handler of a signal has raised during the call.
            ctypes.pythonapi.PyErr_Restore(*map(_POINTER, request.error))
        if answer not in (SERVED, STOPPED):
            raise JuliaError(f"Julia failed: {room.value.decode(errors='replace')}")
        return answer == SERVED


class Kept:
    """A solve that Julia keeps until this object is deleted.

    number: its number there. lock: for gradients, which share the memory of the solve: one at a
    time.
    """

    def __init__(self, entries: Entries, number: int) -> None:
        self._entries = entries
        self.number = number
        self.lock = threading.Lock()

    def __del__(self) -> None:
        self._entries.release(self.number)


class KeptRows:
    """Solves of rows that Julia keeps until this object is deleted. numbers: (m,) int64 their
    numbers there, 0 for a row of which nothing is kept."""

    def __init__(self, entries: Entries, numbers: np.ndarray) -> None:
        self._entries = entries
        self.numbers = numbers

    def __del__(self) -> None:
        self._entries.release_rows(self.numbers.ctypes.data, len(self.numbers))
