"""What every comparison is: a table with a note, as lines of text, and mostly a figure, as a
file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from ..core.files import save_figure


class Table(ABC):
    """A comparison: its cells, and a note below them. str() is both as lines of text."""

    @property
    @abstractmethod
    def cells(self) -> list:
        """The table, heads first."""

    @property
    @abstractmethod
    def note(self) -> str:
        """What was compared with what."""

    def __str__(self):
        return "\n".join([*aligned(self.cells), self.note])


class PlottableTable(Table):
    """A comparison with a picture, for which matplotlib is needed."""

    @abstractmethod
    def figure(self):
        """The picture, a matplotlib Figure."""

    def plot(self, path) -> Path:
        """Write the figure; returns the path."""
        return save_figure(path, self.figure(), 150)


def aligned(cells, left=(0, -1)) -> list[str]:
    """Lines of a table whose first line are the heads; left: the columns set to the left, the
    others to the right."""
    cells = [tuple(map(str, line)) for line in cells]
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    left = {k % len(widths) for k in left}
    align = [str.ljust if k in left else str.rjust for k in range(len(widths))]
    cells.insert(1, tuple("-" * width for width in widths))
    return [
        "  ".join(put(*c) for put, *c in zip(align, line, widths, strict=True)).rstrip()
        for line in cells
    ]
