"""Writes records, which are dataclasses of plain values, as lines of a file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .files import save_text


def write_csv(path: str | os.PathLike[str], kind: type, records: Iterable[Any]) -> Path:
    """Write one line for each record, an object of the dataclass kind. The header has the names of
    its fields. Return the path."""
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    return save_text(path, table.getvalue())
