"""Trajectories from the rows of a table, with the checks that training needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from .dataset import DataError, Dataset, Repeats, Trajectory
from .groups import Groups
from .names import is_error
from .table import Table


class Columns(NamedTuple):
    """Names. errors: for each state the column of its standard deviations, or None."""

    time: str
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    errors: tuple[str | None, ...]


class Rows(NamedTuple):
    """N rows of a table, NaN where missing. t: (N,). y: (N, n). u: (N, m) or None. sd: (N, n) or
    None."""

    t: np.ndarray
    y: np.ndarray
    u: np.ndarray | None
    sd: np.ndarray | None

    def of(self, rows: np.ndarray) -> Rows:
        """Some of the rows."""
        u = None
        if self.u is not None:
            u = self.u[rows]
        sd = None
        if self.sd is not None:
            sd = self.sd[rows]
        return Rows(self.t[rows], self.y[rows], u, sd)


def make_trajectories(
    table: Table, columns: Columns, rows: Rows, groups: Groups
) -> tuple[tuple[Trajectory, ...], list[str]]:
    """The trajectories, and notes on replicates and inputs. Raises DataError, with the place, for
    rows that make none."""
    _check_deviations(table, columns, rows, groups)
    if len(groups.names) == 1:
        parts = [np.arange(len(rows.t))]
    else:
        order = np.argsort(groups.codes, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(groups.codes))[:-1])
    made = []
    repeated = 0
    filled = 0
    for name, places in zip(groups.names, parts, strict=True):
        own = rows
        if len(groups.names) > 1:
            own = rows.of(places)
        _check_times(table, columns.time, name, own.t, places)
        run, gaps = _trajectory(table, columns, name, own, places)
        repeated += len(own.t) - len(run.t)
        filled += gaps
        made.append(run)
    notes = []
    if repeated:
        notes.append(
            f"{repeated} lines repeat the time of the line before: they are replicates, several"
            " observations at one time."
        )
    if filled:
        notes.append(f"{filled} missing values of inputs were filled with the value before.")
    return tuple(made), notes


def check_columns(origin: str, data: Dataset, keep_constant: bool) -> None:
    """Raise DataError for a state without a value after the start, or, unless keep_constant, with
    one value throughout."""
    for i, column in enumerate(data.columns):
        if not any(bool(run.seen[1:, i].any()) for run in data.trajectories):
            raise DataError(
                f"{origin}, column {column!r}: no value after the start; leave it out with --drop"
                f" {column}."
            )
        lines = [run.lines for run in data.trajectories]
        values = [line.y[:, i][line.seen[:, i]] for line in lines]
        low = min(float(value.min()) for value in values if len(value))
        high = max(float(value.max()) for value in values if len(value))
        if not keep_constant and low == high:
            hint = ""
            if is_error(column):
                hint = f", or say whose standard deviation it is with --error {column}"
            raise DataError(
                f"{origin}, column {column!r}: the value is {low:g} throughout, so there is no"
                f" range to scale by and nothing to learn; leave it out with --drop {column}, or"
                f" keep it with --keep-constant{hint}."
            )


def _of_trajectory(name):
    """Words for a message; '' for the only trajectory."""
    if not name:
        return ""
    return f" of trajectory {name!r}"


def _check_deviations(table, columns, rows, groups):
    """Where a state has standard deviations, a value after the start needs a positive one."""
    if rows.sd is None:
        return
    starts = np.full(len(groups.names), np.inf)
    np.minimum.at(starts, groups.codes, rows.t)
    later = rows.t > starts[groups.codes]
    for i, column in enumerate(columns.errors):
        if column is None:
            continue
        sd = rows.sd[:, i]
        bad = ~(sd > 0) & ~np.isnan(rows.y[:, i]) & later
        if bad.any():
            row = int(bad.argmax())
            what = f"{sd[row]:g} is no standard deviation"
            if np.isnan(sd[row]):
                what = "the standard deviation is missing"
            raise DataError(
                f"{table.origin}, {table.place(row)}, column {column!r}: {what}; give a positive"
                f" number where {columns.states[i]!r} has a value."
            )


def _check_times(table, time, name, t, places):
    """Times increase, apart from replicates, and are at least two."""
    of = _of_trajectory(name)
    if t[0] == t[-1] and bool((t == t[0]).all()):
        raise DataError(
            f"{table.origin}, {table.place(int(places[0]))}: the only line{of}; a trajectory needs"
            " a start and an observation."
        )
    falls = np.diff(t) < 0
    if falls.any():
        k = int(falls.argmax())
        hint = "sort the lines by time"
        if not name:
            hint += ", or name the column of the trajectories with --group"
        raise DataError(
            f"{table.origin}, {table.place(int(places[k + 1]))}, column {time!r}: time"
            f" {t[k + 1]:g}{of} comes after {t[k]:g}; {hint}."
        )


def _trajectory(table, columns, name, own: Rows, places) -> tuple[Trajectory, int]:
    """A Trajectory, and how many values of inputs were missing."""
    fresh = np.diff(own.t, prepend=-np.inf) > 0
    y = torch.from_numpy(own.y)
    seen = ~y.isnan()
    sd = None
    if own.sd is not None:
        sd = torch.from_numpy(own.sd).masked_fill(~seen, torch.nan)
    later = np.flatnonzero(fresh[1:])  # not empty: there are two times
    _check_start(table, columns, name, seen[: int(later[0]) + 1], places)
    u = None
    gaps = 0
    if bool(fresh.all()):
        t = torch.from_numpy(own.t.copy())  # not the memory of a DataFrame
        if own.u is not None:
            u, gaps = _inputs(table, columns, own.u, places)
        return Trajectory(name, t, y.nan_to_num_(0.0), seen, u, sd), gaps
    row = torch.from_numpy(np.cumsum(fresh) - 1)
    t = torch.from_numpy(own.t[fresh])
    repeats = Repeats(row, y.nan_to_num(0.0), seen, sd)
    mean, mean_sd = _means(repeats, len(t))
    if own.u is not None:
        level = torch.from_numpy(own.u)
        known = ~level.isnan()
        level, _ = _means(Repeats(row, level.nan_to_num(0.0), known), len(t))
        level[~_any(known, row, len(t))] = torch.nan
        u, gaps = _inputs(table, columns, level.numpy(), places)
    return Trajectory(name, t, mean, _any(seen, row, len(t)), u, mean_sd, repeats), gaps


def _any(flags, row, count):
    """(T, n) whether a flag of the lines (R, n) of each time is set."""
    found = torch.zeros(count, flags.shape[1], dtype=torch.int64)
    return found.index_add_(0, row, flags.to(torch.int64)) > 0


def _check_start(table, columns, name, first, places):
    """first: (K, n), which states are seen in the lines of the first time."""
    of = _of_trajectory(name)
    for column, there in zip(columns.states, first.any(0).tolist(), strict=True):
        if not there:
            raise DataError(
                f"{table.origin}, {table.place(int(places[0]))}, column {column!r}: the first"
                f" line{of} is the initial state, with no gaps; fill the value in, remove the lines"
                " before the first complete one, or leave the column out with --drop"
                f" {column}."
            )


def _means(repeats: Repeats, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(T, n) means over the lines of each time, zero where nothing is seen, and their standard
    deviations. Values with standard deviations have the weight 1 / sd^2, which is best for normal
    errors."""
    weight = repeats.seen.to(torch.float64)
    if repeats.sd is not None:
        known = repeats.sd > 0
        weight = torch.where(known & repeats.seen, 1 / repeats.sd.square(), weight)
    zero = torch.zeros(count, repeats.y.shape[1], dtype=torch.float64)
    total = zero.index_add(0, repeats.row, weight)
    mean = zero.index_add(0, repeats.row, weight * repeats.y) / total
    mean = mean.nan_to_num(0.0)
    if repeats.sd is None:
        return mean, None
    some = zero.index_add(0, repeats.row, known.to(torch.float64)) > 0
    return mean, torch.where(some, total.rsqrt(), torch.nan)


def _inputs(table, columns, u, places) -> tuple[torch.Tensor, int]:
    """(T, m) inputs, each gap filled with the value before it, or with the first one."""
    u = u.copy()
    missing = np.isnan(u)
    for j, name in enumerate(columns.inputs):
        known = np.flatnonzero(~missing[:, j])
        if not len(known):
            raise DataError(
                f"{table.origin}, {table.place(int(places[0]))}, column {name!r}: the input has no"
                " value in this trajectory; fill it in, or leave it out with --drop"
                f" {name}."
            )
        last = np.searchsorted(known, np.arange(len(u)), side="right") - 1
        u[:, j] = u[known[np.maximum(last, 0)], j]
    return torch.from_numpy(u), int(missing.sum())
