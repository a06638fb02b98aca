"""The display during training: a live line if there is a terminal, otherwise a line every few
seconds."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from ..core.progress_bar import Bars, best_display


class SilentProgress:
    """Shows nothing. The other displays have the same methods."""

    def begin(self, options: dict[str, Any]) -> None:
        """A run begins, with these options as plain data."""

    def warm(self, done: int, of: int, loss: float) -> None:
        """After an iteration of the warm start."""

    def epoch(self, record: dict[str, Any], epochs: int, best: float) -> None:
        """After an epoch. record is its line of the history."""

    def say(self, text: str) -> None:
        """A message for the user."""

    def judged(self, sentence: str, interrupted: bool) -> None:
        """The verdict of the run, and whether an interruption ended it. A run that fails has
        none."""

    def close(self) -> None:
        """The run has ended."""


class Lines(SilentProgress):
    """A line of plain text at the start, at the end, and every few seconds."""

    def __init__(self, every: float = 5.0, file: TextIO | None = None) -> None:
        self.every = every
        self.file = file or sys.stderr
        self.last = -float("inf")
        self.pending: str | None = None

    def _line(self, text, now):
        self.pending = text
        if now:
            self.pending = None
            self.last = time.monotonic()
            print(text, file=self.file, flush=True)

    def _due(self):
        return time.monotonic() - self.last >= self.every

    def warm(self, done: int, of: int, loss: float) -> None:
        self._line(f"warm start {done}/{of}: deviation {loss:.2e}", self._due() or done == of)

    def epoch(self, record: dict[str, Any], epochs: int, best: float) -> None:
        text = f"epoch {record['epoch']}/{epochs}: {_summary(record, best)}"
        self._line(text, self._due() or record["epoch"] in (1, epochs))

    def say(self, text: str) -> None:
        print(text, file=self.file, flush=True)

    def close(self) -> None:
        if self.pending:
            self._line(self.pending, True)


class Live(Bars, SilentProgress):
    """Progress bars of rich with loss, steps and time."""

    def warm(self, done: int, of: int, loss: float) -> None:
        self.step("warm start", done, of, f"deviation {loss:.2e}")

    def epoch(self, record: dict[str, Any], epochs: int, best: float) -> None:
        text = f"loss {record['loss']:.3e} (best {best:.3e}), {record['accepted']} steps"
        self.step("epoch", record["epoch"], epochs, text)


def display() -> SilentProgress:
    """The best display that this terminal allows."""
    return best_display(Live, Lines)


def _summary(record, best) -> str:
    evaluations = record["nfe"] + record["backward_nfe"]
    return (
        f"loss {record['loss']:.3e} (best {best:.3e}), {record['accepted']} steps,"
        f" {evaluations} evaluations, {record['seconds']:.0f} s"
    )
