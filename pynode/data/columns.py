"""The columns of a table that a user means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .dataset import DataError
from .names import resolve


def known_columns(
    origin: str, header: Sequence[str], names: Iterable[str], what: str = ""
) -> list[str]:
    """The columns of these names, which may leave out units. Raises DataError for a name that is
    no column.

    origin: the table, for the message. what: the end of its first part, such as " for an input".
    """
    found = []
    for name in names:
        column = resolve(name, header)
        if column is None:
            raise DataError(
                f"{origin} has no column {name!r}{what}: its columns are {', '.join(header)}."
            )
        found.append(column)
    return found
