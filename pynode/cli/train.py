"""The command ``pynode train``."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import torch

from ..backends.registry import NAMES as BACKENDS
from ..core.status import SolveError
from ..train import DataError, Options, fit, plot_fit, plot_loss, read_csv
from ..train.model import ACTIVATIONS
from ..train.options import LOSSES, OPTIMIZERS, SCHEDULES
from ..train.progress import display
from ..train.scaling import KINDS
from .command import failed, finish, print_json, threads
from .values import NO_PLOTS, names, numbers, widths

TRAIN = """\
Train a neural ODE on observations of a physical system. Stiff dynamics need an implicit solver, so
the default method is implicit.

The CSV file has a header line, a column of times, and one column per state:

    time,A,B,C
    0,1.0,0.0,0.0          the first line of a trajectory is its initial state
    1e-5,0.9999996,,1e-11  an empty cell is a missing value; times may be irregular

A file can contain several trajectories, one below the other. Use --group to name the column that
distinguishes them.
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


def add_commands(commands):
    """Add 'train' to the subparsers of the top parser."""
    p = commands.add_parser(
        "train", help="learn dynamics from a CSV file", description=TRAIN, epilog=FILES
    )
    default = {field.name: field.default for field in fields(Options)}

    def add(group, name, kind, text, **more):
        if default[name] in (None, math.inf, False):
            shown = ""
        else:
            shown = " (default: %(default)s)"
        group.add_argument(
            "--" + name.replace("_", "-"),
            type=kind,
            default=default[name],
            help=text + shown,
            **more,
        )

    p.add_argument("data", metavar="DATA.csv", help="observations")
    p.add_argument(
        "--out", default="out", metavar="DIR", help="folder for the files (default: %(default)s)"
    )
    again = p.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --out"
    )
    again.add_argument(
        "--overwrite", action="store_true", help="start again, even if --out contains a checkpoint"
    )
    data = p.add_argument_group("data")
    data.add_argument(
        "--time", metavar="COLUMN", help="column of times (default: the column named t or time)"
    )
    data.add_argument("--group", metavar="COLUMN", help="column that distinguishes trajectories")
    data.add_argument(
        "--drop",
        metavar="COLUMNS",
        type=names,
        default=(),
        help="columns to ignore, separated by commas",
    )
    data.add_argument(
        "--keep-constant", action="store_true", help="accept a state that never changes"
    )
    model = p.add_argument_group("model")
    model.add_argument(
        "--hidden",
        type=widths,
        default=default["hidden"],
        metavar="WIDTHS",
        help="widths of the hidden layers (default: 32,32)",
    )
    add(model, "activation", str, "activation function", choices=ACTIVATIONS)
    model.add_argument("--time-input", action="store_true", help="let the dynamics depend on time")
    add(
        model,
        "scaling",
        str,
        "'kim' uses one time scale, 'decades' one per state, and rates over decades",
        choices=KINDS,
    )
    solver = p.add_argument_group("solver")
    add(solver, "method", str, "method of the solves, see pynode methods", metavar="NAME")
    add(solver, "rtol", float, "relative tolerance", metavar="X")
    add(
        solver,
        "atol",
        float,
        "absolute tolerance of the scaled states (default: rtol / 1000)",
        metavar="X",
    )
    add(solver, "max_steps", int, "maximum number of steps of one solve", metavar="N")
    add(
        solver,
        "backend",
        str,
        "engine for the solves and their gradients, see docs/julia.md",
        choices=BACKENDS,
    )
    loss = p.add_argument_group("loss")
    add(loss, "loss", str, "mean absolute or squared error of the scaled states", choices=LOSSES)
    loss.add_argument(
        "--weights",
        type=numbers,
        default=(),
        metavar="X,...",
        help="one factor per state for its errors, separated by commas",
    )
    add(
        loss,
        "relative",
        float,
        "if positive: use errors relative to the values, above this fraction of the range",
        metavar="X",
    )
    add(
        loss,
        "sample",
        int,
        "observations to draw per epoch, evenly over the decades of time; 0 takes all",
        metavar="N",
    )
    add(
        loss,
        "validation",
        float,
        "fraction of the observation times to hold out; they select the best model",
        metavar="X",
    )
    add(
        loss,
        "shooting",
        int,
        "observations per segment of multiple shooting; 0 disables it",
        metavar="N",
    )
    add(loss, "continuity", float, "weight of the errors at the ends of segments", metavar="X")
    training = p.add_argument_group("training")
    add(training, "epochs", int, "passes over all trajectories", metavar="N")
    add(
        training, "optimizer", str, "Adam, or AdamW with decoupled weight decay", choices=OPTIMIZERS
    )
    add(training, "lr", float, "initial learning rate", metavar="X")
    add(training, "schedule", str, "how the learning rate changes", choices=SCHEDULES)
    add(training, "batch", int, "trajectories per step; 0 takes all", metavar="N")
    add(training, "weight_decay", float, "weight decay", metavar="X")
    add(training, "normalise", float, "norm that every gradient gets; 0 keeps it", metavar="X")
    add(training, "clip", float, "maximum norm of the gradient", metavar="X")
    add(training, "polish", int, "epochs of Levenberg-Marquardt at the end", metavar="N")
    add(
        training,
        "patience",
        int,
        "stop after this many epochs without progress; 0 never stops",
        metavar="N",
    )
    add(training, "seed", int, "seed of all random numbers", metavar="N")
    add(
        training,
        "collocation",
        int,
        "iterations on smoothed slopes before the first solve",
        metavar="N",
    )
    add(
        training,
        "warm_start",
        int,
        "iterations on linearised trajectories before the first solve",
        metavar="N",
    )
    add(training, "candidates", int, "random starts; the warm start chooses one", metavar="N")
    add(
        training,
        "time_limit",
        float,
        "stop after this many seconds, summed over all sessions",
        metavar="S",
    )
    add(training, "checkpoint_every", float, "seconds between checkpoints", metavar="S")
    add(
        training,
        "keep_every",
        int,
        "keep a model after every N epochs, in OUT/epochs; 0 keeps none",
        metavar="N",
    )
    add(training, "max_failures", int, "stop after this many failed solves in a row", metavar="N")
    threads(training, "; more than one helps only wide networks")
    finish(p, _train, "print losses, epochs, seconds and files as one JSON object at the end")


