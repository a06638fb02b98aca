"""How a text divides into cells: separator, decimal mark, header. Found from its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .cells import THOUSANDS, parse
from .dataset import DataError
from .heads import (
    BELOW,
    MOST_TITLES,
    UNITS_NOTE,
    about_titles,
    is_head,
    lines_below,
    with_units,
)

SEPARATORS = ",;\t"
BLANKS = r"\s+"
WIDE_BLANKS = r"\s{2,}|\t"
SAMPLE = 200
_DECIMAL_COMMA = re.compile(r"\s*[-+]?(?:\d*|\d{1,3}(?:\.\d{3})+),\d+(?:[eE][-+]?\d+)?\s*")
_DECIMAL_POINT = re.compile(r"\s*[-+]?\d*\.\d+(?:[eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class Dialect:
    """separator: a character, or the pattern BLANKS. decimal: '.' or ','. thousands: the mark
    between groups of digits, None if there is none. header: the names of the columns, one a cell of
    the data. skip: how many used lines stand before the data. notes: what was found before them
    beside the names."""

    separator: str
    decimal: str
    thousands: str | None
    header: tuple[str, ...]
    skip: int
    notes: tuple[str, ...] = ()


def find_dialect(origin: str, used: Sequence[str], comments: Sequence[str]) -> Dialect:
    """The dialect of a text.

    used: its first lines that are neither empty nor comments. comments: the comments before them,
    without their marks; the last one may hold the names of the columns.
    Raises DataError for a text without a header.
    """
    place = _place(used)
    notes = about_titles([_title(line) for line in used[:place]])
    separator = _separator(used[place])
    rows = [split(line, separator) for line in used[place + 1 :]]
    decimal = _decimal([cell for row in rows for cell in row])
    header = _header(used[place], separator, rows)
    skip = place + 1
    between = lines_below(header, rows, decimal)
    if between:
        header = with_units(header, rows[0])
        rows = rows[between:]
        skip += between
        notes.append(UNITS_NOTE)
    if all(_is_number(cell, decimal) for cell in header):
        named = []
        if comments:
            named = split(comments[-1], separator)
        if len(named) != len(header) or any(_is_number(cell, decimal) for cell in named):
            raise DataError(
                f"{origin}: the first line holds numbers; put a header with the names of the"
                " columns above it."
            )
        rows.insert(0, header)
        header = named
        skip = 0
    header = _fitted([name.strip() for name in header], rows)
    thousands = None
    if decimal == "," and any(THOUSANDS.fullmatch(cell) for row in rows for cell in row):
        thousands = "."
    return Dialect(separator, decimal, thousands, tuple(header), skip, tuple(notes))


def split(line: str, separator: str) -> list[str]:
    """The cells of a line. Raises csv.Error if it is no CSV."""
    if len(separator) > 1:
        return re.split(separator, line.strip())
    return next(csv.reader([line], delimiter=separator))


def _place(used):
    """The place of the line with the names of the columns. Titles may be above it; if no line
    qualifies, it is the first one."""
    for place, line in enumerate(used[:MOST_TITLES]):
        separator = _separator(line)
        below = [split(row, separator) for row in used[place + 1 : place + 1 + BELOW]]
        decimal = _decimal([cell for row in below for cell in row])
        cells = split(line, separator)
        widths = {len(row) for row in below[1:]}
        if separator == BLANKS and widths != {len(cells)}:
            continue  # a sentence
        divided = sum(1 for row in below if len(row) > 1)
        if 2 * divided > len(below) and is_head(cells, below, decimal):
            return place
    return 0


def _title(line):
    """A line above the names, without the separators that fill it up."""
    return line.strip(SEPARATORS + " ")


def _separator(head):
    """The separator. The header decides, because names rarely hold one."""
    separator = max(SEPARATORS, key=head.count)
    if head.count(separator):
        return separator
    return BLANKS


def _decimal(cells):
    """The mark in decimal numbers: a comma if it is in some of the cells, and a point in none."""
    commas = any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    points = any(_DECIMAL_POINT.fullmatch(cell) for cell in cells)
    if commas and not points:
        return ","
    return "."


def _header(line, separator, rows):
    """The cells of the header. If two or more blanks divide the names, a name may hold a blank."""
    header = split(line, separator)
    widths = {len(row) for row in rows}
    if separator == BLANKS and len(widths) == 1 and len(header) > max(widths):
        wide = re.split(WIDE_BLANKS, line.strip())
        if len(wide) in widths:
            return wide
    return header


def _fitted(header, rows):
    """The header. If the data have one column more, it gets an empty name: the first column is an
    index without a name, or each line ends with a separator."""
    widths = {len(row) for row in rows}
    if widths != {len(header) + 1}:
        return header
    if all(not row[-1].strip() for row in rows):
        return [*header, ""]
    return ["", *header]


def _is_number(cell, decimal):
    return parse(cell, decimal) is not None
