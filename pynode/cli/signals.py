"""Signals that ask a command to end: it ends as by Ctrl-C, and what it has is saved."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager

# Sent by batch systems before the time is up, and by a terminal that is closed. Windows has no
# SIGHUP.
NAMES = ("SIGTERM", "SIGHUP")


class Asked(KeyboardInterrupt):
    """A signal asked the process to end."""


class Ending:
    """code: the exit code of an interruption, by the signal that asked for it, SIGINT before any
    did."""

    def __init__(self):
        self.code = 128 + signal.SIGINT


@contextmanager
def ends_politely():
    """A block in which the first of these signals raises Asked, and later ones do nothing: they
    must not disturb the saving.

    A signal that the process was started to ignore, by nohup, stays ignored. Gives the Ending.
    """
    ending = Ending()
    before = {}

    def ask(number, frame):
        if ending.code == 128 + signal.SIGINT:
            ending.code = 128 + number
            raise Asked

    # Python lets no other thread set handlers.
    if threading.current_thread() is threading.main_thread():
        for found in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(found) is not signal.SIG_IGN:
                before[found] = signal.signal(found, ask)
    try:
        yield ending
    finally:
        for found, handler in before.items():
            signal.signal(found, handler)
