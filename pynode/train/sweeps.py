"""Several runs at once, through joblib: by default in processes of this machine; within
``joblib.parallel_config`` on a Dask cluster, or on any backend that joblib knows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import torch

from ..data import Dataset
from .loop import Fit, fit
from .options import Options
from .run import KnownPart


def sweep(
    data: Dataset,
    choices: Sequence[Options],
    out: Sequence[str | PathLike[str] | None] | None = None,
    jobs: int | None = None,
    known: KnownPart | None = None,
    resume: bool = False,
    time_left: float = float("inf"),
) -> list[Fit]:
    """Train once with each of the options, and return the runs in this order.

    out: a folder for each. jobs: processes at the same time; None is one, or what
    ``joblib.parallel_config`` says. known, time_left: as for ``fit``. resume: continue the runs
    whose folders have a checkpoint. Each run has the result that it has alone. Raises ImportError
    without joblib if jobs is above one, and what ``fit`` raises.
    """
    folders = list(out or [None] * len(choices))
    tasks = [
        (data, options, folder, resume and _begun(folder), time_left, known)
        for options, folder in zip(choices, folders, strict=True)
    ]
    if find_spec("joblib") is None:
        if jobs not in (None, 1):
            raise ImportError("several jobs need joblib: pip install 'torch-stiff-ode[sweep]'")
        return [_one(*task) for task in tasks]
    from joblib import Parallel, delayed

    return Parallel(n_jobs=jobs)(delayed(_one)(*task) for task in tasks)


def _begun(folder) -> bool:
    return folder is not None and (Path(folder) / "checkpoint.pt").exists()


def _one(data, options, folder, resume, time_left, known) -> Fit:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return fit(data, options, folder, resume, time_left=time_left, known=known)
    finally:
        torch.set_num_threads(threads)
