"""Signals that ask a command to end. It then ends as after Ctrl-C, and saves its state."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Batch systems send SIGTERM before the time is up, and a closed terminal sends SIGHUP. Windows has
# no SIGHUP.
NAMES = ("SIGTERM", "SIGHUP")


class Asked(KeyboardInterrupt):
    """A signal asked the process to end."""


class Ending:
    """code: the exit code of an interruption, 128 plus the number of the signal that asked for the
    end, or of SIGINT if none asked."""

    def __init__(self) -> None:
        self.code = 128 + signal.SIGINT


@contextmanager
def ends_politely() -> Iterator[Ending]:
    """Context in which the first of these signals raises Asked. Later ones do nothing: they must
    not disturb the saving.

    If the process was started to ignore a signal (nohup), the signal stays ignored. Yields the
    Ending.
    """
    ending = Ending()
    before: dict[int, Any] = {}

    def ask(number: int, frame: Any) -> None:
        if ending.code == 128 + signal.SIGINT:
            ending.code = 128 + number
            raise Asked

    # Python lets no other thread set handlers.
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, ask)
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
