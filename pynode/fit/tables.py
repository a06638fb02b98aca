"""Tables of measurements: runs of a system, with the conditions under which each was made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from ..data import DataError, Dataset, Repeats, read
from ..data.columns import known_columns


@dataclass(frozen=True)
class Run:
    """One run.

    t: (T,) increasing times. values: (T, m), zero where nothing was measured; the mean, where it
    was several times. seen: (T, m), whether it was. conditions: (c,). lines: the single
    measurements.
    """

    name: str
    t: Tensor
    values: Tensor
    seen: Tensor
    conditions: Tensor
    lines: Repeats


@dataclass(frozen=True)
class Table:
    """Runs with the same m columns of measurements and the same c conditions, in the units of the
    file, float64.

    columns: names without units, if no two are then the same. errors: for each of them the column
    of its standard deviations, or None. labels: the columns with their units, for pictures.
    """

    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    time: str
    runs: tuple[Run, ...]
    errors: tuple[str | None, ...]
    labels: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names and numbers. A resumed estimation compares it with that of its table."""
        digest = hashlib.sha256(repr((self.columns, self.conditions, self.time)).encode())
        for run in self.runs:
            digest.update(run.name.encode())
            for part in (run.t, run.values, run.seen, run.conditions):
                digest.update(part.numpy().tobytes())
            if len(run.lines.row) > len(run.t) or run.lines.sd is not None:
                for line in (run.lines.row, run.lines.y, run.lines.seen, run.lines.sd):
                    if line is not None:
                        digest.update(line.numpy().tobytes())
        return digest.hexdigest()


def read_table(
    source: Any,
    time: str | None = None,
    group: str | None = None,
    drop: Sequence[str] = (),
    conditions: Sequence[str] = (),
    inputs: Sequence[str] = (),
    errors: Sequence[str] = (),
) -> Table:
    """The measurements in a file or a table, as ``pynode train`` reads its observations.

    time, group, drop, errors: as for ``pynode.data.read``. conditions: columns that do not change
    during a run, such as its temperature. Raises DataError for a table that cannot be used, and for
    inputs, which a model gets otherwise.
    """
    if inputs:
        raise DataError(
            f"a model that is fitted takes no input columns, and {inputs[0]!r} is one: write u(t)"
            f" into the model, as pynode.models.InputTable, and leave the column out with --drop"
            f" {inputs[0]}."
        )
    return as_table(read(source, time, group, drop, True, errors=errors), conditions)


def as_table(data: Dataset | Table, conditions: Sequence[str] = ()) -> Table:
    """Observations of ``pynode.data`` as a Table. Raises DataError for a condition that is no
    column, or that changes during a run."""
    if isinstance(data, Table):
        return data
    named = known_columns("the table", data.columns, conditions, " for a condition")
    given = [data.columns.index(column) for column in named]
    measured = [i for i in range(len(data.columns)) if i not in given]
    if not measured:
        raise DataError("the table has conditions alone: add a column of measurements.")
    runs = []
    for run in data.trajectories:
        for i in given:
            known = run.y[:, i][run.seen[:, i]]
            if float(known.max()) != float(known.min()):
                raise DataError(
                    f"column {data.columns[i]!r} changes during run {run.name!r}, but a condition"
                    " is constant in each run: name the column that separates the runs (group,"
                    " --group), or leave it out of the conditions."
                )
        lines = run.lines
        sd = None
        if lines.sd is not None:
            sd = lines.sd[:, measured]
        own = Repeats(lines.row, lines.y[:, measured], lines.seen[:, measured], sd)
        runs.append(
            Run(run.name, run.t, run.y[:, measured], run.seen[:, measured], run.y[0, given], own)
        )
    names = data.names
    if len(set(names)) < len(names):
        names = data.columns
    errors = data.errors or (None,) * len(names)
    return Table(
        tuple(names[i] for i in measured),
        tuple(conditions),
        data.time,
        tuple(runs),
        tuple(errors[i] for i in measured),
        tuple(data.columns[i] for i in measured),
    )
