"""``estimate``: the optimum of an estimation problem from many starts."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.files import save_text
from ..core.parameter_info import to_scale
from ..train.model import ModelError
from .packages import require
from .progress import Progress, SilentProgress
from .protocol import EstimationProblem, estimated
from .result import Estimate, Start

RUN = "run.json"
STARTS = "starts"
ENDING = "start-{:04d}.json"


def estimate(
    problem: EstimationProblem,
    starts: int = 20,
    *,
    optimiser: str = "fides",
    iterations: int = 500,
    seed: int = 0,
    guess: bool = True,
    processes: int | str = 1,
    out: str | Path | None = None,
    resume: bool = False,
    progress: SilentProgress | None = None,
) -> Estimate:
    """Minimise the objective from many starts, and return them all, the best one first.

    starts: how many. The first one is where the parameters stand now, unless guess is False; the
        others are a Latin hypercube between the bounds, in the scales of the parameters. They
        depend on the seed and on their number alone.
    optimiser: 'fides', 'lbfgs' or 'lm' (optimisers.py). iterations: the most of one start.
    processes: how many work side by side, by pypesto's engines, or 'mpi' for those that ``mpiexec
        -n N python -m mpi4py.futures`` started. The result does not depend on it. A script that
        starts processes needs the lines ``if __name__ == "__main__":``.
    out: a folder that keeps each start as soon as it has ended. resume: go on with the starts that
        the folder has.
    progress: a display (progress.py); by default nothing is shown.

    A KeyboardInterrupt ends the estimation; the result then has the starts that ended, and
    ``interrupted`` is True. Raises ModelError if the folder belongs to another problem or other
    options, KeyboardInterrupt if no start has ended, ImportError without the extra ``fit``.
    """
    require()
    from .optimisers import optimiser as made
    from .pypesto_objective import Stopped
    from .tasks import STOP, KeepingEngine, engine, folder
    from .together import SharedProblem, TogetherEngine

    if starts < 1:
        raise ValueError(f"the number of starts must be at least 1, not {starts!r}")
    method = made(optimiser, iterations)
    workers = engine(processes)
    begins = start_points(problem, starts, seed, guess)
    told = progress or SilentProgress()
    interrupted = False
    with folder(out) as place:
        _agree(place, problem, starts, optimiser, iterations, seed, guess, resume)
        results = place / STARTS
        results.mkdir(exist_ok=True)
        missing = [i for i in range(starts) if not (results / ENDING.format(i)).exists()]
        show = Progress(told, starts, _read_all(results, starts))
        keeping = KeepingEngine(
            workers,
            lambda task: results / ENDING.format(int(task.id)),
            plain_start,
            place / STOP,
            lambda path: show.start(_read(path)),
        )
        try:
            if missing:
                # fides takes any RuntimeError for a failed start. Here an error of the model shows.
                problem.gauss_newton(torch.from_numpy(begins[missing[0]]))
                solved = problem
                if processes == 1 and _side_by_side(problem, optimiser, len(missing)):
                    solved = SharedProblem(problem)
                    keeping.engine = TogetherEngine(solved)
                    keeping.plain = partial(_plain_with_seconds, solved)
                _minimise(solved, method, begins, missing, keeping, place / STOP)
        except Stopped:
            interrupted = True
        found = _read_all(results, starts)
    if not found:
        raise KeyboardInterrupt
    return Estimate(problem, found, interrupted)


def _side_by_side(problem: EstimationProblem, optimiser: str, starts: int) -> bool:
    """Whether the starts of one process evaluate their objectives as batches.

    Only with fides: the forward sensitivities of a row do not depend on the batch, to the last bit,
    so the result does not depend on the number of processes.
    """
    return starts > 1 and optimiser == "fides" and bool(getattr(problem, "batches_pay", False))


def start_points(problem: EstimationProblem, starts: int, seed: int, guess: bool) -> np.ndarray:
    """The starts, (starts, k): where the parameters stand, and a Latin hypercube between the
    bounds."""
    from pypesto.startpoint import latin_hypercube

    from .pypesto_objective import limits

    lower, upper = limits(problem)
    infos = estimated(problem)
    first = np.array([[to_scale(info.start, info.scale) for info in infos]])
    guess = guess and bool(np.isfinite(first).all())
    before = np.random.get_state()
    # pypesto draws from NumPy's global generator.
    np.random.seed(seed)
    try:
        drawn = latin_hypercube(max(1, starts - guess), lower, upper)
    finally:
        np.random.set_state(before)
    if not guess:
        return drawn
    first = np.clip(first, lower, upper)
    return np.concatenate((first, drawn))[:starts]


def plain_start(result: Any) -> dict[str, Any]:
    """An OptimizerResult of pypesto as a line of JSON."""
    theta = result.x
    if theta is None:
        theta = result.x0
    value = result.fval
    if value is None:
        value = math.inf
    return {
        "index": int(result.id),
        "begin": np.asarray(result.x0).tolist(),
        "theta": np.asarray(theta).tolist(),
        "objective": float(value),
        "seconds": float(result.time or 0.0),
        "evaluations": int(max(result.n_fval or 0, result.n_grad or 0, result.n_res or 0)),
        "message": str(result.message),
    }


def _plain_with_seconds(problem: Any, result: Any) -> dict[str, Any]:
    """The line of a start that runs beside others, in its thread: with its own seconds."""
    return {**plain_start(result), "seconds": problem.seconds()}


def _minimise(problem, method, begins, missing, engine, stop):
    from pypesto.optimize import OptimizeOptions, minimize

    from .pypesto_objective import pypesto_problem

    minimize(
        pypesto_problem(problem, stop=str(stop), guesses=begins[missing]),
        optimizer=method,
        n_starts=len(missing),
        ids=[str(i) for i in missing],
        engine=engine,
        progress_bar=False,
        # A solve that fails is no error here (pypesto_objective.py): errors are those of the model.
        options=OptimizeOptions(allow_failed_starts=False, report_hess=False, report_sres=False),
    )


def _agree(place, problem, starts, optimiser, iterations, seed, guess, resume):
    """Write what the folder belongs to, or compare it with what is there."""
    infos = estimated(problem)
    mine = {
        "parameters": [info.name for info in infos],
        "problem": str(getattr(problem, "fingerprint", "")),
        "starts": starts,
        "optimiser": optimiser,
        "iterations": iterations,
        "seed": seed,
        "guess": guess,
    }
    path = place / RUN
    if resume:
        try:
            theirs = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{place} has no estimation to resume: check the folder, or start without resume."
            ) from None
        except ValueError as error:
            raise ModelError(
                f"{path} cannot be read ({error}): start anew in another folder."
            ) from None
        for name, value in mine.items():
            if theirs.get(name) != value:
                if name == "problem":
                    raise ModelError(
                        f"{place} belongs to another table, model or setting: resume with those, or"
                        " start anew in another folder."
                    )
                raise ModelError(
                    f"{place} was begun with {name} {theirs.get(name)}, not {value}: resume with"
                    " the same, or start anew in another folder."
                )
        return
    for old in [*(place / STARTS).glob("*.json"), *(place / "profiles").glob("*.json")]:
        old.unlink()
    save_text(path, json.dumps(mine, indent=2))


def _read(path: Path) -> Start:
    plain = json.loads(path.read_text(encoding="utf-8"))
    for name in ("begin", "theta"):
        plain[name] = torch.tensor(plain[name], dtype=torch.float64)
    return Start(**plain)


def _read_all(results: Path, starts: int) -> list[Start]:
    paths = [results / ENDING.format(i) for i in range(starts)]
    return [_read(path) for path in paths if path.exists()]
