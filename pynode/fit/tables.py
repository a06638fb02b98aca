"""Tables of measurements: runs of a system, with the conditions under which each was made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike

from torch import Tensor

from ..data import DataError, Dataset, read


@dataclass(frozen=True)
class Run:
    """One run. t: (T,) increasing times; values: (T, m), zero where nothing was measured; seen: (T,
    m), whether it was; conditions: (c,)."""

    name: str
    t: Tensor
    values: Tensor
    seen: Tensor
    conditions: Tensor


@dataclass(frozen=True)
class Table:
    """Runs with the same m columns of measurements and the same c conditions, in the units of the
    file, float64."""

    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    time: str
    runs: tuple[Run, ...]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names and numbers. A resumed estimation compares it with that of its table."""
        digest = hashlib.sha256(repr((self.columns, self.conditions, self.time)).encode())
        for run in self.runs:
            digest.update(run.name.encode())
            for part in (run.t, run.values, run.seen, run.conditions):
                digest.update(part.numpy().tobytes())
        return digest.hexdigest()


def read_table(
    path: str | PathLike[str],
    time: str | None = None,
    group: str | None = None,
    drop: Sequence[str] = (),
    conditions: Sequence[str] = (),
) -> Table:
    """The measurements in a CSV file, read as ``pynode train`` reads its observations.

    time, group, drop: as for ``pynode.data.read``. conditions: columns that do not change
    during a run, such as its temperature. Raises DataError for a file that cannot be used.
    """
    data = read(path, time, group, drop, keep_constant=True)
    return as_table(data, conditions)


def as_table(data: Dataset | Table, conditions: Sequence[str] = ()) -> Table:
    """Observations of ``pynode.data`` as a Table. Raises DataError for a condition that is no
    column, or that changes during a run."""
    if isinstance(data, Table):
        return data
    missing = [name for name in conditions if name not in data.columns]
    if missing:
        raise DataError(
            f"the table has no column {missing[0]!r} for a condition: its columns are"
            f" {', '.join(data.columns)}."
        )
    measured = [i for i, name in enumerate(data.columns) if name not in conditions]
    given = [data.columns.index(name) for name in conditions]
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
        runs.append(
            Run(run.name, run.t, run.y[:, measured], run.seen[:, measured], run.y[0, given])
        )
    columns = tuple(data.columns[i] for i in measured)
    return Table(columns, tuple(conditions), data.time, tuple(runs))
