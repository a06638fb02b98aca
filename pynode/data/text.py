"""Reads tables from text: CSV in any dialect, and columns between blanks."""

from __future__ import annotations

import csv
import io
import re
import warnings
from typing import Any

from .cells import spellings
from .dataset import DataError
from .dialect import SAMPLE, Dialect, find_dialect, split
from .encoding import as_utf8
from .names import resolve
from .table import Table, pandas

# A line that is empty or a comment.
_UNUSED = re.compile(rb"^[ \t]*(?:#[^\r\n]*)?\r?(?:\n|\Z)", re.MULTILINE)
_EMPTY = re.compile(rb"\n[ \t\r]*\n")
_END = re.compile(r"\r\n|\r|\n")
# The first lines are looked for in so many bytes.
HEAD = 1 << 16
# Since this version pandas reads decimal numbers to the last bit by default.
EXACT = (3, 1)


def read_text(origin: str, content: bytes, group: str | None = None) -> Table:
    """The table in the bytes of a text. group: a column that is read as it is written, so that the
    names 01 and NA stay what they are. Raises DataError if there is no table."""
    content, note = as_utf8(origin, content)
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    used, comments = _first_lines(content)
    if not used:
        raise DataError(
            f"{origin} is empty: it needs a header line with the names of the columns, and one line"
            " a time."
        )
    try:
        dialect = find_dialect(origin, used, comments)
    except csv.Error as error:
        raise DataError(f"{origin} is not CSV ({error}): correct its first lines.") from None
    place = _Places(content, dialect.skip)
    bare = content
    if b"#" in content or content[:1].isspace() or _EMPTY.search(content):
        bare = _UNUSED.sub(b"", content)
    _check_widths(origin, bare, dialect, place)
    frame = _parsed(origin, bare, dialect, group)
    notes = []
    if note:
        notes.append(note)
    if dialect.decimal == ",":
        notes.append("Decimal numbers have a comma.")
    notes += dialect.notes
    columns = [frame[k] for k in range(len(dialect.header))]
    return Table(origin, list(dialect.header), columns, place, notes, dialect.decimal)


def _first_lines(content):
    """The first lines that are neither empty nor comments, and the comments before them."""
    used: list[str] = []
    comments: list[str] = []
    end = HEAD
    if content.count(b"\n", 0, end) < SAMPLE // 10:
        end = len(content)  # long lines
    lines = _END.split(content[:end].decode("utf-8", errors="ignore"))
    if end < len(content):
        lines.pop()  # it may have been cut
    for line in lines:
        bare = line.strip()
        if bare.startswith("#"):
            if not used:
                comments.append(bare.lstrip("# "))
        elif bare:
            used.append(line)
        if len(used) > SAMPLE:
            break
    return used, comments


class _Places:
    """The line of each row. Only a message asks, so that the lines are not counted before.

    skip: how many used lines stand before the data.
    """

    def __init__(self, content: bytes, skip: int) -> None:
        self.content = content
        self.skip = skip
        self.lines: list[tuple[int, str]] = []

    def used(self) -> list[tuple[int, str]]:
        """The number and the text of each line of data."""
        if not self.lines:
            everything = enumerate(_END.split(self.content.decode("utf-8")), 1)
            self.lines = [
                (number, line)
                for number, line in everything
                if line.strip() and not line.lstrip().startswith("#")
            ][self.skip :]
        return self.lines

    def __call__(self, row: int) -> str:
        return f"line {self.used()[row][0]}"


def _check_widths(origin, bare, dialect: Dialect, place: _Places) -> None:
    """Raise DataError at the first line with another number of cells than the header.

    The parser refuses lines with more cells, and fills up those with fewer. If no line has more,
    the number of all separators says whether one has fewer.
    """
    width = len(dialect.header)
    if len(dialect.separator) == 1 and b'"' not in bare:
        head = bare.split(b"\n", dialect.skip)[: dialect.skip]
        mark = dialect.separator.encode()
        lines = bare.rstrip(b" \t\r\n").count(b"\n") + 1 - dialect.skip
        marks = bare.count(mark) - sum(line.count(mark) for line in head)
        if marks == lines * (width - 1):
            return
    for number, line in place.used():
        try:
            cells = split(line, dialect.separator)
        except csv.Error as error:
            raise DataError(
                f"{origin}, line {number} is not CSV ({error}): correct it or remove it."
            ) from None
        if len(cells) != width:
            raise DataError(
                f"{origin}, line {number}: {len(cells)} cells, but the header names {width}"
                " columns; leave a cell empty where a value is missing."
            )


def _parsed(origin, bare, dialect: Dialect, group: str | None) -> Any:
    pd = pandas()
    options: dict[str, Any] = {}
    marks = dict.fromkeys(range(len(dialect.header)), spellings())
    column = None
    if group is not None:
        column = resolve(group, dialect.header)
    if column is not None:
        k = dialect.header.index(column)
        marks[k] = [""]
        options["dtype"] = {k: str}
    if tuple(int(part) for part in pd.__version__.split(".")[:2]) < EXACT:
        options["float_precision"] = "round_trip"
    if len(dialect.separator) == 1:
        options["skipinitialspace"] = True
    body = io.BytesIO(bare)
    for _ in range(dialect.skip):
        body.readline()
    try:
        with warnings.catch_warnings():
            # Chunks of a column with different types are sorted out in cells.py.
            warnings.simplefilter("ignore")
            return pd.read_csv(
                body,
                header=None,
                names=range(len(dialect.header)),
                sep=dialect.separator,
                decimal=dialect.decimal,
                thousands=dialect.thousands,
                index_col=False,
                na_values=marks,
                keep_default_na=False,
                **options,
            )
    except pd.errors.EmptyDataError:
        return pd.DataFrame({k: [] for k in range(len(dialect.header))})
    except pd.errors.ParserError as error:
        raise DataError(f"{origin} is not CSV ({error}): correct it.") from None
