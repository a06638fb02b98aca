"""The part of a Solution that shows it to people and to other libraries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..in_kind import as_arrays
from ..layout import joined
from ..suggestions import suggestion
from ..unit_names import unit_of

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

    from ..layout import Layout
    from ..stats import Stats


class Arrays(NamedTuple):
    """Times and states as NumPy arrays. y has the structure of y0."""

    t: np.ndarray
    y: Any


class Viewable:
    """Solution and BatchSolution as arrays, tables, files and pictures.

    t: (T,) times, or (T, B). y: states with leading dimensions T, or (T, B).
    """

    t: Any
    y: Any
    events: Any
    stats: Stats
    method: str
    backend: str
    _layout: Layout

    @property
    def names(self) -> tuple[str, ...]:
        """(n,) names of the components of the state: those of the problem, of f or of the keys of
        y0, otherwise 'y[0]', 'y[1]', ..."""
        return self._layout.names

    @property
    def units(self) -> dict[str, str]:
        """{name of a component: its unit} where the name says one, as "A [mM]" does, or f has the
        attribute ``state_units``."""
        given = self._layout.units or ("",) * len(self.names)
        found = {name: unit or unit_of(name) for name, unit in zip(self.names, given, strict=True)}
        return {name: unit for name, unit in found.items() if unit}

    @property
    def time_unit(self) -> str:
        """The unit of the time, such as 'h', from the problem or from f; '' if unknown."""
        return self._layout.time_unit

    def __getitem__(self, name: str) -> Any:
        """A component by its name, or a part of a dict by its key, at all times: (T, ...), or
        (T, B, ...) for a batch. Raise KeyError for other names."""
        if isinstance(self.y, dict) and name in self.y:
            return self.y[name]
        if name in self.names:
            return joined(self.y, np.ndim(self.t))[..., self.names.index(name)]
        raise KeyError(f"there is no component {name!r}: {suggestion(str(name), self.names)}")

    def with_arrays(self) -> Any:
        """The same object, whose times, states and events are NumPy arrays from now on."""
        self.t, self.y = self.to_numpy()
        if isinstance(self.events, list):
            self.events = [record.with_arrays() for record in self.events]
        else:
            self.events = self.events.with_arrays()
        return self

    def to_numpy(self) -> Arrays:
        """(t, y) as NumPy arrays, without gradients."""
        return Arrays(as_arrays(self.t), as_arrays(self.y))

    def to_pandas(self) -> pd.DataFrame:
        """A pandas.DataFrame: a line for each time, a column for each component. The index is t,
        and (row, t) for a batch. Raise ImportError without pandas."""
        from .tables import frame

        return frame(self)

    def to_xarray(self) -> xr.Dataset:
        """An xarray.Dataset: a variable for each named component or part of a dict, otherwise one
        variable y, over t (and row for a batch). Raise ImportError without xarray."""
        from .tables import dataset

        return dataset(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the solution to a file and return its path. The ending says how: .npz for
        ``pynode.load``; .csv, .parquet, .xlsx or .nc for other programs. A file has no gradient and
        no dense output. Raise ValueError for other endings."""
        from .save import save

        return save(self, path)

    def plot(
        self,
        names: Sequence[str] | None = None,
        *,
        x: str = "t",
        xscale: str = "auto",
        yscale: str = "linear",
        panels: bool = False,
        events: bool = True,
        ax: Axes | Sequence[Axes] | None = None,
        **style: Any,
    ) -> Any:
        """Draw components over the time, or over another component (a phase plane).

        names: which components; by default all, at most 12. x: 't', or the name of a component.
        xscale, yscale: 'linear', 'log' or 'symlog'; 'auto' takes 'log' for times whose gaps grow a
        thousandfold. panels: whether each component gets axes of its own. events: whether events
        are marked. ax: matplotlib Axes to draw on, with panels one for each component. style: for
        matplotlib's ``plot``.

        With dense output the lines are smooth. A cross at the end of a line says that the solve
        failed there. The axes have units where names say them ("A [mM]"), and where the problem
        knows the unit of its time. Returns the Axes, with panels a list of them. Raises
        ImportError without matplotlib, KeyError for unknown names.
        """
        from .picture import plot

        return plot(self, names, x, (xscale, yscale), panels, events, ax, style)

    def _repr_html_(self) -> str:
        """What a notebook shows: how the solve ended, its cost, and a small picture."""
        from .page import page

        return page(self)
