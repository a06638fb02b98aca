"""The command ``pynode fit``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .. import models
from ..backends.registry import NAMES as BACKENDS
from ..core.parameter_info import SCALES, Prior
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
from ..fit.samples import SAMPLERS
from ..train import ModelError
from .command import failed, finish, print_json, threads
from .data_options import add_columns, columns
from .targets import load_object
from .values import NO_PLOTS, count, names, numbers, positive

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


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add 'fit' to the subparsers of the top parser."""
    p = commands.add_parser(
        "fit",
        help="estimate parameters from measurements, with intervals",
        description=FIT,
        epilog=FILES,
    )
    p.add_argument("model", metavar="MODEL", help="a model, or a whole problem")
    p.add_argument("data", metavar="DATA", nargs="?", help="measurements")
    p.add_argument(
        "--out",
        default="out/fit",
        metavar="DIR",
        help="folder for the files (default: %(default)s)",
    )
    earlier = p.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="go on with the starts that --out contains"
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="start again, even if --out contains a run"
    )
    _add_data(p.add_argument_group("data"))
    _add_parameters(p.add_argument_group("parameters"))
    _add_solver(p.add_argument_group("solver"))
    _add_search(p.add_argument_group("search"))
    _add_uncertainty(p.add_argument_group("uncertainty"))
    threads(p)
    finish(p, _fit, "print the results as one JSON object at the end")


def _add_data(group):
    """What the columns of the file mean."""
    add_columns(group)
    group.add_argument(
        "--condition",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns that are constant in a run; the model gets their values",
    )
    group.add_argument(
        "--noise",
        metavar="X",
        type=_noise,
        default="estimate",
        help="standard deviation of the measurements: a number, 'estimate', or NAME=X,... for"
        " single columns (default: %(default)s)",
    )
    group.add_argument(
        "--relative",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns whose errors are relative to the value",
    )


def _add_parameters(group):
    """What is known of the parameters."""
    group.add_argument(
        "--estimate",
        metavar="NAMES",
        type=names,
        help="parameters to estimate (default: all of a module or function, and those of a file"
        " that --bounds names)",
    )
    group.add_argument(
        "--bounds",
        metavar="NAME=LOW,HIGH",
        type=_named(numbers),
        action="append",
        default=[],
        help="bounds of a parameter; give the option once for each",
    )
    group.add_argument(
        "--start",
        metavar="NAME=X",
        type=_named(float),
        action="append",
        default=[],
        help="first value of a parameter (default: the value in the model)",
    )
    group.add_argument(
        "--scale",
        metavar="NAME=SCALE",
        type=_named(_scale),
        action="append",
        default=[],
        help=f"{', '.join(SCALES)} (default: log10 if the lower bound is positive)",
    )
    group.add_argument(
        "--prior",
        metavar="NAME=KIND,MEAN,WIDTH",
        type=_named(_prior),
        action="append",
        default=[],
        help="normal or laplace prior, in the scale of the parameter",
    )
    group.add_argument(
        "--initial",
        metavar="STATE=X",
        type=_named(_value_or_estimate),
        action="append",
        default=[],
        help="initial value of a state, or 'estimate' (default: the first line of each run)",
    )


def _add_solver(group):
    """The solves."""
    group.add_argument(
        "--method", default="auto", metavar="NAME", help="method, see pynode methods"
    )
    group.add_argument(
        "--rtol",
        type=positive,
        default=1e-6,
        metavar="X",
        help="relative tolerance (default: %(default)g)",
    )
    group.add_argument(
        "--max-steps",
        type=count(1),
        default=10_000,
        metavar="N",
        help="maximum number of steps of one run; more count as a failure (default: %(default)s)",
    )
    group.add_argument(
        "--backend",
        choices=[name for name in BACKENDS if name != "julia"],
        default="auto",
        help="engine of the solves; auto takes native code where it serves",
    )


def _add_search(group):
    """The search for the optimum."""
    group.add_argument(
        "--starts",
        type=count(1),
        default=20,
        metavar="N",
        help="starts of the search: the values in the model, and a Latin hypercube between the"
        " bounds (default: %(default)s)",
    )
    group.add_argument(
        "--optimiser",
        choices=("fides", "lbfgs", "lm"),
        default="fides",
        help="trust region with the Gauss-Newton matrix, L-BFGS-B, or Levenberg-Marquardt"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--iterations",
        type=count(1),
        default=500,
        metavar="N",
        help="maximum number of iterations of one start (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of all random numbers (default: %(default)s)",
    )
    group.add_argument(
        "--no-guess",
        action="store_true",
        help="begin with random starts alone, not with the values in the model",
    )
    group.add_argument(
        "--processes",
        type=_processes,
        default=1,
        metavar="N",
        help="processes that work side by side, or mpi: those of 'mpiexec -n N python -m"
        " mpi4py.futures -m pynode fit ...' (default: %(default)s)",
    )


def _add_uncertainty(group):
    """Intervals, bands and samples."""
    group.add_argument(
        "--level",
        type=float,
        default=0.95,
        metavar="X",
        help="level of intervals and bands (default: %(default)s)",
    )
    group.add_argument(
        "--profile",
        type=names,
        metavar="NAMES",
        help="parameters whose intervals are made by profile likelihood, or all (default: none;"
        " intervals come from the Fisher information)",
    )
    group.add_argument(
        "--samples", type=count(1), metavar="N", help="draw N samples of the parameters"
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default=SAMPLERS[0],
        help="adaptive Metropolis, or parallel tempering for several peaks (default: %(default)s)",
    )


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
        sentence = f"pynode: interrupted after {len(found.starts)} starts; add --resume to go on."
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
    if arguments.profile and not found.interrupted:
        wanted = None
        if arguments.profile != ("all",):
            wanted = arguments.profile
        profile(found, wanted, level=arguments.level, **common)
    return found


def _write(arguments, found, out, log) -> list[Path]:
    """Write all files; returns their paths."""
    if not torch.isfinite(torch.tensor(found.objective)):
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


def _named(kind: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    """The type of 'NAME=VALUE', a pair."""

    def read(text: str) -> tuple[str, Any]:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise argparse.ArgumentTypeError(f"{text!r} does not read NAME=VALUE")
        try:
            return name.strip(), kind(value.strip())
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return read


def _scale(text: str) -> str:
    if text not in SCALES:
        raise ValueError(f"the scale is one of {', '.join(SCALES)}")
    return text


def _prior(text: str) -> Prior:
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError("a prior reads normal,MEAN,WIDTH or laplace,MEAN,WIDTH")
    return Prior(parts[0].strip(), float(parts[1]), float(parts[2]))  # type: ignore[arg-type]


def _value_or_estimate(text: str) -> float | str:
    if text == "estimate":
        return text
    return float(text)


def _noise(text: str) -> Any:
    """'0.1', 'estimate', or 'A=0.1,B=estimate'."""
    try:
        if "=" not in text:
            return _value_or_estimate(text)
        pairs = [_named(_value_or_estimate)(part) for part in names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number, 'estimate' or NAME=X,..."
        ) from None
    return dict(pairs)


def _processes(text: str) -> int | str:
    if text == "mpi":
        return text
    return count(1)(text)


def _ignore(text: str) -> None:
    """Replaces print if the standard output is for programs."""
