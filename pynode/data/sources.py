"""Opens what holds a table: a file of any known format, a folder, the standard input, or an object
of another library."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import is_xarray, of_columns, of_frame, of_xarray
from .dataset import DataError
from .encoding import unpacked
from .formats import BINARY, reader_of
from .table import Table, joined, pandas
from .text import read_text

TEXT = (".csv", ".tsv", ".txt", ".dat", ".tab", ".data", ".asc", ".prn")
PACKED = (".gz", ".bz2", ".xz")
THE_TABLE = "the table"


def open_table(source: Any, group: str | None = None) -> Table:
    """The table in a file, a folder or an object; see ``read``. group: a column of names, which are
    read as they are written. Raises DataError for what cannot be opened."""
    if isinstance(source, str) and source == "-":
        content = sys.stdin.buffer.read()
        return read_text("the standard input", unpacked("the standard input", content), group)
    if isinstance(source, (str, os.PathLike)):
        return _of_path(Path(source), group)
    return _of_object(source)


def _of_path(path: Path, group: str | None) -> Table:
    if path.is_dir():
        return _of_folder(path, group)
    origin = str(path)
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            reader = reader_of(path.suffix.lower(), head)
            if reader is not None:
                return reader(path)
            content = head + file.read()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}: check the name and the directory.") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): give a file with a table, such as CSV."
        ) from None
    return read_text(origin, unpacked(origin, content), group)


def _of_folder(path: Path, group: str | None) -> Table:
    """The files of a folder, in the order of their names; 2 comes before 10."""
    files = [file for file in path.iterdir() if file.is_file() and _is_table(file)]
    if not files:
        known = ", ".join((*TEXT, *BINARY))
        raise DataError(
            f"{path} is a folder without tables: give a file, or a folder with a file for each"
            f" trajectory, whose names end in one of {known}."
        )
    files.sort(key=lambda file: [_natural(part) for part in re.split(r"(\d+)", file.name)])
    tables, others = _alike(files, group)
    table = tables[0][1]
    if len(tables) > 1:
        table = joined(str(path), tables)
    for name in others:
        table.notes.append(f"{name} in the folder has no such columns and was left out.")
    return table


def _alike(files, group) -> tuple[list[tuple[str, Table]], list[str]]:
    """The tables of the files with their names, and the files left out: of other kinds than most,
    without their columns, such as notes.txt."""
    kinds = [_kind(file) for file in files]
    most, count = Counter(kinds).most_common(1)[0]
    sure = 2 * count > len(files)
    header = None
    if sure and count < len(files):
        header = sorted(_of_path(files[kinds.index(most)], group).header)
    tables = []
    others = []
    for file, kind in zip(files, kinds, strict=True):
        try:
            table = _of_path(file, group)
        except DataError:
            if not sure or kind == most:
                raise
            others.append(file.name)
            continue
        if header is not None and kind != most and sorted(table.header) != header:
            others.append(file.name)
            continue
        tables.append((_stem(file), table))
    return tables, others


def _kind(file):
    """The suffix of a file; a packer's suffix, such as .gz, does not count."""
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in PACKED]
    return suffixes[-1]


def _is_table(file):
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in (*TEXT, *BINARY) and not file.name.startswith(".")


def _stem(file):
    name = file.name
    while Path(name).suffix.lower() in (*TEXT, *BINARY, *PACKED):
        name = Path(name).stem
    return name


def _natural(part):
    """A key that puts numbers in their order, and before text."""
    if part.isdigit():
        return (0, int(part), "")
    return (1, 0, part)


def _of_object(source: Any) -> Table:
    pd = pandas()
    if hasattr(source, "to_pandas") and not is_xarray(source):
        source = source.to_pandas()
    if isinstance(source, pd.DataFrame):
        return of_frame(THE_TABLE, source)
    if is_xarray(source):
        return of_xarray(THE_TABLE, source)
    if isinstance(source, np.ndarray) and source.dtype.names:
        source = {name: source[name] for name in source.dtype.names}
    if isinstance(source, Mapping):
        return of_columns(THE_TABLE, source, _of_object)
    raise DataError(
        f"a table is the path of a file, '-', a DataFrame, a Dataset of xarray, a dict of columns"
        f" or a structured array, not {type(source).__name__}: for arrays t, (T,), and y, (T, n),"
        " take dataset(t, y)."
    )
