"""Which rows belong to which trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .cells import numbers
from .dataset import DataError
from .names import is_group
from .table import Table

# A gap of so many typical steps between two blocks of rows separates trajectories.
GAP = 3.0


class Groups(NamedTuple):
    """names: of the trajectories, in the order of the rows. codes: (N,) the number of the
    trajectory of each row. columns: the columns that name trajectories, or say nothing more.
    notes: sentences."""

    names: list[str]
    codes: np.ndarray
    columns: list[str]
    notes: list[str]


def find_groups(
    table: Table, order: np.ndarray, group: str | None, others: Sequence[str]
) -> Groups:
    """The trajectories of a table.

    order: (N,) increases with the time. group: the column that names them, if the user says it.
    others: columns that may name them.
    A column of text is taken where each value is a block of increasing times, and where the time
    starts again or makes a leap between blocks. A column of whole numbers is taken where only it
    makes the times increase. Raises DataError for text that may name trajectories or not.
    """
    if table.parts:
        return _parts(table, group)
    if group is not None:
        return Groups(*_labelled(table, group), [group], [])
    texts = [name for name in others if numbers(table.column(name), table.decimal).is_text]
    labelled = {name: _labelled(table, name, gaps=True) for name in texts}
    same = [name for name, (labels, _) in labelled.items() if len(labels) == 1]
    notes = [
        f"Column {name!r} is {labelled[name][0][0]!r} throughout: it was left out." for name in same
    ]
    labelled = {name: found for name, found in labelled.items() if name not in same}
    if labelled:
        found = _by_text(table, order, labelled)
    else:
        found = _by_number(table, order, others)
    return found._replace(columns=found.columns + same, notes=notes + found.notes)


def _parts(table: Table, group: str | None) -> Groups:
    """Trajectories that are separate tables; a column can divide them further."""
    names = [name for name, _ in table.parts]
    codes = np.repeat(np.arange(len(names)), [rows for _, rows in table.parts])
    notes = [f"{len(names)} tables are trajectories: {_few(names)}."]
    if group is None:
        return Groups(names, codes, [], notes)
    inner, own = _labelled(table, group)
    pairs = codes * len(inner) + own
    distinct, first, codes = np.unique(pairs, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    ordered = distinct[np.argsort(first)]
    names = [f"{names[pair // len(inner)]}/{inner[pair % len(inner)]}" for pair in ordered]
    return Groups(names, rank[codes], [group], notes)


def _labelled(table: Table, name: str, gaps: bool = False) -> tuple[list[str], np.ndarray]:
    """The values of a column in the order of the rows, as text, and the number of each row's.
    gaps: whether a row may have none."""
    column = table.column(name)
    if column.dtype.kind == "f" and bool((column.dropna() % 1 == 0).all()):
        column = column.astype("Int64")
    codes, distinct = column.factorize()
    labels = [str(value).strip() for value in distinct]
    named = np.array([bool(label) for label in labels] + [False])
    missing = ~named[codes]
    if missing.any() and not gaps:
        row = int(missing.argmax())
        raise DataError(
            f"{table.origin}, {table.place(row)}, column {name!r}: the trajectory has no name; fill"
            " the cell in."
        )
    # 'a' and 'a ' are one name.
    merged = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    places = np.array([merged[label] for label in labels] + [-1])
    return list(merged), places[codes]


def _by_text(
    table: Table, order: np.ndarray, labelled: Mapping[str, tuple[list[str], np.ndarray]]
) -> Groups:
    """labelled: of each column of text its labels, and the number of each row's."""
    found = [
        (len(names), column, names, codes)
        for column, (names, codes) in labelled.items()
        if _are_blocks(codes, order) and _starts_again(codes, order)
    ]
    if not found:
        first = next(iter(labelled))
        cell = table.column(first).dropna().iloc[0]
        raise DataError(
            f"{table.origin}, column {first!r} holds text, such as {str(cell).strip()!r}: if it"
            f" names the trajectory of each line, say --group {first}; otherwise leave it out"
            f" with --drop {first}."
        )
    # Where several columns divide the rows, the finest one does, if the others follow from it.
    _, name, names, codes = max(found, key=lambda one: one[0])
    columns = [name]
    notes = [_taken(name, names)]
    for other, (_, coarser) in labelled.items():
        if other != name and _follows(coarser, codes):
            columns.append(other)
            notes.append(f"Column {other!r} is the same throughout each trajectory: left out.")
    return Groups(names, codes, columns, notes)


def _by_number(table: Table, order: np.ndarray, others: Sequence[str]) -> Groups:
    """One trajectory. If times repeat or fall, a column of whole numbers may name several."""
    single = Groups([""], np.zeros(table.rows, dtype=np.int64), [], [])
    steps = np.diff(order)
    if bool((steps > 0).all()):
        return single
    falls = bool((steps < 0).any())
    found = []
    for name in others:
        values = numbers(table.column(name), table.decimal).values
        if not np.isfinite(values).all() or (values % 1 != 0).any():
            continue
        names, codes = _labelled(table, name)
        if 1 < len(names) <= table.rows // 2 and _divides(name, codes, order, falls):
            found.append((name, names, codes))
    called = [one for one in found if is_group(one[0])]
    if len(called or found) != 1:
        return single
    name, names, codes = (called or found)[0]
    return Groups(names, codes, [name], [_taken(name, names)])


def _divides(name, codes, order, falls):
    """Whether a column of whole numbers makes the times increase. One with a telling name need not
    be in blocks, because some tables are sorted by time."""
    if is_group(name) and _increase(codes, order, strictly=True):
        return True
    return falls and _are_blocks(codes, order)


def _increase(codes, order, strictly):
    """Whether the times of each trajectory increase, and each has two."""
    rows = np.argsort(codes, kind="stable")
    steps = np.diff(order[rows])[np.diff(codes[rows]) == 0]
    enough = bool((np.bincount(codes) > 1).all())
    rises = steps >= 0
    if strictly:
        rises = steps > 0
    return enough and bool(rises.all())


def _are_blocks(codes, order):
    """Whether each value is one block of rows whose times do not fall."""
    if (codes < 0).any() or not _increase(codes, order, strictly=False):
        return False
    changes = int((np.diff(codes) != 0).sum())
    return changes == int(codes.max())


def _starts_again(codes, order):
    """Whether the time falls, stays or makes a leap where the next block begins."""
    steps = np.diff(order)
    between = np.diff(codes) != 0
    within = steps[~between & (steps > 0)]
    if not len(within):
        return False
    return bool(((steps[between] <= 0) | (steps[between] > GAP * np.median(within))).all())


def _follows(codes, finer):
    """Whether a finer column tells the value of a column."""
    pairs = np.unique(np.stack([finer, codes], 1), axis=0)
    return len(pairs) == len(np.unique(finer))


def _taken(name, names):
    return f"Column {name!r} names {len(names)} trajectories: {_few(names)}."


def _few(names):
    if len(names) > 4:
        return f"{names[0]}, {names[1]}, ... {names[-1]}"
    return ", ".join(names)
