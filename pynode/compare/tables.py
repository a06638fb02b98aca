"""The base of all comparisons: a table with a note, as lines of text, and mostly a figure, as a
file."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.files import save_figure
from ..core.text_table import WIDTH, text_table

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
        notes = [
            textwrap.fill(line, WIDTH, break_long_words=False) for line in self.note.splitlines()
        ]
        return "\n".join([*text_table(self.cells), *notes])


class PlottableTable(Table):
    """A comparison with a picture, which needs matplotlib."""

    @abstractmethod
    def figure(self) -> Figure:
        """The picture, a matplotlib Figure."""

    def plot(self, path: str | PathLike[str]) -> Path:
        """Write the figure; returns the path."""
        return save_figure(path, self.figure(), 150)
