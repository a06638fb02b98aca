"""The command ``pynode fit``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .. import models
from ..core.formatting import counted
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
from .command import failed, finish, print_json, threads
from .data_options import columns
from .fit_options import (
    add_data,
    add_parameters,
    add_search,
    add_solver,
    add_uncertainty,
)
from .targets import load_object
from .values import NO_PLOTS

FIT = """\
Estimate the parameters of a model from measurements, with intervals, and say what the data do not
determine.

MODEL is one of these:

  FILE.py:NAME     a torch module with named parameters, or a function f(t, y, k1, k2, ...). The
                   name can also be that of an estimation problem (pynode.fit.TableProblem), which
                   has its data
  FILE.xml         an SBML file; FILE.ant an Antimony file
  FILE.yaml        a PEtab problem, which has its data

DATA is a table, as for pynode data: a file (CSV in any dialect, Parquet, Excel, NetCDF, HDF5), a
folder whose files are runs, or - for the standard input. It has a column of times, and a column for
each measured quantity:

    time,A,B
    0,1.0,0.0          the first line of a run is its initial state (not with SBML files)
    0.5,0.61,          an empty cell is a missing value

A file can contain several runs, one below the other: --group names the column that distinguishes
them, and --condition the columns that are constant in a run, such as a temperature. A function or
module gets conditions as arguments after t and y.
"""
FILES = """\
files written to --out:
  results.json      optimum, intervals, sentences and all starts
  parameters.csv    values, intervals and bounds;  starts.csv  all starts, the best one first
  predictions.csv   measured and simulated values;  bands.csv  curves with their bands
  waterfall.png     the objectives of all starts
  fit.png           measurements, curves with bands, and residuals
  profiles.png, samples.csv   with --profile, --samples
  run.json, starts/, profiles/   the data that --resume needs. Ctrl-C, SIGTERM and SIGHUP lose only
                    the starts that have not ended

examples:
  pynode fit decay.py:Decay decay.csv --bounds k=1e-3,1e3 --starts 20
  pynode fit kinetics.py:field runs.csv --group run --condition T --bounds log_A=-5,15 \\
      --bounds Ea=0,200 --profile all --processes 2 --out out/kinetics
  pynode fit model.xml data.csv --estimate k1,k2 --noise 0.05
  pynode fit problem.yaml --starts 100 --processes 8
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode fit'."""
    own.description = FIT
    own.epilog = FILES
    own.add_argument("model", metavar="MODEL", help="a model, or a whole problem")
    own.add_argument("data", metavar="DATA", nargs="?", help="measurements")
    own.add_argument(
        "--out",
        default="out/fit",
        metavar="DIR",
        help="folder for the files (default: %(default)s)",
    )
    earlier = own.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="go on with the starts that --out contains"
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="start again, even if --out contains a run"
    )
    add_data(own.add_argument_group("data"))
    add_parameters(own.add_argument_group("parameters"))
    add_solver(own.add_argument_group("solver"))
    add_search(own.add_argument_group("search"))
    add_uncertainty(own.add_argument_group("uncertainty"))
    threads(own)
    finish(own, _fit, "print the results as one JSON object at the end")


