"""The display of long commands: bars of rich, or lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Display = TypeVar("Display")
# Columns of a terminal beside whose words a bar has room.
ROOM_FOR_BARS = 110


class Bars:
    """A bar of rich for each part of a command."""

    def __init__(self) -> None:
        self.bar = _bar()
        self.bar.start()
        self.tasks: dict[str, Any] = {}

    def step(self, what: str, done: int, of: int, text: str) -> None:
        """``done`` of ``of`` pieces of the part ``what`` are ready. text: what the bar shows."""
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=of, text=text)
        self.bar.update(self.tasks[what], completed=done, total=of, text=text)

    def say(self, text: str) -> None:
        """A message above the bars."""
        self.bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bars away."""
        self.bar.stop()


def best_display(live: Callable[[], Display], lines: Callable[[], Display]) -> Display:
    """The live display if there is a terminal, otherwise the one of lines."""
    if sys.stderr.isatty():
        return live()
    return lines()


def _bar() -> Any:
    """A progress bar with a count, a text (the field ``text`` of its tasks) and times. A terminal
    of 80 columns has room for the words alone."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    ]
    if console.width >= ROOM_FOR_BARS:
        columns.insert(1, BarColumn(bar_width=20))
        columns.insert(-1, TimeElapsedColumn())
    return Progress(*columns, console=console)
