"""Records, dataclasses of plain values, as the lines of a file."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path


def write_csv(path, kind, records) -> Path:
    """Write one line a record, objects of the dataclass kind, with the names of its fields as header; returns the path."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in records)
    return Path(path)
