"""Writes solutions to files: .npz to load them again, tables for other programs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..files import save_atomically
from ..row_statuses import RowStatuses
from ..status import Status
from .tables import components

if TYPE_CHECKING:
    from .viewable import Viewable

# The number of the layout of .npz files.
FORMAT = 1
TEXTS = ("message", "method", "backend", "choice", "adjoint", "adjoint_choice", "hooks")


def save(solution: Viewable, path: str | os.PathLike[str]) -> Path:
    """Write a solution. The ending of the path says how. Raise ValueError for unknown endings."""
    path = Path(path)
    writers: dict[str, Callable[[Any], bytes]] = {
        ".npz": _npz,
        ".csv": _csv,
        ".parquet": _parquet,
        ".xlsx": _excel,
        ".nc": _netcdf,
    }
    if path.suffix.lower() not in writers:
        raise ValueError(
            f"save does not know the ending {path.suffix!r} of {path.name}: take .npz for"
            " pynode.load, or one of .csv, .parquet, .xlsx and .nc for other programs"
        )
    content = writers[path.suffix.lower()](solution)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_atomically(path, content)


def _npz(solution):
    """All that can be written without a graph: arrays, and one text of JSON."""
    t, y = components(solution)
    layout = solution._layout
    arrays = {"t": t, "y": y}
    about = {
        "format": FORMAT,
        "batched": t.ndim == 2,
        "structure": layout.structure,
        "shapes": [list(shape) for shape in layout.shapes],
        "names": None,
        "units": list(layout.units),
        "time_unit": solution.time_unit,
        "stats": solution.stats.as_dict(),
        "texts": {name: getattr(solution, name) for name in TEXTS if hasattr(solution, name)},
    }
    if layout.has_names:
        about["names"] = list(layout.names)
    if t.ndim == 2:
        statuses: RowStatuses = solution.statuses
        about["statuses"] = [status.name for status in Status]
        arrays["statuses"] = statuses.numbers
        arrays["reached"] = np.asarray(solution.reached)
        about["events"] = {
            row: _described(records, arrays, layout, f"{row}_")
            for row, records in solution.events.lists.items()
        }
    else:
        about["status"] = solution.status.name
        about["reached"] = solution.reached
        about["events"] = _described(solution.events, arrays, layout, "")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
    return buffer.getvalue()


def _described(records, arrays, layout, prefix):
    """The plain values of EventRecords. Their states go into the arrays."""
    plain = []
    for number, record in enumerate(records):
        for part in ("y", "after"):
            state = torch.utils._pytree.tree_map(torch.as_tensor, getattr(record, part))
            arrays[f"event_{prefix}{number}_{part}"] = layout.ravel(state).detach().cpu().numpy()
        plain.append(
            {
                "t": float(torch.as_tensor(record.t).detach()),
                "event": record.event,
                "index": record.index,
                "name": record.name,
            }
        )
    return plain


def _csv(solution):
    return solution.to_pandas().to_csv(lineterminator="\n").encode()


def _parquet(solution):
    buffer = io.BytesIO()
    solution.to_pandas().reset_index().to_parquet(buffer, index=False)
    return buffer.getvalue()


def _excel(solution):
    buffer = io.BytesIO()
    solution.to_pandas().reset_index().to_excel(buffer, index=False)
    return buffer.getvalue()


def _netcdf(solution):
    return bytes(solution.to_xarray().to_netcdf(engine="h5netcdf"))
