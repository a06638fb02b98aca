"""The command ``pynode train``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch

from ..backends.registry import NAMES as BACKENDS
from ..core.formatting import counted
from ..core.status import SolveError
from ..data import DataError, Dataset, read
from ..train import Fit, Options, fit, plot_fit, plot_loss
from ..train.engine import no_native_code
from ..train.model import ACTIVATIONS
from ..train.options import LOSSES, OPTIMIZERS, SCHEDULES
from ..train.progress import display
from ..train.scaling import KINDS
from .command import failed, finish, print_json, threads
from .data_options import add_columns, columns
from .values import NO_PLOTS, numbers, widths

TRAIN = """\
Train a neural ODE on observations of a physical system. Stiff dynamics need an implicit solver, so
the default method is implicit.

DATA is a table: a file (CSV in any dialect, Parquet, Excel, NetCDF, HDF5), a folder whose files are
trajectories, or - for the standard input. It has a column of times, and one column per state:

    time,A,B,C
    0,1.0,0.0,0.0          the first line of a trajectory is its initial state
    1e-5,0.9999996,,1e-11  an empty cell is a missing value; times may be irregular

A file can contain several trajectories, one below the other. Use --group to name the column that
distinguishes them. pynode data DATA says what pynode understands of a table.
"""
FILES = """\
files written to --out:
  model.pt       the best model: architecture and scaling as plain data, and the weights
                 (pynode.train.load_model reads it)
  checkpoint.pt  the data that --resume needs, with a checksum. Every write is atomic, so an
                 interruption loses only seconds. Ctrl-C, SIGTERM and SIGHUP lose nothing: training
                 saves the last whole epoch
  history.csv    loss, learning rate, steps, evaluations and time of each epoch
  epochs/        intermediate models, with --keep-every; pynode compare OUT/epochs/*.pt --stiffness
                 reads them
  fit.png        observations and the learned solution
  loss.png       the loss of each epoch

examples:
  pynode train examples/data/robertson.csv --out out/robertson
  pynode train runs.csv --time hours --group run --hidden 64,64 --epochs 2000 --out out/runs
  pynode train runs.csv --time hours --group run --hidden 64,64 --epochs 2000 --out out/runs \\
      --resume
"""
DEFAULTS = {field.name: field.default for field in fields(Options)}


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add 'train' to the subparsers of the top parser."""
    p = commands.add_parser(
        "train", help="learn dynamics from a table", description=TRAIN, epilog=FILES
    )
    p.add_argument("data", metavar="DATA", help="observations")
    p.add_argument(
        "--out", default="out", metavar="DIR", help="folder for the files (default: %(default)s)"
    )
    earlier = p.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --out"
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="start again, even if --out contains a checkpoint"
    )
    _add_data(p.add_argument_group("data"))
    _add_model(p.add_argument_group("model"))
    _add_solver(p.add_argument_group("solver"))
    _add_loss(p.add_argument_group("loss"))
    training = p.add_argument_group("training")
    _add_optimisation(training)
    _add_start(training)
    _add_end(training)
    threads(training, "; more than one helps only wide networks")
    finish(p, _train, "print losses, epochs, seconds and files as one JSON object at the end")


def _add(group, name, kind, text, **more):
    """Add the option of ``Options`` of that name, whose default the help shows."""
    if DEFAULTS[name] in (None, math.inf, False):
        shown = ""
    else:
        shown = " (default: %(default)s)"
    group.add_argument(
        "--" + name.replace("_", "-"), type=kind, default=DEFAULTS[name], help=text + shown, **more
    )


def _add_data(group):
    """What the columns of the file mean."""
    add_columns(group)
    group.add_argument(
        "--keep-constant", action="store_true", help="accept a state that never changes"
    )


def _add_model(group):
    """The network."""
    group.add_argument(
        "--hidden",
        type=widths,
        default=DEFAULTS["hidden"],
        metavar="WIDTHS",
        help="widths of the hidden layers (default: 32,32)",
    )
    _add(group, "activation", str, "activation function", choices=ACTIVATIONS)
    group.add_argument("--time-input", action="store_true", help="let the dynamics depend on time")
    _add(
        group,
        "scaling",
        str,
        "'kim' uses one time scale, 'decades' one per state, and rates over decades",
        choices=KINDS,
    )


def _add_solver(group):
    """The solves."""
    _add(group, "method", str, "method of the solves, see pynode methods", metavar="NAME")
    _add(group, "rtol", float, "relative tolerance", metavar="X")
    _add(
        group,
        "atol",
        float,
        "absolute tolerance of the scaled states (default: rtol / 1000)",
        metavar="X",
    )
    _add(group, "max_steps", int, "maximum number of steps of one solve", metavar="N")
    _add(
        group,
        "backend",
        str,
        "engine of the solves and gradients, see docs/native.md and docs/julia.md; auto takes"
        " native code where it serves",
        choices=BACKENDS,
    )


def _add_loss(group):
    """The loss and the observations that it counts."""
    _add(group, "loss", str, "mean absolute or squared error of the scaled states", choices=LOSSES)
    group.add_argument(
        "--weights",
        type=numbers,
        default=(),
        metavar="X,...",
        help="one factor per state for its errors, separated by commas",
    )
    _add(
        group,
        "relative",
        float,
        "if positive: use errors relative to the values, above this fraction of the range",
        metavar="X",
    )
    _add(
        group,
        "sample",
        int,
        "observations to draw per epoch, evenly over the decades of time; 0 takes all",
        metavar="N",
    )
    _add(
        group,
        "validation",
        float,
        "fraction of the observation times to hold out; they select the best model",
        metavar="X",
    )
    _add(
        group,
        "shooting",
        int,
        "observations per segment of multiple shooting; 0 disables it",
        metavar="N",
    )
    _add(group, "continuity", float, "weight of the errors at the ends of segments", metavar="X")


def _add_optimisation(group):
    """The epochs and their steps."""
    _add(group, "epochs", int, "passes over all trajectories", metavar="N")
    _add(group, "optimizer", str, "Adam, or AdamW with decoupled weight decay", choices=OPTIMIZERS)
    _add(group, "lr", float, "initial learning rate", metavar="X")
    _add(group, "schedule", str, "how the learning rate changes", choices=SCHEDULES)
    _add(group, "batch", int, "trajectories per step; 0 takes all", metavar="N")
    _add(group, "weight_decay", float, "weight decay", metavar="X")
    _add(group, "normalise", float, "norm that every gradient gets; 0 keeps it", metavar="X")
    _add(group, "clip", float, "maximum norm of the gradient", metavar="X")
    _add(group, "polish", int, "epochs of Levenberg-Marquardt at the end", metavar="N")
    _add(
        group,
        "patience",
        int,
        "stop after this many epochs without progress; 0 never stops",
        metavar="N",
    )


def _add_start(group):
    """The weights that training begins with."""
    _add(group, "seed", int, "seed of all random numbers", metavar="N")
    _add(
        group,
        "collocation",
        int,
        "iterations on smoothed slopes before the first solve",
        metavar="N",
    )
    _add(
        group,
        "warm_start",
        int,
        "iterations on linearised trajectories before the first solve",
        metavar="N",
    )
    _add(group, "candidates", int, "random starts; the warm start chooses one", metavar="N")


def _add_end(group):
    """The end of training, and what is kept on the way."""
    _add(
        group,
        "time_limit",
        float,
        "stop after this many seconds, summed over all sessions",
        metavar="S",
    )
    _add(group, "checkpoint_every", float, "seconds between checkpoints", metavar="S")
    _add(
        group,
        "keep_every",
        int,
        "keep a model after every N epochs, in OUT/epochs; 0 keeps none",
        metavar="N",
    )
    _add(group, "max_failures", int, "stop after this many failed solves in a row", metavar="N")


def _train(arguments) -> int:
    torch.set_num_threads(arguments.threads)
    out = Path(arguments.out)
    if (out / "checkpoint.pt").exists() and not (arguments.resume or arguments.overwrite):
        raise DataError(
            f"{out} contains an earlier run: go on with --resume, start anew with --overwrite, or"
            " choose another --out."
        )
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    data = read(arguments.data, keep_constant=arguments.keep_constant, **columns(arguments))
    runs = counted(len(data.trajectories), "trajectory", "trajectories")
    if arguments.json:
        log = _ignore
    else:
        log = print
    log(
        f"{arguments.data}: {runs} of {', '.join(data.columns)};"
        f" {data.observations} observed values after the start."
    )
    for note in data.notes:
        log(note)
    try:
        run = fit(
            data,
            options,
            out,
            arguments.resume,
            None if arguments.quiet or arguments.json else display(),
        )
    except KeyboardInterrupt:
        state = "nothing had been saved yet"
        if (out / "checkpoint.pt").exists():
            state = "the checkpoint is as it was"
        return failed(f"pynode: interrupted; {state}.", arguments.ending.code, arguments.json)
    log(
        f"Loss: {run.baseline:.3g} if nothing moved, {run.first:.3g} at the first solve,"
        f" {run.best:.3g} at the best: a factor of {run.baseline / run.best:.0f} in"
        f" {run.history[-1]['seconds']:.0f} s."
    )
    written = [out / name for name in ("model.pt", "checkpoint.pt", "history.csv")]
    try:
        written += draw(run, data, options.method, out, log)
    except ImportError:
        log(NO_PLOTS)
    log("Written: " + ", ".join(map(str, written)))
    results = {
        "baseline": run.baseline,
        "first": run.first,
        "best": run.best,
        "epochs": run.history[-1]["epoch"],
        "seconds": run.history[-1]["seconds"],
        "interrupted": run.interrupted,
        "backend": run.backend,
        "files": list(map(str, written)),
    }
    if run.interrupted:
        sentence = f"pynode: interrupted after epoch {results['epochs']}; add --resume to go on."
        return failed(sentence, arguments.ending.code, arguments.json, results)
    if arguments.json:
        print_json(results)
    return 0


def _ignore(text):
    """Replaces print if the standard output is for programs."""


def draw(run: Fit, data: Dataset, method: str, out: Path, log: Callable[[str], None]) -> list[Path]:
    """Plot the loss and the fit; returns the paths. Raises ImportError without matplotlib."""
    drawn = [plot_loss(out / "loss.png", run.history, run.best)]
    backend = "auto"
    if run.backend == "native" and not no_native_code(method, run.field, data.trajectories[0].y[0]):
        backend = "native"
    try:
        drawn.append(plot_fit(out / "fit.png", run.field, data, method, backend=backend))
    except SolveError as error:
        log(f"The plot of the fit was left out: {error}")
    return drawn
