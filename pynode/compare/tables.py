"""The base of all comparisons: a table with a note, as lines of text, and mostly a figure, as a
file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.files import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Table(ABC):
    """A comparison: its cells, and a note below them. str() returns both as lines of text."""

    @property
    @abstractmethod
    def cells(self) -> list[tuple[Any, ...]]:
        """The rows of the table, the heads first."""

    @property
    @abstractmethod
    def note(self) -> str:
        """What was compared."""

    def __str__(self) -> str:
        return "\n".join([*aligned(self.cells), self.note])


class PlottableTable(Table):
    """A comparison with a picture, which needs matplotlib."""

    @abstractmethod
    def figure(self) -> Figure:
        """The picture, a matplotlib Figure."""

    def plot(self, path: str | PathLike[str]) -> Path:
        """Write the figure; returns the path."""
        return save_figure(path, self.figure(), 150)


def aligned(cells: Iterable[Sequence[Any]], left: Sequence[int] = (0, -1)) -> list[str]:
    """The lines of a table. Its first row holds the heads. left: the columns that are aligned to
    the left; the others are aligned to the right."""
    lines = [tuple(map(str, line)) for line in cells]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    to_left = {k % len(widths) for k in left}
    lines.insert(1, tuple("-" * width for width in widths))

    def padded(k, cell):
        if k in to_left:
            return cell.ljust(widths[k])
        return cell.rjust(widths[k])

    return ["  ".join(padded(k, cell) for k, cell in enumerate(line)).rstrip() for line in lines]
