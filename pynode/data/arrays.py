"""Tables from objects of Python: DataFrames, xarray, and dicts of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .dataset import DataError
from .names import is_group, time_rank
from .table import Table, joined, pandas, row_place


def is_xarray(source: Any) -> bool:
    """Whether an object is a Dataset or a DataArray of xarray, which is not imported for this."""
    return type(source).__module__.split(".")[0] == "xarray"


def of_frame(origin: str, frame: Any) -> Table:
    """The table of a pandas DataFrame. An index with a name is a column, and an index of times is
    one, too."""
    pd = pandas()
    index = frame.index
    if any(name is not None for name in index.names):
        frame = frame.reset_index()
    elif isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) or index.dtype.kind == "f":
        known = [time_rank(str(name)) for name in frame.columns]
        if all(rank is None for rank in known):
            frame = frame.rename_axis("time").reset_index()
    header = [_joined_name(name) for name in frame.columns]
    columns = [frame.iloc[:, i].reset_index(drop=True) for i in range(len(header))]
    return Table(origin, header, columns, row_place)


def of_columns(
    origin: str, columns: Mapping[Any, Any], of_object: Callable[[Any], Table] | None = None
) -> Table:
    """The table of a dict of columns, (N,) each; (N, k) makes k columns. With of_object, a dict of
    tables is one of trajectories. Raises DataError for lengths that differ."""
    pd = pandas()
    if of_object is not None and columns:
        if all(_is_table(value) for value in columns.values()):
            return joined(origin, [(str(name), of_object(one)) for name, one in columns.items()])
    header: list[str] = []
    series = []
    for name, values in columns.items():
        if hasattr(values, "detach"):
            values = values.detach().cpu().numpy()
        if isinstance(values, pd.Series):
            values = values.array
        array = values
        if not hasattr(values, "dtype"):
            array = np.asarray(values)
        if array.ndim == 1:
            header.append(str(name))
            series.append(pd.Series(array))
        elif array.ndim == 2:
            header += [f"{name}[{k}]" for k in range(array.shape[1])]
            series += [pd.Series(array[:, k]) for k in range(array.shape[1])]
        else:
            raise DataError(
                f"{origin}, column {name!r} has the shape {array.shape}: a column is (N,), or"
                " (N, k) for k columns."
            )
    lengths = {name: len(one) for name, one in zip(header, series, strict=True)}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"{origin}: the columns have different lengths, {said}; give a value for each time, NaN"
            " where it is missing."
        )
    return Table(origin, header, series, row_place)


def of_xarray(origin: str, data: Any) -> Table:
    """The table of a Dataset or DataArray. One dimension is the time. A dimension that is called
    like a group, such as run, holds trajectories. Another one makes a column for each label.
    Attributes 'units' are kept."""
    pd = pandas()
    if not hasattr(data, "data_vars"):
        data = data.to_dataset(name=data.name or "y")
    time = _time_dimension(origin, data)
    used = {name: one for name, one in data.data_vars.items() if time in one.dims}
    dims = dict.fromkeys(dim for one in used.values() for dim in one.dims if dim != time)
    groups = [dim for dim in dims if is_group(str(dim))]
    units = {
        str(name): str(data[name].attrs["units"])
        for name in (*used, *data.coords)
        if "units" in data[name].attrs
    }
    if len(groups) > 1:
        raise DataError(
            f"{origin} has trajectories along {' and '.join(map(str, groups))}: stack these"
            " dimensions into one."
        )
    if groups:
        labels = _labels(data, groups[0])
        parts = [
            (labels[k], _of_part(origin, pd, data.isel({groups[0]: k}), time, used, units))
            for k in range(len(labels))
        ]
        if len(parts) > 1:
            return joined(origin, parts)
        return parts[0][1]
    return _of_part(origin, pd, data, time, used, units)


def _of_part(origin, pd, data, time, names, units) -> Table:
    columns: dict[str, Any] = {}
    if time in data.coords:
        columns[str(time)] = pd.Series(data[time].to_numpy())
    else:
        columns[str(time)] = pd.Series(np.arange(data.sizes[time], dtype=np.float64))
    own = dict(units)
    for name in names:
        one = data[name].transpose(time, ...)
        if one.ndim == 1:
            columns[str(name)] = pd.Series(one.to_numpy())
            continue
        labels = [""]
        for dim in one.dims[1:]:
            labels = [
                f"{label}, {value}".lstrip(", ") for label in labels for value in _labels(data, dim)
            ]
        flat = one.to_numpy().reshape(len(one), -1)
        for k, label in enumerate(labels):
            columns[f"{name}({label})"] = pd.Series(flat[:, k])
            own[f"{name}({label})"] = units.get(str(name), "")
    table = Table(origin, list(columns), list(columns.values()), row_place, units=own)
    return _without_empty_rows(table, pd)


def _without_empty_rows(table, pd) -> Table:
    """Trajectories of different lengths fill an array up with NaN."""
    values = [column for column in table.columns[1:] if column.dtype.kind == "f"]
    if not values:
        return table
    empty = np.logical_and.reduce([column.isna().to_numpy() for column in values])
    if empty.any():
        table.columns = [column[~empty].reset_index(drop=True) for column in table.columns]
    return table


def _time_dimension(origin, data):
    """The dimension of the times."""
    dims = list(data.sizes)
    ranks = {dim: time_rank(str(dim)) for dim in dims}
    known = [rank for rank in ranks.values() if rank is not None]
    found = [dim for dim in dims if known and ranks[dim] == min(known)]
    if not known:
        dated = [dim for dim in dims if dim in data.coords and data[dim].dtype.kind in "mM"]
        found = dated or dims
    if len(found) != 1:
        raise DataError(
            f"{origin}: none of the dimensions {', '.join(map(str, dims))} is plainly the time;"
            " rename it to time."
        )
    return found[0]


def _labels(data, dim):
    if dim in data.coords:
        return [str(value) for value in data[dim].to_numpy()]
    return [str(k) for k in range(data.sizes[dim])]


def _is_table(value):
    """Whether a value in a dict is a table of its own."""
    return isinstance(value, Mapping) or hasattr(value, "columns") or is_xarray(value)


def _joined_name(name):
    """The name of a column; several levels are divided by blanks."""
    if isinstance(name, tuple):
        return " ".join(str(part) for part in name if str(part)).strip()
    return str(name).strip()
