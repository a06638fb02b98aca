"""From cells to numbers: what stands for a missing value, and what is text."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np

# In lower case. pandas gets them in the usual spellings.
MISSING = frozenset(
    ["", "nan", "na", "n/a", "n.a.", "null", "none", "-", "--", "---", "?", ".", "..", "missing"]
    + ["#n/a", "#na", "#value!", "#div/0!", "#num!", "<na>", "nat"]
)
LONGEST = 40
# 1.234.567,8, where the decimal mark is a comma.
THOUSANDS = re.compile(r"\s*[-+]?\d{1,3}(?:\.\d{3})+,\d+\s*")


class Numbers(NamedTuple):
    """The numbers of a column. values: (N,), NaN where missing. bad: the first row that is neither
    a finite number nor missing, or None. is_text: whether no cell is a number."""

    values: np.ndarray
    bad: int | None
    is_text: bool


def spellings() -> list[str]:
    """The marks of missing values in the spellings that a parser finds by itself."""
    found = dict.fromkeys(
        kind(mark) for mark in sorted(MISSING) for kind in (str, str.upper, str.title)
    )
    return [*found, "NaN", "#N/A N/A"]


def parse(cell: Any, decimal: str = ".") -> float | None:
    """The number in a cell; NaN if it is missing, None if it is something else."""
    if not isinstance(cell, str):
        try:
            return float(cell)
        except (TypeError, ValueError):
            return None
    if cell.strip().lower() in MISSING:
        return math.nan
    if decimal != ".":
        if "." in cell and not THOUSANDS.fullmatch(cell):
            return None
        cell = cell.replace(".", "").replace(decimal, ".")
    try:
        return float(cell)
    except ValueError:
        return None


def numbers(column: Any, decimal: str = ".") -> Numbers:
    """The numbers in a Series of any type."""
    kind = column.dtype.kind
    if kind in "biuf":
        values = column.to_numpy(np.float64, na_value=math.nan)
        return Numbers(values, _first(np.isinf(values)), False)
    if kind in "mMc":
        return Numbers(np.full(len(column), math.nan), 0, True)
    codes, distinct = column.factorize()
    parsed = [parse(cell, decimal) for cell in distinct]
    refused = np.array([value is None or math.isinf(value) for value in parsed] + [False])
    known = np.array(parsed + [None], dtype=np.float64)  # NaN for None
    is_text = bool(parsed) and all(value is None or math.isnan(value) for value in parsed)
    is_text = is_text and any(value is None for value in parsed)
    # A missing cell has the code -1, which is the last entry.
    return Numbers(known[codes], _first(refused[codes]), is_text)


def texts(column: Any) -> np.ndarray:
    """The cells of a Series as (N,) strings without blanks at their ends, '' where missing. The
    number 3.0 is '3'."""
    if column.dtype.kind in "biuf":
        column = column.map(_label, na_action="ignore")
    codes, distinct = column.factorize()
    names = [_without_mark(str(cell).strip()) for cell in distinct]
    return np.array([*names, ""], dtype=object)[codes]


def shown(cell: Any) -> str:
    """A cell in a message."""
    text = str(cell).strip()
    if len(text) > LONGEST:
        text = text[:LONGEST] + "..."
    return repr(text)


def _without_mark(text):
    """'' for the mark of a missing value."""
    if text.lower() in MISSING:
        return ""
    return text


def _label(value):
    if float(value).is_integer():
        return str(int(value))
    return str(value)


def _first(flags):
    """The first row where flags is true, or None."""
    if not flags.any():
        return None
    return int(flags.argmax())
