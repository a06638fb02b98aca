"""From a table to trajectories: what each column means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.unit_names import split_unit
from .cells import numbers, parse, shown
from .columns import known_columns
from .dataset import DataError, Dataset
from .groups import Groups, find_groups
from .names import error_owner, is_date, is_input, resolve, time_rank
from .sources import open_table
from .table import Table
from .times import Times, looks_like_times, read_times, since_first, with_dates
from .trajectories import Columns, Rows, check_columns, make_trajectories

FEWEST_ROWS = 4


def read(
    source: Any,
    time: str | None = None,
    group: str | None = None,
    drop: Sequence[str] = (),
    keep_constant: bool = False,
    inputs: Sequence[str] = (),
    errors: Sequence[str] = (),
) -> Dataset:
    """The observations in a file or a table.

    source: the path of a text (CSV in any dialect; packed by gzip, bzip2 or xz), of a Parquet,
        Excel, NetCDF, HDF5 or NumPy file, or of a folder whose files are trajectories; '-' for the
        standard input. Or a DataFrame, a Dataset or DataArray of xarray, a dict of columns, a
        structured NumPy array, or a dict {name: table} of trajectories.
    time: the column of times, by default the one whose name says so, such as t, time or date.
    group: the column that names the trajectories, by default one that plainly does.
    drop: columns to leave out.
    keep_constant: accept a state that never changes. It is scaled by its magnitude.
    inputs: columns that are exogenous inputs u(t).
    errors: columns with the standard deviations of states. Their names tell the states (level_sd
        belongs to level), or 'level=COLUMN' does.

    Columns are named as in the file, or without their units. ``Dataset.notes`` says what was
    understood. Raises DataError, with file, line and column, for data that cannot be used.
    """
    table = open_table(source, group)
    _drop_nameless(table)
    _check_header(table)
    for name in _known(table, drop):
        table.remove(table.header.index(name))
    if group is not None:
        (group,) = _known(table, [group])
    table, time = _with_time(table, time)
    roles = _roles(table, time, group, inputs, errors)
    times = read_times(table, time)
    if table.rows < FEWEST_ROWS:
        raise DataError(
            f"{table.origin} has {table.rows} line{'s' * (table.rows != 1)} of data, too few to"
            f" learn from: give at least {FEWEST_ROWS}, better dozens."
        )
    _check_present(table, time, times)
    groups = find_groups(table, times.order, group, roles.others)
    table.notes += groups.notes
    states = [name for name in roles.others if name not in groups.columns]
    if not states:
        raise DataError(
            f"{table.origin} has no column of states, only {', '.join(table.header)}: add an"
            " observed quantity."
        )
    return _dataset(table, times, groups, roles, states, keep_constant)


class Roles(NamedTuple):
    """Names of columns. others: what is neither time nor group nor input nor error. errors: pairs
    of a state, '' if nobody says which, and a column."""

    others: list[str]
    inputs: list[str]
    errors: list[tuple[str, str]]


def _drop_nameless(table: Table) -> None:
    """Leave out what programs add to a table: a number for each row, and a column without
    cells behind a separator at the end of each line."""
    for i in reversed(range(len(table.header))):
        name = table.header[i]
        if name and not name.startswith("Unnamed:"):
            continue
        column = table.columns[i]
        found = numbers(column, table.decimal)
        where = "The last column"
        if i < len(table.header) - 1:
            where = f"Column {i + 1}"
        if table.rows and not found.is_text and bool(np.isnan(found.values).all()):
            table.remove(i)
            table.notes.append(f"{where} has neither a name nor cells and was left out.")
        elif table.rows > 1 and found.bad is None and bool((np.diff(found.values) == 1).all()):
            table.remove(i)
            table.notes.append(f"{where} has no name and counts the rows: it was left out.")


def _check_header(table: Table) -> None:
    header = table.header
    if header and all(parse(name) is not None for name in header):
        raise DataError(
            f"{table.origin}: the names of the columns are numbers; put a header with names above"
            " the data."
        )
    for name in header:
        if header.count(name) > 1 or not name:
            what = "a column has no name"
            if name:
                what = f"two columns are called {name!r}"
            raise DataError(
                f"{table.origin}: {what}; give every column its own name in the header."
            )


def _known(table: Table, names: Iterable[str], what: str = "") -> list[str]:
    """The columns that a user means. Raises DataError for a name that is no column."""
    return known_columns(str(table.origin), table.header, names, what)


def _with_time(table: Table, time: str | None) -> tuple[Table, str]:
    """The table and the name of its times. Dates and times of day in two columns become one."""
    if time is not None:
        (time,) = _known(table, [time], " for the time")
        return table, time
    ranks = {name: time_rank(name) for name in table.header}
    known = [rank for rank in ranks.values() if rank is not None]
    matches = [name for name, rank in ranks.items() if known and rank == min(known)]
    if not known:
        matches = [name for name in table.header if looks_like_times(table.column(name))]
    if len(matches) == 1:
        dates = [name for name in table.header if is_date(name) and name != matches[0]]
        if len(dates) == 1 and _are_parts(table, dates[0], matches[0]):
            table = with_dates(table, dates[0], matches[0])
        return table, matches[0]
    reason = "no column is called t or time"
    if matches:
        reason = "more than one column could be the time"
    raise DataError(
        f"{table.origin}: {reason}; say which with --time COLUMN, one of:"
        f" {', '.join(table.header)}."
    )


def _are_parts(table, date, clock):
    """Whether one column has dates, and another one times of day."""
    if table.column(clock).dtype.kind in "biufcM":
        return False
    return looks_like_times(table.column(date)) and looks_like_times(table.column(clock))


def _roles(table, time, group, inputs, errors) -> Roles:
    given = _known(table, inputs, " for an input")
    pairs = []
    for item in errors:
        owner, equals, column = item.partition("=")
        if not equals or resolve(item, table.header):
            owner = ""
            column = item
        (column,) = _known(table, [column], " for an error")
        pairs.append((owner, column))
    taken = [time, group, *given, *(column for _, column in pairs)]
    others = [name for name in table.header if name not in taken]
    for name in table.header:
        if taken.count(name) > 1:
            raise DataError(
                f"{table.origin}, column {name!r} cannot be two things at once: name it once among"
                " --time, --group, --input and --error."
            )
    return Roles(others, given, pairs)


def _check_present(table: Table, time: str, times: Times) -> None:
    missing = np.isnan(times.values)
    if missing.any():
        row = int(missing.argmax())
        raise DataError(
            f"{table.origin}, {table.place(row)}, column {time!r}: no time; fill it in or remove"
            " the line."
        )


def _dataset(table, times, groups: Groups, roles: Roles, states, keep_constant) -> Dataset:
    """The trajectories of the table, checked."""
    original = times.name
    if times.moments is not None:
        times, sentence = since_first(times, groups.codes, len(groups.names))
        table.notes.append(sentence)
    elif time_rank(original) != 0 and times.unit:
        table.notes.append(f"{original!r} is the time, in {times.unit}.")
    errors = _error_columns(table, states, roles.errors)
    inputs = None
    if roles.inputs:
        inputs = _matrix(table, roles.inputs)
    deviations = None
    known_errors: tuple[str | None, ...] = ()
    if roles.errors:
        deviations = _deviations(table, errors)
        known_errors = tuple(errors)
    rows = Rows(
        times.values,
        _matrix(table, states),
        inputs,
        deviations,
    )
    columns = Columns(original, tuple(states), tuple(roles.inputs), tuple(errors))
    trajectories, notes = make_trajectories(table, columns, rows, groups)
    table.notes += notes
    table.notes += _suggestions(states)
    data = Dataset(
        columns.states,
        times.name,
        trajectories,
        tuple(table.units.get(name, "") or split_unit(name)[1] for name in states),
        times.unit,
        columns.inputs,
        known_errors,
        tuple(table.notes),
    )
    check_columns(table.origin, data, keep_constant)
    return data


def _error_columns(table, states, pairs) -> list[str | None]:
    """For each state the column of its errors."""
    found: dict[str, str] = {}
    for owner, column in pairs:
        if owner:
            state = resolve(owner, states)
        else:
            state = error_owner(column, states)
        if state is None:
            raise DataError(
                f"{table.origin}: no state belongs to the error column {column!r} by its name; say"
                f" which, such as --error {states[0]}={column}."
            )
        if state in found:
            raise DataError(
                f"{table.origin}: {found[state]!r} and {column!r} are both errors of {state!r};"
                " leave one of them out with --drop."
            )
        found[state] = column
    return [found.get(state) for state in states]


def _matrix(table: Table, names: Sequence[str]) -> np.ndarray:
    """(N, n) the numbers in some columns, NaN where missing. Raises DataError at the first cell
    that is something else."""
    made = np.empty((table.rows, len(names)))
    for i, name in enumerate(names):
        column = table.column(name)
        found = numbers(column, table.decimal)
        if found.bad is not None:
            cell = shown(column.iloc[found.bad])
            hint = "correct it, or leave the cell empty if the value is missing"
            if cell.startswith(("'<", "'>")):
                hint = "a limit is no value: leave the cell empty, or give a value and --error"
            if found.is_text:
                hint = (
                    f"leave the column out with --drop {name}, or, if it names the trajectory of"
                    f" each line, take it with --group {name}"
                )
            raise DataError(
                f"{table.origin}, {table.place(found.bad)}, column {name!r}: {cell} is not a finite"
                f" number; {hint}."
            )
        made[:, i] = found.values
    return made


def _deviations(table, errors) -> np.ndarray:
    """(N, n) standard deviations, NaN for states without."""
    made = np.full((table.rows, len(errors)), np.nan)
    for i, column in enumerate(errors):
        if column is not None:
            made[:, i] = _matrix(table, [column])[:, 0]
    return made


def _suggestions(states) -> list[str]:
    """What states may be instead, by their names."""
    errors = [name for name in states if error_owner(name, [one for one in states if one != name])]
    inputs = [name for name in states if is_input(name) and name not in errors]
    found = []
    if errors:
        found.append(
            f"{_are_states(errors)}: if standard deviations, say --error {_for_option(errors)}."
        )
    if inputs and len(inputs) + len(errors) < len(states):
        found.append(
            f"{_are_states(inputs)}: if somebody sets what happens there, say --input"
            f" {_for_option(inputs)}."
        )
    return found


def _are_states(names) -> str:
    said = " and ".join(map(repr, names))
    if len(names) == 1:
        return f"{said} is taken for a state"
    return f"{said} are taken for states"


def _for_option(names) -> str:
    """Names as one argument of a shell."""
    said = ",".join(names)
    if any(mark in said for mark in " ()[]"):
        return f'"{said}"'
    return said
