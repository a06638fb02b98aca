"""A table as it was found, before anybody says what its columns mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .dataset import DataError

NEEDS_PANDAS = "reading tables needs pandas: pip install 'torch-stiff-ode[data]'"


def pandas() -> Any:
    """The package pandas. Raises DataError without it."""
    try:
        import pandas as found
    except ImportError:
        raise DataError(NEEDS_PANDAS) from None
    return found


@dataclass
class Table:
    """The columns of a table, each a pandas Series of the same length.

    origin: what messages call the table, such as the path of the file.
    header: names of the columns, '' for a column without a name.
    place: place(row) is where a row is, 'line 7' or 'row 5'.
    decimal: the mark in decimal numbers that are still text.
    parts: names and numbers of rows of trajectories that are separate by themselves, such as files
        in a folder; () for one table.
    units: units of columns that are not in their names.
    """

    origin: str
    header: list[str]
    columns: list[Any]
    place: Callable[[int], str]
    notes: list[str] = field(default_factory=list)
    decimal: str = "."
    parts: tuple[tuple[str, int], ...] = ()
    units: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows."""
        if not self.columns:
            return 0
        return len(self.columns[0])

    def column(self, name: str) -> Any:
        """The Series of this name."""
        return self.columns[self.header.index(name)]

    def remove(self, index: int) -> None:
        """Leave a column out."""
        del self.header[index]
        del self.columns[index]


def row_place(row: int) -> str:
    """Where a row of a table without lines is."""
    return f"row {row + 1}"


def joined(origin: str, tables: Sequence[tuple[str, Table]]) -> Table:
    """Tables with the same columns as one, a part each. Raises DataError if their columns
    differ."""
    pd = pandas()
    first_name, first = tables[0]
    for name, table in tables[1:]:
        if sorted(table.header) != sorted(first.header):
            raise DataError(
                f"{origin}: {name} has the columns {', '.join(table.header)}, but {first_name} has"
                f" {', '.join(first.header)}; give all of them the same columns."
            )
    columns = []
    for name in first.header:
        columns.append(pd.concat([table.column(name) for _, table in tables], ignore_index=True))
    ends = np.cumsum([table.rows for _, table in tables])

    def place(row: int) -> str:
        k = int(np.searchsorted(ends, row, side="right"))
        name, table = tables[k]
        return f"{name}, {table.place(row - int(ends[k]) + table.rows)}"

    parts: list[tuple[str, int]] = []
    for name, table in tables:
        inner = [(f"{name}/{own}", rows) for own, rows in table.parts]
        parts += inner or [(name, table.rows)]
    notes = list(dict.fromkeys(note for _, table in tables for note in table.notes))
    return Table(
        origin,
        list(first.header),
        columns,
        place,
        notes,
        first.decimal,
        tuple(parts),
        dict(first.units),
    )
