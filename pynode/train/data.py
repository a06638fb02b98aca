"""Reads observations of a physical system from a CSV file, and says what is wrong with them.

A file has a header line, a column of times and one column for each state. With several trajectories
it has a column that names the trajectory of each line. Times may be irregular. An empty cell,
``nan`` or ``NA`` is a missing value. Lines that start with # are comments. Commas, semicolons or
tabs separate cells.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from os import PathLike
from pathlib import Path

import torch

TIME_NAMES = ("t", "time", "times", "t_s", "time_s", "time (s)", "seconds")
MISSING = ("", "nan", "na", "n/a", "null", "none", "-")
FEWEST_ROWS = 4


class DataError(ValueError):
    """Observations that cannot be used for training. The message says where the fault is and what
    to do."""


@dataclass(frozen=True)
class Trajectory:
    """One run of the system. t: (T,) strictly increasing; y: (T, n), zero where missing; seen: (T,
    n), False where missing."""

    name: str
    t: torch.Tensor
    y: torch.Tensor
    seen: torch.Tensor


@dataclass(frozen=True)
class Dataset:
    """Trajectories of the n states named ``columns``, in the units of the file, float64."""

    columns: tuple[str, ...]
    time: str
    trajectories: tuple[Trajectory, ...]

    @property
    def observations(self) -> int:
        """The number of observed values after the initial states. The loss is a mean over them."""
        return sum(int(run.seen[1:].sum()) for run in self.trajectories)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names and numbers. A resumed run compares it with that of its data."""
        digest = hashlib.sha256(repr((self.columns, self.time)).encode())
        for run in self.trajectories:
            digest.update(run.name.encode())
            for part in (run.t, run.y, run.seen):
                digest.update(part.numpy().tobytes())
        return digest.hexdigest()


def read_csv(
    path: str | PathLike[str],
    time: str | None = None,
    group: str | None = None,
    drop: Sequence[str] = (),
    keep_constant: bool = False,
) -> Dataset:
    """The observations in a CSV file.

    time: the column of times, by default the one called t or time.
    group: the column that names the trajectories.
    drop: columns to leave out.
    keep_constant: accept a state that never changes; its magnitude is then its scale.

    Raises DataError, with file, line and column, for data that cannot be used.
    """
    lines = _lines(Path(path))
    if not lines:
        raise DataError(
            f"{path} is empty: it needs a header line with the names of the columns, and one line a"
            " time."
        )
    header = [name.strip() for name in lines[0][1]]
    _check_header(path, header, [group, *drop])
    time = _time_column(path, header, time)
    columns = tuple(name for name in header if name not in (time, group, *drop))
    if not columns:
        raise DataError(
            f"{path} has no column of states, only {', '.join(header)}: add an observed quantity."
        )
    rows = [_row(path, line, header, cells) for line, cells in lines[1:]]
    if len(rows) < FEWEST_ROWS:
        raise DataError(
            f"{path} has {len(rows)} line{'s' * (len(rows) != 1)} of data, too few to learn from: "
            f"give at least {FEWEST_ROWS}, better dozens."
        )
    runs: dict[str, list] = {}
    for line, row in rows:
        if group:
            name = row[group].strip()
        else:
            name = ""
        if group and not name:
            raise DataError(
                f"{path}, line {line}, column {group!r}: the trajectory has no name; fill the"
                " cell in."
            )
        instant = _number(path, line, time, row[time])
        if math.isnan(instant):
            raise DataError(
                f"{path}, line {line}, column {time!r}: no time; fill it in or remove the line."
            )
        runs.setdefault(name, []).append(
            (line, instant, [_number(path, line, c, row[c]) for c in columns])
        )
    data = Dataset(
        columns,
        time,
        tuple(_trajectory(path, name, run, time, columns) for name, run in runs.items()),
    )
    _check_columns(path, data, keep_constant)
    return data


