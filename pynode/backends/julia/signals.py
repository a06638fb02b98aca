"""Signals around the start of Julia.

Julia with several threads needs the signal of a memory fault: with it one thread stops the others
for the garbage collector. With it Julia takes other signals too, Ctrl-C among them. These go back
to Python.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What Julia needs itself, by name since not every system has all of them.
JULIAS = ("SIGSEGV", "SIGBUS", "SIGUSR2", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP")
ROOM = 512  # more bytes than a ``struct sigaction`` of any system
ADDRESS = ctypes.sizeof(ctypes.c_void_p)
FAULT = int(signal.SIGSEGV)


@contextmanager
def kept() -> Iterator[None]:
    """Give back to Python, after the start of Julia, the signals that Julia does not need."""
    if sys.platform == "win32":
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    actions = {number: _action(number) for number in _pythons()}
    try:
        yield
    finally:
        for number, action in actions.items():
            if action is not None:
                _libc().sigaction(int(number), action, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class FaultHandler:
    """Julia's handler of memory faults, as it is when this object is made."""

    def __init__(self) -> None:
        # With Python's lock, since the threads share ``_present``.
        self._ask = ctypes.PyDLL(None).sigaction
        self._present = ctypes.create_string_buffer(ROOM)
        self._julias = _action(signal.SIGSEGV)

    def restore(self) -> None:
        """Put it back if another package has replaced it, as faulthandler.enable() does. Without it
        the process ends when Julia collects garbage."""
        self._ask(FAULT, None, self._present)
        # The address of the function comes first.
        if self._julias is not None and self._present[:ADDRESS] != self._julias[:ADDRESS]:
            self._ask(FAULT, self._julias, None)


def _pythons() -> list[int]:
    """The signals that Julia does not need."""
    julias = {getattr(signal, name) for name in JULIAS if hasattr(signal, name)}
    fixed = {signal.SIGKILL, signal.SIGSTOP}
    return [number for number in range(1, 32) if number not in julias | fixed]


def _action(number: int) -> ctypes.Array | None:
    """What a signal does now, in the bytes of the system."""
    action = ctypes.create_string_buffer(ROOM)
    if _libc().sigaction(number, None, action) != 0:
        return None
    return action


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