def _train(arguments) -> int:
    torch.set_num_threads(arguments.threads)
    out = Path(arguments.out)
    if (out / "checkpoint.pt").exists() and not (arguments.resume or arguments.overwrite):
        raise DataError(
            f"{out} holds an earlier run: go on with --resume, start anew with --overwrite, or"
            " choose another --out."
        )
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    data = read_csv(
        arguments.data, arguments.time, arguments.group, arguments.drop, arguments.keep_constant
    )
    runs = len(data.trajectories)
    if arguments.json:
        say = _unheard
    else:
        say = print
    say(
        f"{arguments.data}: {runs} trajector{'y' if runs == 1 else 'ies'} of"
        f" {', '.join(data.columns)}; {data.observations} observed values after the start."
    )
    try:
        run = fit(
            data,
            options,
            out,
            arguments.resume,
            None if arguments.quiet or arguments.json else display(),
        )
    except KeyboardInterrupt:
        if (out / "checkpoint.pt").exists():
            kept = "the checkpoint is as it was"
        else:
            kept = "nothing had been saved yet"
        return failed(f"pynode: interrupted; {kept}.", arguments.ending.code, arguments.json)
    say(
        f"Loss: {run.baseline:.3g} if nothing moved, {run.first:.3g} at the first solve,"
        f" {run.best:.3g} at the best: a factor of {run.baseline / run.best:.0f} in"
        f" {run.history[-1]['seconds']:.0f} s."
    )
    written = [out / name for name in ("model.pt", "checkpoint.pt", "history.csv")]
    try:
        written += draw(run, data, options.method, out, say)
    except ImportError:
        say(NO_PLOTS)
    say("Written: " + ", ".join(map(str, written)))
    found = {
        "baseline": run.baseline,
        "first": run.first,
        "best": run.best,
        "epochs": run.history[-1]["epoch"],
        "seconds": run.history[-1]["seconds"],
        "interrupted": run.interrupted,
        "files": list(map(str, written)),
    }
    if run.interrupted:
        sentence = f"pynode: interrupted after epoch {found['epochs']}; add --resume to go on."
        return failed(sentence, arguments.ending.code, arguments.json, found)
    if arguments.json:
        print_json(found)
    return 0


def _unheard(text):
    """Replaces print if the standard output is for programs."""


def draw(run, data, method, out, say) -> list:
    """Plot the loss and the fit; returns the paths. ImportError without matplotlib."""
    drawn = [plot_loss(out / "loss.png", run.history, run.best)]
    try:
        drawn.append(plot_fit(out / "fit.png", run.field, data, method))
    except SolveError as error:
        say(f"The plot of the fit was left out: {error}")
    return drawn
