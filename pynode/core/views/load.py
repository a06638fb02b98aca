"""Reads solutions from files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch

from ..events import EventRecord, RowRecords
from ..layout import Layout
from ..row_statuses import restored
from ..solution import BatchSolution, Solution
from ..stats import Stats
from ..status import Status
from .save import FORMAT


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
    states = torch.from_numpy(arrays["y"])
    layout = _layout(about, states.dtype)
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
    states = torch.from_numpy(arrays["y"])
    layout = _layout(about, states.dtype)
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


def _layout(about, dtype):
    layout = Layout.described(about["structure"], about["shapes"], dtype, about["names"])
    layout.units = tuple(about.get("units", ()))
    layout.time_unit = about.get("time_unit", "")
    return layout


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