def _lines(path: Path):
    """The lines of the file that are not empty or comments, split into cells, with their
    numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}: check the name and the directory.") from None
    except (UnicodeDecodeError, IsADirectoryError, PermissionError) as error:
        raise DataError(
            f"{path} cannot be read as text ({error}): give a CSV file in UTF-8."
        ) from None
    used = [
        (i, s)
        for i, s in enumerate(text.splitlines(), 1)
        if s.strip() and not s.lstrip().startswith("#")
    ]
    if not used:
        return []
    separator = max(",;\t", key=used[0][1].count)
    cells = []
    for i, s in used:
        try:
            cells.append((i, next(csv.reader([s], delimiter=separator))))
        except csv.Error as error:
            raise DataError(
                f"{path}, line {i} is not CSV ({error}): correct it or remove it."
            ) from None
    return cells


def _check_header(path, header, needed):
    if all(_parse(name) is not None for name in header):
        raise DataError(
            f"{path}: the first line holds numbers; put a header with the names of the columns"
            " above it."
        )
    for name in header:
        if header.count(name) > 1 or not name:
            if name:
                what = f"two columns are called {name!r}"
            else:
                what = "a column has no name"
            raise DataError(f"{path}: {what}; give every column its own name in the header.")
    for name in needed:
        if name is not None and name not in header:
            raise DataError(f"{path} has no column {name!r}: its columns are {', '.join(header)}.")


def _time_column(path, header, time):
    if time is not None:
        if time not in header:
            raise DataError(
                f"{path} has no column {time!r} for the time: its columns are {', '.join(header)}."
            )
        return time
    matches = [name for name in header if name.lower() in TIME_NAMES]
    # A column T beside t is a temperature.
    exact = [name for name in matches if name in TIME_NAMES]
    if len(exact) == 1:
        return exact[0]
    if len(matches) == 1:
        return matches[0]
    reason = "no column is called t or time"
    if matches:
        reason = "more than one column could be the time"
    raise DataError(f"{path}: {reason}; say which with --time COLUMN, one of: {', '.join(header)}.")


def _row(path, line, header, cells):
    if len(cells) != len(header):
        raise DataError(
            f"{path}, line {line}: {len(cells)} cells, but the header names {len(header)} columns; "
            "leave a cell empty where a value is missing."
        )
    return line, dict(zip(header, cells, strict=True))


def _parse(cell: str):
    """The number in a cell; NaN if it is missing, None if it is something else."""
    if cell.strip().lower() in MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None


def _number(path, line, column, cell):
    value = _parse(cell)
    if value is None or math.isinf(value):
        raise DataError(
            f"{path}, line {line}, column {column!r}: {cell.strip()!r} is not a finite number; "
            "correct it, or leave the cell empty if the value is missing."
        )
    return value


def _trajectory(path, name, run, time, columns):
    """A checked Trajectory of the (line, time, values) of one group."""
    if name:
        of = f" of trajectory {name!r}"
    else:
        of = ""
    if len(run) < 2:
        raise DataError(
            f"{path}, line {run[0][0]}: the only line{of}; a trajectory needs a start and an"
            " observation."
        )
    for (_, before, _), (line, now, _) in pairwise(run):
        if now <= before:
            what = f"comes after {before:g}"
            hint = "sort the lines by time"
            if now == before:
                what = "appears twice"
                hint = "keep one of the lines"
            if not name:
                hint += ", or name the column of the trajectories with --group"
            raise DataError(
                f"{path}, line {line}, column {time!r}: time {now:g}{of} {what}; {hint}."
            )
    line, _, start = run[0]
    for column, value in zip(columns, start, strict=True):
        if math.isnan(value):
            raise DataError(
                f"{path}, line {line}, column {column!r}: the first line{of} is the initial state,"
                " with no gaps; fill the value in, remove the lines before the first complete one,"
                f" or leave the column out with --drop {column}."
            )
    t = torch.tensor([instant for _, instant, _ in run], dtype=torch.float64)
    y = torch.tensor([values for _, _, values in run], dtype=torch.float64)
    return Trajectory(name, t, y.nan_to_num(0.0), ~y.isnan())


def _check_columns(path, data, keep_constant):
    for i, column in enumerate(data.columns):
        values = torch.cat([run.y[:, i][run.seen[:, i]] for run in data.trajectories])
        if not any(bool(run.seen[1:, i].any()) for run in data.trajectories):
            raise DataError(
                f"{path}, column {column!r}: no value after the start; leave it out with --drop"
                f" {column}."
            )
        if not keep_constant and float(values.max()) == float(values.min()):
            raise DataError(
                f"{path}, column {column!r}: the value is {float(values[0]):g} throughout, so there"
                f" is no range to scale by and nothing to learn; leave it out with --drop {column},"
                " or keep it with --keep-constant."
            )
