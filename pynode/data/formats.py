"""Files that are no text: Parquet, Excel, NetCDF, HDF5 and NumPy's archives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import of_columns, of_frame, of_xarray
from .cells import spellings
from .dataset import DataError
from .heads import BELOW, MOST_TITLES, UNITS_NOTE, about_titles, is_head, lines_below, with_units
from .names import time_rank
from .table import Table, joined, pandas

Reader = Callable[[Path], Table]
INSTALL = "pip install 'torch-stiff-ode[data]'"


def reader_of(suffix: str, head: bytes) -> Reader | None:
    """The reader for a file with this suffix and these first eight bytes; None for a text."""
    if suffix in BINARY:
        return BINARY[suffix]
    for magic, reader in MAGIC.items():
        if head.startswith(magic):
            return reader
    return None


def read_parquet(path: Path) -> Table:
    """The table in a Parquet or Feather file."""
    pd = pandas()

    def opened() -> Any:
        if path.suffix.lower() == ".feather":
            return pd.read_feather(path)
        return pd.read_parquet(path)

    return of_frame(str(path), _opened(path, "Parquet", "pyarrow", opened))


def read_excel(path: Path) -> Table:
    """The table in a workbook. Several sheets with the same columns are trajectories; otherwise the
    first one with cells is read."""
    pd = pandas()

    def opened() -> Any:
        with pd.ExcelFile(path) as book:
            return [(str(name), _sheet(path, book, name)) for name in book.sheet_names]

    tables = _opened(path, "an Excel workbook", "openpyxl", opened)
    tables = [(name, table) for name, table in tables if table is not None]
    if not tables:
        raise DataError(
            f"{path} is empty: it needs a row with the names of the columns, and one row a time."
        )
    timed = [(name, table) for name, table in tables if _has_times(table)]
    others = [name for name, table in tables if not _has_times(table)]
    if timed and others:
        tables = timed
        tables[0][1].notes.append(
            f"The sheets without a column of times were left out: {', '.join(others)}."
        )
    first = tables[0][1]
    if len(tables) == 1:
        return first
    if all(table.header == first.header for _, table in tables):
        return joined(str(path), tables)
    first.notes.append(
        f"Of {len(tables)} sheets, which differ in their columns, {tables[0][0]!r} was read."
    )
    return first


def _has_times(table: Table) -> bool:
    return any(time_rank(name) is not None for name in table.header)


def _sheet(path: Path, book: Any, name: Any) -> Table | None:
    """The table of a sheet; None if it has no rows below the names of the columns."""
    pd = pandas()
    top = pd.read_excel(
        book, name, header=None, nrows=MOST_TITLES + BELOW, dtype=object, keep_default_na=False
    )
    rows = [[_cell(cell) for cell in row] for row in top.itertuples(index=False)]
    place = 0
    for k in range(min(MOST_TITLES, len(rows))):
        if is_head(rows[k], [row for row in rows[k + 1 : k + 1 + BELOW] if any(row)], "."):
            place = k
            break
    skip = place + 1
    if len(rows) <= skip:
        return None
    header = rows[place]
    notes = about_titles([" ".join(filter(None, row)) for row in rows[:place] if any(row)])
    between = lines_below(header, rows[skip:], ".")
    if between:
        header = with_units(header, rows[skip])
        skip += between
        notes.append(UNITS_NOTE)
    body = pd.read_excel(
        book, name, header=None, skiprows=skip, na_values=spellings(), keep_default_na=False
    )
    body = body.reindex(columns=range(len(header)))
    table = of_frame(str(path), body)
    table.header = header
    table.notes = notes
    table.place = lambda row: f"row {row + skip + 1}"
    return table


def _cell(cell: Any) -> str:
    """The text of a cell in a sheet, '' for an empty one."""
    if cell is None or cell != cell:
        return ""
    return str(cell).strip()


def read_netcdf(path: Path) -> Table:
    """The table in a NetCDF file."""

    def opened() -> Any:
        import xarray

        with open(path, "rb") as file:
            classic = file.read(3) == b"CDF"
        engine: Any = "h5netcdf"
        if classic:
            engine = "scipy"
        with xarray.open_dataset(path, engine=engine, decode_timedelta=False) as data:
            return data.load()

    return of_xarray(str(path), _opened(path, "NetCDF", "xarray and h5netcdf", opened))


def read_hdf5(path: Path) -> Table:
    """The table in an HDF5 file: datasets are columns, groups are trajectories."""

    def opened() -> Any:
        import h5py

        with h5py.File(path, "r") as file:
            if any("pandas_type" in one.attrs for one in file.values()):
                raise DataError(
                    f"{path} was written by pandas in a form of its own: write it anew with"
                    " DataFrame.to_parquet or to_csv."
                )
            groups = {name: one for name, one in file.items() if isinstance(one, h5py.Group)}
            if not groups:
                return [("", _datasets(path, file))]
            return [(name, _datasets(path, one)) for name, one in groups.items()]

    tables = _opened(path, "HDF5", "h5py", opened)
    if len(tables) == 1:
        return tables[0][1]
    return joined(str(path), tables)


def read_numpy(path: Path) -> Table:
    """The table in an .npz archive of columns, or in an .npy file with a structured array."""

    def opened() -> Any:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            return {name: loaded[name] for name in loaded.files}
        if loaded.dtype.names:
            return {name: loaded[name] for name in loaded.dtype.names}
        raise DataError(
            f"{path} is an array whose columns have no names: give an .npz archive of named"
            " columns, or a structured array."
        )

    return of_columns(str(path), _opened(path, "NumPy's format", "numpy", opened))


def _datasets(path, group) -> Table:
    """The datasets of an HDF5 group as a table."""
    columns = {}
    units = {}
    for name, one in group.items():
        if not hasattr(one, "dtype") or one.ndim == 0:
            continue
        if one.dtype.kind == "O":
            columns[name] = one.asstr()[()]
        elif one.dtype.names:
            columns |= {field: one[field] for field in one.dtype.names}
        else:
            columns[name] = one[()]
        if "units" in one.attrs:
            unit = one.attrs["units"]
            if isinstance(unit, bytes):
                unit = unit.decode()
            units[name] = str(unit)
    if not columns:
        raise DataError(
            f"{path} has no dataset with rows in {group.name}: give one for the times and one for"
            " each state."
        )
    table = of_columns(str(path), columns)
    table.units = units
    return table


def _opened(path: Path, what: str, package: str, opened: Callable[[], Any]) -> Any:
    """What a reader finds. Raises DataError, in a sentence, for a missing package or a damaged
    file."""
    try:
        return opened()
    except DataError:
        raise
    except ImportError:
        raise DataError(f"{path}: reading {what} needs {package}: {INSTALL}.") from None
    # These readers raise many types for a damaged file.
    except Exception as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{path} cannot be read as {what} ({text[0].rstrip('.')}): check the file, or give CSV."
        ) from None


BINARY: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".feather": read_parquet,
    ".xlsx": read_excel,
    ".xlsm": read_excel,
    ".xls": read_excel,
    ".ods": read_excel,
    ".nc": read_netcdf,
    ".nc4": read_netcdf,
    ".cdf": read_netcdf,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".hdf": read_hdf5,
    ".npz": read_numpy,
    ".npy": read_numpy,
}
MAGIC: dict[bytes, Reader] = {
    b"PAR1": read_parquet,
    b"PK\x03\x04": read_excel,
    b"\x89HDF": read_hdf5,
    b"CDF": read_netcdf,
}
