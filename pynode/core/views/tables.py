"""Solutions as objects of pandas and xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..layout import joined

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from .viewable import Viewable


def frame(solution: Viewable) -> pd.DataFrame:
    """A line for each time (and row), a column for each component. Raise ImportError without
    pandas."""
    pandas = _library("pandas", "to_pandas")
    t, y = components(solution)
    names = list(solution.names)
    if t.ndim == 1:
        return pandas.DataFrame(y, index=pandas.Index(t, name="t"), columns=names)
    rows = np.broadcast_to(np.arange(t.shape[1]), t.shape)
    # One row after the other, without the times that a row did not reach.
    order = [part.swapaxes(0, 1).reshape(-1, *part.shape[2:]) for part in (rows, t, y)]
    reached = ~np.isnan(order[2]).all(-1)
    index = pandas.MultiIndex.from_arrays(
        [order[0][reached], order[1][reached]], names=["row", "t"]
    )
    return pandas.DataFrame(order[2][reached], index=index, columns=names)


def dataset(solution: Viewable) -> xr.Dataset:
    """Variables over the time (and the row). Raise ImportError without xarray."""
    xarray = _library("xarray", "to_xarray")
    t = solution.to_numpy().t
    first: tuple[str, ...] = ("t",)
    coordinates: dict[str, Any] = {"t": t}
    if t.ndim == 2:
        first = ("t", "row")
        coordinates = {"t": t[:, 0], "row": np.arange(t.shape[1])}
    if t.ndim == 2 and not np.array_equal(t, np.broadcast_to(t[:, :1], t.shape)):
        first = ("output", "row")
        coordinates = {"t": (first, t), "row": coordinates["row"]}
    variables = {
        name: ((*first, *(f"{name}_{i}" for i in range(values.ndim - len(first)))), values)
        for name, values in _variables(solution)
    }
    made = xarray.Dataset(variables, coordinates, _about(solution))
    # The attribute that xarray puts on the axes of its plots.
    if solution.time_unit:
        made["t"].attrs["units"] = solution.time_unit
    for name, unit in solution.units.items():
        if name in variables:
            made[name].attrs["units"] = unit
    return made


def components(solution: Viewable) -> tuple[np.ndarray, np.ndarray]:
    """The times, and the states as one array whose last dimension has the n components."""
    arrays = solution.to_numpy()
    return arrays.t, joined(arrays.y, arrays.t.ndim)


def _variables(solution):
    """(name, array) of each variable of a Dataset."""
    arrays = solution.to_numpy()
    if isinstance(arrays.y, dict) and all(isinstance(x, np.ndarray) for x in arrays.y.values()):
        return [(str(key), values) for key, values in arrays.y.items()]
    _, y = components(solution)
    if solution._layout.has_names or not isinstance(arrays.y, np.ndarray):
        return list(zip(solution.names, np.moveaxis(y, -1, 0), strict=True))
    return [("y", arrays.y)]


def _about(solution: Any) -> dict[str, Any]:
    """What a Dataset says of the solve."""
    counts = {name: value for name, value in solution.stats.as_dict().items() if value}
    return {
        "method": solution.method,
        "engine": solution.backend,
        "message": solution.message,
        **counts,
    }


def _library(name, asked):
    """The library. ImportError with the remedy if it is not installed."""
    try:
        return __import__(name)
    except ImportError:
        raise ImportError(
            f"{asked} needs {name}: pip install 'torch-stiff-ode[data]', or use to_numpy()"
        ) from None
