"""Times of a table as numbers: numbers, dates, and times of day."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..core.unit_names import split_unit
from .cells import numbers, shown, texts
from .dataset import DataError
from .names import time_unit
from .table import Table, pandas

# From the largest. A unit is in use if a typical step is at least one of it.
UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3}
# So many cells are looked at to tell what a column holds.
FIRST = 20
_CLOCK = re.compile(r"-?\d{1,4}:\d{2}(?::\d{2}(?:[.,]\d+)?)?")
_DATE = re.compile(r"\d+[-/.]\d+[-/.]\d+")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
_SLASHED = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-]\d{2,4}\b")
_POINTS = re.compile(r"\d{1,2}\.\d{1,2}\.\d{2,4}\b")


class Times(NamedTuple):
    """values: (N,), NaN where missing. name: for the axes, with the unit. unit: '' if unknown.
    moments: (N,) int64 nanoseconds where the column has dates or times of day, otherwise None;
    values are then missing until the first one is known."""

    values: np.ndarray
    name: str
    unit: str
    moments: np.ndarray | None = None
    kind: str = "numbers"

    @property
    def order(self) -> np.ndarray:
        """(N,) what increases with the time."""
        if self.moments is not None:
            return self.moments
        return self.values


def read_times(table: Table, name: str) -> Times:
    """The times in a column. Raises DataError at the first cell that is no time."""
    column = table.column(name)
    if column.dtype.kind in "mM":
        kind = "durations"
        if column.dtype.kind == "M":
            kind = "dates"
        return _moments(table, name, column, kind)
    if _is_iso(column.head(FIRST)):
        dates = pandas().to_datetime(column, format="ISO8601", errors="coerce", utc=True)
        if bool((dates.notna() | column.isna()).all()):
            return _moments(table, name, dates, "dates")
    found = numbers(column, table.decimal)
    if found.bad is None:
        unit = table.units.get(name, "") or time_unit(name)
        return Times(found.values, name, unit)
    if not found.is_text:
        raise DataError(
            f"{table.origin}, {table.place(found.bad)}, column {name!r}:"
            f" {shown(column.iloc[found.bad])} is not a finite number; correct it, or leave the"
            " cell empty if the value is missing."
        )
    return _moments(table, name, *_understood(table, name, texts(column)))


def looks_like_times(column: Any) -> bool:
    """Whether a Series has dates or times of day."""
    if column.dtype.kind in "mM":
        return True
    if column.dtype.kind in "biufc":
        return False
    first = [cell for cell in texts(column.head(FIRST)) if cell]
    if not first:
        return False
    if all(_CLOCK.fullmatch(cell) for cell in first):
        return True
    # 2024 is a number.
    return all(_DATE.match(cell) for cell in first) and bool(_dates(first).notna().all())


def _is_iso(cells) -> bool:
    """Whether the first cells of a column are dates as ISO 8601 writes them."""
    return cells.dtype.kind not in "biufcmM" and all(
        isinstance(cell, str) and _ISO.match(cell) is not None for cell in cells
    )


def with_dates(table: Table, date: str, clock: str) -> Table:
    """A table whose column of times of day has the dates of another column in front. The column
    of dates is left out."""
    pd = pandas()
    days = texts(table.column(date))
    hours = texts(table.column(clock))
    both = [_date_and_clock(day, hour) for day, hour in zip(days, hours, strict=True)]
    columns = list(table.columns)
    columns[table.header.index(clock)] = pd.Series(both, dtype=object)
    notes = [*table.notes, f"The dates in {date!r} and the times in {clock!r} are one time."]
    made = replace(table, header=list(table.header), columns=columns, notes=notes)
    made.remove(made.header.index(date))
    return made


def _date_and_clock(day, hour):
    if not day or not hour:
        return ""
    return f"{day} {hour}"


def since_first(times: Times, codes: np.ndarray, groups: int) -> tuple[Times, str]:
    """Dates and times of day as numbers that begin with zero in each trajectory, and a sentence.

    codes: (N,) the number of the trajectory of each row. The unit is the largest of which a typical
    step has at least one.
    """
    moments = times.moments
    assert moments is not None
    if times.kind == "times of day":
        moments = _over_midnight(moments, codes)
    first = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, moments)
    since = moments - first[codes]
    steps = np.diff(since)[np.diff(codes) == 0]
    steps = steps[steps > 0]
    unit = "s"
    if len(steps):
        typical = float(np.median(steps)) * 1e-9
        unit = next((one for one, seconds in UNITS.items() if typical >= seconds), "s")
    short = split_unit(times.name)[0]
    values = since / (UNITS[unit] * 1e9)
    where = ""
    if groups > 1:
        where = " of its trajectory"
    sentence = (
        f"The {times.kind} in {times.name!r} became times in {unit} since the first one{where}"
    )
    if groups == 1 and times.kind == "dates":
        sentence += f", {_iso(int(first[0]))}"
    named = f"{short} [{unit}]"
    return Times(values, named, unit), sentence + "."


def _understood(table, name, cells):
    """Dates or durations as a Series, and which of the two."""
    pd = pandas()
    present = [cell for cell in cells if cell]
    if all(_CLOCK.fullmatch(cell) for cell in present):
        padded = [_full_clock(cell) for cell in cells]
        return pd.to_timedelta(pd.Series(padded, dtype=object)), "times of day"
    dates = _dates(cells, f"{table.origin}, column {name!r}")
    filled = np.array([bool(cell) for cell in cells])
    bad = filled & dates.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{table.origin}, {table.place(row)}, column {name!r}: {shown(cells[row])} is neither a"
            " finite number nor a date such as 2024-01-31T08:30:00; correct it, or name the column"
            " of times with --time COLUMN."
        )
    return dates, "dates"


def _full_clock(cell):
    """Hours, minutes and seconds, as pandas reads them; None for an empty cell."""
    if not cell:
        return None
    if cell.count(":") == 1:
        cell += ":00"
    return cell.replace(",", ".")


def _dates(cells, where: str = "") -> Any:
    """Dates as a Series, missing where a cell is none. Day and month of 3/4/2024 are told by the
    other dates; where nothing tells them and ``where`` is given, raises DataError."""
    pd = pandas()
    series = pd.Series([cell or None for cell in cells], dtype=object)
    found = pd.to_datetime(series, format="ISO8601", errors="coerce", utc=True)
    if found.notna().any():
        return found
    day_first = any(_POINTS.match(cell) for cell in cells if cell)
    if not day_first:
        pairs = [match for match in (_SLASHED.match(cell) for cell in cells if cell) if match]
        day_first = any(int(pair[1]) > 12 for pair in pairs)
        month_first = any(int(pair[2]) > 12 for pair in pairs)
        if pairs and where and not (day_first or month_first):
            raise DataError(
                f"{where}: {pairs[0].string!r} can be read with the day or the month first; write"
                " dates as 2024-01-31."
            )
    return pd.to_datetime(series, format="mixed", dayfirst=day_first, errors="coerce", utc=True)


def _moments(table, name, column, kind) -> Times:
    pd = pandas()
    missing = column.isna().to_numpy()
    dtype = "m8[ns]"
    if kind == "dates":
        dtype = "M8[ns]"
        column = pd.to_datetime(column, utc=True).dt.tz_localize(None)
    moments = column.to_numpy(dtype).astype(np.int64)
    values = np.where(missing, np.nan, 0.0)
    return Times(values, name, "", moments, kind)


def _over_midnight(moments, codes):
    """Times of day that go on after midnight: a fall by more than half a day is a new day."""
    day = int(UNITS["d"] * 1e9)
    falls = np.diff(moments, prepend=moments[:1]) < -(day // 2)
    falls[1:] &= np.diff(codes) == 0
    days = np.cumsum(falls)
    # Every trajectory begins with a first day.
    _, starts = np.unique(codes, return_index=True)
    return moments + day * (days - days[starts][codes])


def _iso(nanoseconds):
    """A date, with the time of day if there is one."""
    text = str(np.datetime64(nanoseconds, "ns").astype("M8[s]"))
    return text.removesuffix("T00:00:00")