def _fit(arguments) -> int:
    torch.set_num_threads(arguments.threads)
    quantile(arguments.level)  # raises for a level that is none
    out = Path(arguments.out)
    if (out / "run.json").exists() and not (arguments.resume or arguments.overwrite):
        raise DataError(
            f"{out} contains an earlier run: go on with --resume, start anew with --overwrite, or"
            " choose another --out."
        )
    try:
        require()
        problem = _problem(arguments)
    except ImportError as error:  # a package of an extra
        raise ModelError(str(error)) from None
    log: Callable[[str], None] = print
    if arguments.json:
        log = _ignore
    known = [info.name for info in problem.parameters if info.estimate]
    for name in arguments.profile or ():
        if name not in ("all", *known):
            raise ValueError(f"--profile names {name}, but the parameters are {', '.join(known)}")
    log(f"Parameters: {', '.join(known)}.")
    progress = None
    if not (arguments.quiet or arguments.json):
        progress = display()
    common = {
        "processes": arguments.processes,
        "out": out,
        "resume": arguments.resume,
        "progress": progress,
    }
    try:
        found = _search(arguments, problem, common)
    except ImportError as error:  # mpi4py
        raise ModelError(str(error)) from None
    except KeyboardInterrupt:
        sentence = "pynode: interrupted before the first start ended."
        return failed(sentence, arguments.ending.code, arguments.json)
    finally:
        if progress is not None:
            progress.close()
    if hasattr(problem, "engine"):
        log(problem.engine)
    log(str(found))
    written = _write(arguments, found, out, log)
    results = {**found.as_dict(arguments.level), "files": list(map(str, written))}
    if found.interrupted:
        ended = counted(len(found.starts), "start")
        sentence = f"pynode: interrupted after {ended}; add --resume to go on."
        return failed(sentence, arguments.ending.code, arguments.json, results)
    if arguments.json:
        print_json(results)
    return 0


def _search(arguments, problem, common) -> Estimate:
    """All starts, and then the profiles."""
    found = estimate(
        problem,
        arguments.starts,
        optimiser=arguments.optimiser,
        iterations=arguments.iterations,
        seed=arguments.seed,
        guess=not arguments.no_guess,
        **common,
    )
    if arguments.profile and not found.interrupted and math.isfinite(found.objective):
        wanted = None
        if arguments.profile != ("all",):
            wanted = arguments.profile
        profile(found, wanted, level=arguments.level, **common)
    return found


def _write(arguments, found, out, log) -> list[Path]:
    """Write all files; returns their paths."""
    if not math.isfinite(found.objective):
        return []
    written = save_results(found, out, arguments.level)
    if found.interrupted:
        return written
    if arguments.samples:
        drawn = sample(found, arguments.samples, sampler=arguments.sampler, seed=arguments.seed)
        written.append(drawn.save(out / "samples.csv"))
        log(f"Samples: {drawn.theta.shape[1]} after {drawn.burn_in} that were left out.")
    try:
        table = getattr(found.problem, "table", None)
        named = {}
        if table is not None:
            named = {"time": table.time, "labels": dict(zip(table.columns, table.labels))}
        written += save_pictures(found, out, arguments.level, **named)
    except ImportError:
        log(NO_PLOTS)
    log("Written: " + ", ".join(map(str, written)))
    return written


def _problem(arguments) -> EstimationProblem:
    """The estimation problem that the arguments describe. Raises ModelError or ValueError."""
    model = _model(arguments.model)
    if isinstance(model, EstimationProblem):
        if arguments.data is not None:
            raise ModelError(
                f"{arguments.model} is a whole problem with its own data: leave out"
                f" {arguments.data}."
            )
        return model
    if arguments.data is None:
        raise ModelError(
            f"{arguments.model} is a model without data: give the table of measurements too."
        )
    table = read_table(arguments.data, conditions=arguments.condition, **columns(arguments))
    return TableProblem(
        model,
        table,
        estimate=arguments.estimate,
        bounds=_pairs(arguments.bounds),
        scales=dict(arguments.scale),
        priors=dict(arguments.prior),
        start=dict(arguments.start),
        initial=dict(arguments.initial),
        noise=arguments.noise,
        relative=arguments.relative,
        method=arguments.method,
        rtol=arguments.rtol,
        backend=arguments.backend,
        max_steps=arguments.max_steps,
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


def _pairs(bounds: list[tuple[str, tuple[float, ...]]]) -> Mapping[str, tuple[float, float]]:
    found = {}
    for name, pair in bounds:
        if len(pair) != 2:
            raise ValueError(f"--bounds {name} needs two numbers, such as {name}=1e-3,1e3")
        found[name] = (pair[0], pair[1])
    return found


def _ignore(text: str) -> None:
    """Replaces print if the standard output is for programs."""
