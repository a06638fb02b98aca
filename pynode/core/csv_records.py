"""Records, dataclasses of plain values, as the lines of a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .files import save_text


def write_csv(path: str | Path, kind: type, records: Iterable[Any]) -> Path:
    """Write one line a record, objects of the dataclass kind, with the names of its fields as
    header; returns the path."""
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    return save_text(path, table.getvalue())
