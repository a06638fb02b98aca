"""Solutions in files: .npz to load them again, tables for other programs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..events import EventRecord, RowRecords
from ..files import save_atomically
from ..layout import Layout
from ..row_statuses import RowStatuses, restored
from ..stats import Stats
from ..status import Status
from .tables import components

if TYPE_CHECKING:
    from ..solution import BatchSolution, Solution
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


def load(path: str | os.PathLike[str]) -> Solution | BatchSolution:
    """Read a solution from a .npz file of ``Solution.save``: its times, states, events and counts,
    without gradient and dense output. The file is data: nothing in it is executed. Raise ValueError
    for other files."""
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise ValueError(
            f"load reads .npz files of Solution.save, not {path.name}: read a table with pandas or"
            " xarray"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a solution that pynode saved: {error}") from None
    if about["format"] != FORMAT:
        raise ValueError(
            f"{path} has the format {about['format']}, and this version of pynode reads {FORMAT}:"
            " load it with the version that saved it"
        )
    if about["batched"]:
        return _batch(arrays, about)
    return _single(arrays, about)


def _single(arrays, about):
    from ..solution import Solution

    states = torch.from_numpy(arrays["y"])
    layout = Layout.described(about["structure"], about["shapes"], states.dtype, about["names"])
    return Solution(
        t=torch.from_numpy(arrays["t"]),
        y=layout.unravel(states),
        status=Status[about["status"]],
        stats=Stats(**about["stats"]),
        layout=layout,
        segments=[],
        events=_events(arrays, about["events"], layout, ""),
        reached=about["reached"],
        **about["texts"],
    )


def _batch(arrays, about):
    from ..solution import BatchSolution

    states = torch.from_numpy(arrays["y"])
    layout = Layout.described(about["structure"], about["shapes"], states.dtype, about["names"])
    rows = {
        int(row): _events(arrays, records, layout, f"{row}_")
        for row, records in about["events"].items()
    }
    return BatchSolution(
        t=torch.from_numpy(arrays["t"]),
        y=layout.unravel(states),
        statuses=restored(about["statuses"], arrays["statuses"]),
        reached=arrays["reached"],
        stats=Stats(**about["stats"]),
        events=RowRecords(states.shape[1], rows),
        layout=layout,
        method=about["texts"]["method"],
        backend=about["texts"]["backend"],
    )


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


def _events(arrays, plain, layout, prefix):
    """The EventRecords of ``_described``."""
    records = []
    for number, values in enumerate(plain):
        states = {
            part: layout.unravel(torch.from_numpy(arrays[f"event_{prefix}{number}_{part}"]))
            for part in ("y", "after")
        }
        time = torch.tensor(values.pop("t"), dtype=torch.float64)
        records.append(EventRecord(t=time, **states, **values))
    return records


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
