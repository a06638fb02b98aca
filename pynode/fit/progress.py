"""The display during an estimation: a live line if there is a terminal and rich, otherwise a line
every few seconds."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from ..core.progress_bar import Bars, best_display
from .result import REACHED, Start


class SilentProgress:
    """Shows nothing. The other displays have the same methods."""

    def step(self, what: str, done: int, of: int, text: str) -> None:
        """``done`` of ``of`` parts of ``what`` ('start', 'profile') are ready."""

    def close(self) -> None:
        """The estimation has ended."""


class Lines(SilentProgress):
    """A line of plain text at the start, at the end, and every few seconds."""

    def __init__(self, every: float = 5.0, file: TextIO | None = None) -> None:
        self.every = every
        self.file = file or sys.stderr
        self.last = -math.inf

    def step(self, what: str, done: int, of: int, text: str) -> None:
        now = time.monotonic()
        if done in (1, of) or now - self.last >= self.every:
            self.last = now
            print(f"{what} {done}/{of}: {text}", file=self.file, flush=True)


class Live(Bars, SilentProgress):
    """Progress bars of rich."""


def display() -> SilentProgress:
    """The best display that this terminal allows."""
    return best_display(Live, Lines)


class Progress:
    """Counts the starts that have ended, and tells a display about them."""

    def __init__(self, told: SilentProgress, of: int, known: Sequence[Start]) -> None:
        self.told = told
        self.of = of
        self.known = [start.objective for start in known]

    def start(self, start: Start) -> None:
        """One more start has ended."""
        self.known.append(start.objective)
        best = min(self.known)
        reached = sum(value <= best + REACHED for value in self.known)
        self.told.step(
            "start",
            len(self.known),
            self.of,
            f"objective {start.objective:.6g}; best {best:.6g}, reached by {reached}",
        )
