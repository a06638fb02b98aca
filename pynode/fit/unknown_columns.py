"""The error for a column of a table that a model cannot give."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..data import DataError

# So many names are listed.
LISTED = 12


def unknown_column(column: str, known: Sequence[str]) -> DataError:
    """The error for a column that is none of the quantities known to a model. It lists them, the
    near ones first."""
    by_small = {name.lower(): name for name in known}
    close = difflib.get_close_matches(column.lower(), list(by_small), 3)
    near = [by_small[name] for name in close]
    others = [name for name in known if name not in near]
    names = [*near, *others][:LISTED]
    listed = ", ".join(names)
    if len(known) > len(names):
        listed += f" and {len(known) - len(names)} more"
    hint = ""
    if near:
        hint = f" Is {near[0]!r} meant? Then rename the column."
    return DataError(
        f"the table has the column {column!r}, which the model does not list: it has {listed}."
        f"{hint} Leave the column out with --drop {column}, or with drop=[{column!r}] of"
        " pynode.fit.read_table."
    )
