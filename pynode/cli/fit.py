"""The command ``pynode fit``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from .. import models
from ..core.formatting import counted
from ..core.parameter_info import Prior
from ..data import DataError
from ..fit import (
    Estimate,
    EstimationProblem,
    TableProblem,
    display,
    estimate,
    profile,
    read_table,
    sample,
    save_pictures,
    save_results,
)
from ..fit.fisher import quantile
from ..fit.packages import require
from ..train import ModelError
from . import pairs
from .call import Call
from .commands.fit import Fit
from .config import save_config
from .output import NO_PLOTS, failed, files_written, print_json, sentence
from .targets import load_object


def run(command: Fit, call: Call) -> int:
    """Estimate, print and write; returns the exit code. Raises DataError, ModelError, OSError, and
    ValueError for options that mean nothing."""
    torch.set_num_threads(command.threads.threads)
    quantile(command.uncertainty.level)  # raises for a level that is none
    out = command.out
    anew = not (command.earlier.resume or command.earlier.overwrite)
    if anew and (out / "run.json").exists():
        raise DataError(
            f"{out} contains an earlier run: go on with --resume, start anew with --overwrite, or"
            " choose another --out."
        )
    try:
        require()
        problem = _problem(command)
    except ImportError as error:  # a package of an extra
        raise ModelError(str(error)) from None
    save_config(command, "fit", out, command.earlier.resume)
    log = command.talk.say
    known = [info.name for info in problem.parameters if info.estimate]
    for name in command.uncertainty.profile or ():
        if name not in ("all", *known):
            raise ValueError(f"--profile names {name}, but the parameters are {', '.join(known)}")
    log(f"Parameters: {', '.join(known)}.")
    starts = _exact_starts(problem)
    if starts:
        log(
            f"The first line of each run is its exact start in {', '.join(starts)}. If it has"
            f" errors like the others: --initial {starts[0]}=estimate."
        )
    progress = None
    if not command.talk.quiet:
        progress = display()
    common = {
        "processes": command.search.processes,
        "out": out,
        "resume": command.earlier.resume,
        "progress": progress,
    }
    try:
        found = _search(command, problem, common)
    except ImportError as error:  # mpi4py
        raise ModelError(str(error)) from None
    except KeyboardInterrupt:
        said = "pynode: interrupted before the first start ended."
        return failed(said, call.ending.code, command.json)
    finally:
        if progress is not None:
            progress.close()
    if hasattr(problem, "engine"):
        log(problem.engine)
    if not command.json:
        sentence(str(found))
    written = _write(command, found, out, log)
    results = {**found.as_dict(command.uncertainty.level), "files": list(map(str, written))}
    if found.interrupted:
        ended = counted(len(found.starts), "start")
        said = f"pynode: interrupted after {ended}; add --resume to go on."
        return failed(said, call.ending.code, command.json, results)
    if command.json:
        print_json(results)
    return 0


def _exact_starts(problem: EstimationProblem) -> list[str]:
    """The columns whose first lines are initial states, and no measurements."""
    if not isinstance(problem, TableProblem):
        return []
    columns = zip(problem.table.columns, problem.initial.measured, strict=True)
    return [column for column, measured in columns if not measured]


def _search(command, problem, common) -> Estimate:
    """All starts, and then the profiles."""
    found = estimate(
        problem,
        command.search.starts,
        optimiser=command.search.optimiser,
        iterations=command.search.iterations,
        seed=command.search.seed,
        guess=not command.search.no_guess,
        **common,
    )
    if command.uncertainty.profile and not found.interrupted and math.isfinite(found.objective):
        wanted = None
        if command.uncertainty.profile != ("all",):
            wanted = command.uncertainty.profile
        profile(found, wanted, level=command.uncertainty.level, **common)
    return found


def _write(command, found, out, log) -> list[Path]:
    """Write all files; returns their paths."""
    if not math.isfinite(found.objective):
        return []
    written = save_results(found, out, command.uncertainty.level)
    if found.interrupted:
        return written
    if command.uncertainty.samples:
        drawn = sample(
            found,
            command.uncertainty.samples,
            sampler=command.uncertainty.sampler,
            seed=command.search.seed,
        )
        written.append(drawn.save(out / "samples.csv"))
        log(f"Samples: {drawn.theta.shape[1]} after {drawn.burn_in} that were left out.")
    try:
        table = getattr(found.problem, "table", None)
        named = {}
        if table is not None:
            named = {"time": table.time, "labels": dict(zip(table.columns, table.labels))}
        written += save_pictures(found, out, command.uncertainty.level, **named)
    except ImportError:
        log(NO_PLOTS)
    log(files_written(written))
    return written


def _problem(command) -> EstimationProblem:
    """The estimation problem that the arguments describe. Raises ModelError or ValueError."""
    model = _model(command.model)
    if isinstance(model, EstimationProblem):
        if command.data is not None:
            raise ModelError(
                f"{command.model} is a whole problem with its own data: leave out {command.data}."
            )
        return model
    if command.data is None:
        raise ModelError(
            f"{command.model} is a model without data: give the table of measurements too."
        )
    table = read_table(
        command.data, conditions=command.measurements.condition, **command.columns.as_arguments()
    )
    known = command.parameters
    priors = pairs.read(pairs.prior, known.prior)
    return TableProblem(
        model,
        table,
        estimate=known.estimate,
        bounds=pairs.read(pairs.bounds, known.bounds),
        scales=pairs.read(pairs.scale, known.scale),
        priors={name: Prior(*parts) for name, parts in priors.items()},
        start=pairs.read(float, known.start),
        initial=pairs.read(pairs.value_or_estimate, known.initial),
        noise=pairs.noise(command.measurements.noise),
        relative=command.measurements.relative,
        method=command.solves.method,
        rtol=command.solves.rtol,
        backend=command.solves.backend,
        max_steps=command.solves.max_steps,
    )


def _model(name: str) -> Any:
    """The model or problem of a file, or of a name in Python code."""
    path, _, attribute = name.rpartition(":")
    if path and not Path(name).exists():
        return load_object(path, attribute)
    readers = {
        ".xml": "sbml",
        ".sbml": "sbml",
        ".ant": "antimony",
        ".yaml": "petab",
        ".yml": "petab",
    }
    kind = readers.get(Path(name).suffix.lower())
    if kind is None:
        raise ModelError(
            f"{name} is no model: give FILE.py:NAME, MODULE:NAME, an SBML file (.xml), an Antimony"
            " file (.ant) or a PEtab problem (.yaml)."
        )
    if not Path(name).exists():
        raise ModelError(f"there is no file {name}: check the name and the directory.")
    return getattr(models, kind)(name)
