"""Doses as pharmacometricians write them: a table with a row for each record."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

# Columns that change what a record means, and the values at which they change nothing.
WITHOUT_EFFECT = {"ss": 0.0}
MISSING = ("", ".", "na", "nan", "none")


@dataclass(frozen=True)
class Dose:
    """One record. target: the number of the compartment from 0, or the name."""

    time: float
    amount: float
    rate: float
    duration: float
    interval: float
    count: int
    target: Any


@dataclass(frozen=True)
class DoseTable:
    """The doses of each patient. groups: the ids. doses: their records, in the order of the
    table."""

    groups: tuple[str, ...]
    doses: tuple[tuple[Dose, ...], ...]

    def columns(self) -> dict[str, Any]:
        """The arguments of Doses, (B, K) each, NaN where a patient has fewer doses."""
        shape = (len(self.groups), max(len(own) for own in self.doses))
        found: dict[str, Any] = {
            "times": np.full(shape, math.nan),
            "amounts": np.zeros(shape),
            "target": np.zeros(shape, dtype=object),
        }
        lines = [(b, k, dose) for b, own in enumerate(self.doses) for k, dose in enumerate(own)]
        for name in ("rate", "duration"):
            if any(getattr(dose, name) > 0 for _, _, dose in lines):
                found[name] = np.zeros(shape)
        if any(dose.count > 1 for _, _, dose in lines):
            found["interval"] = np.zeros(shape)
            found["count"] = np.ones(shape, dtype=np.int64)
        if "rate" in found and "duration" in found:
            raise ValueError("a table of doses has rates or durations: leave out one of them")
        entries = {"times": "time", "amounts": "amount"}
        for b, k, dose in lines:
            for name, values in found.items():
                values[b, k] = getattr(dose, entries.get(name, name))
        return found


def read_doses(table: Any) -> DoseTable:
    """The doses of a CSV file, a pandas DataFrame or a dict of columns. ValueError for what is not
    supported."""
    columns = _named_columns(table)
    for name in ("id", "time", "amt"):
        if name not in columns:
            raise ValueError(
                f"a table of doses has the columns id, time and amt, and this one has no {name!r}"
            )
    groups: dict[str, list[Dose]] = {}
    for i in range(len(columns["id"])):
        record = {name: values[i] for name, values in columns.items()}
        if _is_missing(record["id"]):
            raise ValueError(f"row {i + 1} of the doses has no id: say which patient it is")
        own = groups.setdefault(_label(record["id"]), [])
        dose = _dose(record, i)
        if dose is not None:
            own.append(dose)
    if not any(groups.values()):
        raise ValueError("a table of doses needs a row with an amount")
    return DoseTable(tuple(groups), tuple(map(tuple, groups.values())))


def _named_columns(table: Any) -> dict[str, list]:
    """The columns by their names in small letters, all of one length."""
    found: dict[str, list] = {}
    written: dict[str, str] = {}
    for name, values in _columns(table):
        key = name.strip().lower()
        if key in found:
            raise ValueError(
                f"the table of doses has the columns {written[key]!r} and {name!r}, which count as"
                " one name: rename or remove one of them"
            )
        found[key] = list(values)
        written[key] = name
    lengths = {written[key]: len(values) for key, values in found.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name!r} has {count}" for name, count in lengths.items())
        raise ValueError(
            f"the columns of a table of doses have one length, and here {each}: fill missing values"
            " with NaN or '.'"
        )
    return found


def _columns(table: Any) -> list[tuple[str, Any]]:
    """The names and the values of all columns."""
    if isinstance(table, dict):
        return [(str(name), values) for name, values in table.items()]
    if isinstance(table, (str, os.PathLike)):
        return _columns_of_file(table)
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        return [(str(name), table.iloc[:, i].tolist()) for i, name in enumerate(table.columns)]
    raise TypeError(
        "a table of doses is the path of a CSV file, a DataFrame or a dict of columns, not"
        f" {type(table).__name__}"
    )


def _columns_of_file(path: str | os.PathLike) -> list[tuple[str, Any]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        raise ValueError(f"{os.fspath(path)} is empty: a table of doses begins with its names")
    names = lines[0]
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(names):
            raise ValueError(
                f"row {number} of the doses has {len(line)} values, and the table has"
                f" {len(names)} columns: write '.' for a missing value"
            )
    return [(name, [line[i] for line in lines[1:]]) for i, name in enumerate(names)]


def _is_missing(value: Any) -> bool:
    return value is None or str(value).strip().lower() in MISSING


def _label(value: Any) -> str:
    """An id as text; 3.0 is 3."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _number(record: dict[str, Any], name: str, row: int, default: float = 0.0) -> float:
    """A number of a record; the default where it is missing."""
    value: Any = record.get(name)
    if _is_missing(value):
        return default
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"row {row + 1} of the doses has {value!r} in column {name!r}, which is no number"
        )
    return number


def _dose(record: dict[str, Any], row: int) -> Dose | None:
    """The dose of a record, or None if it is an observation."""
    amount = _number(record, "amt", row)
    kind = _number(record, "evid", row, float(amount != 0))
    if kind == 0 or (kind == 1 and amount == 0):
        return None
    if kind != 1:
        raise ValueError(
            f"row {row + 1} of the doses has evid {kind:g}: only doses (1) and observations (0) are"
            " supported"
        )
    for name, neutral in WITHOUT_EFFECT.items():
        if _number(record, name, row, neutral) != neutral:
            raise ValueError(
                f"row {row + 1} of the doses uses {name!r}, which is not supported: write the doses"
                " before the steady state one by one"
            )
    time = _number(record, "time", row, math.nan)
    if math.isnan(time):
        raise ValueError(f"row {row + 1} of the doses has no time")
    rate = _number(record, "rate", row)
    duration = max(_number(record, "duration", row), _number(record, "dur", row))
    if rate < 0 or duration < 0:
        raise ValueError(
            f"row {row + 1} of the doses has a negative rate or duration: rates that the model"
            " estimates are given as parameters of Doses"
        )
    extra = _number(record, "addl", row)
    if extra < 0 or not extra.is_integer():
        raise ValueError(
            f"row {row + 1} of the doses has addl {extra:g}: it counts further doses, 0, 1, 2, ..."
        )
    interval = _number(record, "ii", row)
    if extra > 0 and interval <= 0:
        raise ValueError(f"row {row + 1} of the doses repeats (addl), but has no interval (ii)")
    return Dose(time, amount, rate, duration, interval, int(extra) + 1, _target(record, row))


def _target(record: dict[str, Any], row: int) -> Any:
    """The state of a dose: the number from 0, or the name."""
    value: Any = record.get("cmt")
    if _is_missing(value):
        return 0
    try:
        number = float(value)
    except ValueError:
        return str(value).strip()
    if number == 0:
        raise ValueError(
            f"row {row + 1} of the doses has cmt 0, which means the default compartment of a NONMEM"
            " model: write the number of the state that the dose enters, from 1, or its name"
        )
    if number < 0 or not number.is_integer():
        raise ValueError(
            f"row {row + 1} of the doses has cmt {number:g}: states have the numbers 1, 2, 3, ..."
        )
    return int(number) - 1
