"""The bar of rich that long commands show."""

from __future__ import annotations

from typing import Any


def bar() -> Any:
    """A progress bar with a count, a text (the field ``text`` of its tasks) and times. Raises
    ImportError without rich."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
