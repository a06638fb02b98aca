"""The command ``pynode train``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch

from ..backends.registry import NAMES as BACKENDS
from ..core.formatting import counted
from ..core.status import SolveError
from ..data import DataError, Dataset, read
from ..train import (
    TRACKERS,
    Fit,
    Options,
    export_program,
    fit_best,
    plot_fit,
    plot_loss,
    tracked,
    understand,
    write_pytorch,
)
from ..train.checkpoint import saved_options
from ..train.engine import no_native_code
from ..train.judge import NOT_LEARNED
from ..train.model import ACTIVATIONS
from ..train.options import LOSSES, OPTIMIZERS, SCHEDULES
from ..train.outcome import VERDICT
from ..train.progress import SilentProgress, display
from ..train.ranks import join, launched, leave
from ..train.scaling import KINDS
from ..train.understand import CHOSEN, GROUPS
from .command import failed, finish, print_json, threads
from .data_options import add_columns, columns
from .targets import known_part
from .values import NO_PLOTS, count, names, numbers, widths

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
  verdict.json   the verdict, for programs: its word is learned, partly or not learned. It exists
                 when the run is over, also under launchers that change exit codes
  history.csv    loss, learning rate, steps, evaluations and time of each epoch
  epochs/        intermediate models, with --keep-every; pynode compare OUT/epochs/*.pt --stiffness
                 reads them
  ensemble/      the models of all seeds, with --ensemble
  field.py       the learned field as a PyTorch module without pynode, with --export
  field.pt2      the same as a program of torch.export
  fit.png        observations and the learned solution
  loss.png       the loss of each epoch

examples:
  pynode train examples/data/robertson.csv --out out/robertson
  pynode train runs.csv --time hours --group run --hidden 64,64 --epochs 2000 --out out/runs
  pynode train runs.csv --time hours --group run --hidden 64,64 --epochs 2000 --out out/runs \\
      --resume
"""
# The run worked, and its field does not describe the data.
EXIT_NOT_LEARNED = 3
# Whoever gives one of these gets one run, and no second attempt.
PLANNED = {name for group in GROUPS for name in group}
DEFAULTS = {field.name: field.default for field in fields(Options)}


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode train'."""
    own.description = TRAIN
    own.epilog = FILES
    own.add_argument("data", metavar="DATA", help="observations")
    own.add_argument(
        "--out", default="out", metavar="DIR", help="folder for the files (default: %(default)s)"
    )
    earlier = own.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --out"
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="start again, even if --out contains a checkpoint"
    )
    _add_data(own.add_argument_group("data"))
    _add_model(own.add_argument_group("model"))
    _add_known(own.add_argument_group("what is known"))
    _add_solver(own.add_argument_group("solver"))
    _add_loss(own.add_argument_group("loss"))
    training = own.add_argument_group("training")
    _add_optimisation(training)
    _add_start(training)
    _add_end(training)
    threads(training, "; more than one helps only wide networks")
    finish(own, _train, "print losses, epochs, seconds and files as one JSON object at the end")


def _add(group, name, kind, text, **more):
    """Add the option of ``Options`` of that name, whose default the help shows."""
    if name in CHOSEN:
        shown = " (default: from the data)"
    elif DEFAULTS[name] in (None, math.inf, False, (), ""):
        shown = ""
    else:
        shown = f" (default: {DEFAULTS[name]})"
    group.add_argument(
        "--" + name.replace("_", "-"),
        type=kind,
        default=argparse.SUPPRESS,
        help=text + shown,
        **more,
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
        default=argparse.SUPPRESS,
        metavar="WIDTHS",
        help="widths of the hidden layers, such as 32,32 (default: from the data)",
    )
    _add(group, "activation", str, "activation function", choices=ACTIVATIONS)
    group.add_argument(
        "--time-input",
        action="store_true",
        default=argparse.SUPPRESS,
        help="let the dynamics depend on time",
    )
    _add(
        group,
        "scaling",
        str,
        "'kim' uses one time scale, 'decades' one per state, and rates over decades",
        choices=KINDS,
    )
    group.add_argument(
        "--warp",
        action="store_true",
        default=argparse.SUPPRESS,
        help="learn the logarithm of positive states that span decades, and the arcsinh of states"
        " with rare high peaks",
    )


def _add_known(group):
    """What is known of the dynamics."""
    _add(
        group,
        "augment",
        int,
        "hidden states, which nobody observed; their starts are learned for each trajectory",
        metavar="N",
    )
    group.add_argument(
        "--learn-starts",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="learn the starts of the trajectories, whose first observations then count as others"
        " (default: from the data)",
    )
    _add(
        group,
        "conserve",
        names,
        "sums that stay constant, such as A+2*B, separated by commas",
        metavar="SUMS",
    )
    _add(
        group,
        "positive",
        names,
        "states that stay positive, separated by commas, or all",
        metavar="STATES",
    )
    _add(
        group,
        "known",
        str,
        "a known part f(t, y) of dy/dt, to which the network adds the rest; runs the code of the"
        " file",
        metavar="FILE.py:f",
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
        default=argparse.SUPPRESS,
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
        "hold_out",
        float,
        "number of trajectories, or their share, that only the verdict sees",
        metavar="N",
    )
    _add(
        group,
        "shooting",
        int,
        "observations per segment of multiple shooting; 0 disables it",
        metavar="N",
    )
    _add(
        group,
        "horizon",
        int,
        "grow the horizon in N steps, from the first times to all; 0 takes all at once",
        metavar="N",
    )
    _add(
        group,
        "segments",
        int,
        "first epochs of Levenberg-Marquardt, in segments that grow to the whole",
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
        "target",
        float,
        "end the polish when errors are below this part of the ranges",
        metavar="X",
    )
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
    group.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="train with N seeds, from --seed on, and keep the best (default: 1)",
    )
    group.add_argument(
        "--ensemble",
        action="store_true",
        help="keep the models of all --seeds in OUT/ensemble, and draw their spread as a band",
    )
    group.add_argument(
        "--jobs",
        type=count(1),
        default=1,
        metavar="N",
        help="train the further seeds in N processes at once, through joblib (default: 1)",
    )
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
    _add(group, "neighbours", int, "observations that smooth one for the slopes", metavar="N")
    group.add_argument(
        "--compare-starts",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="try collocation and linearised trajectories, each alone, and keep the better start"
        " (default: from the data)",
    )
    _add(group, "candidates", int, "random starts; the warm start chooses one", metavar="N")


def _add_end(group):
    """The end of training, and what is kept on the way."""
    _add(
        group,
        "time_limit",
        float,
        "stop after this many seconds, summed over all sessions and attempts",
        metavar="S",
    )
    _add(group, "checkpoint_every", float, "seconds between checkpoints", metavar="S")
    group.add_argument(
        "--track", choices=TRACKERS, help="log every epoch to this experiment tracker"
    )
    group.add_argument(
        "--export",
        action="store_true",
        help="write the learned field for programs without pynode, too: field.py and field.pt2",
    )
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
    first = join()
    try:
        return _train_in(arguments, first)
    except ImportError as error:  # a package that an option needs
        if arguments.debug:
            raise
        return failed(f"pynode: {error}.", 1, arguments.json)
    finally:
        leave()


def _train_in(arguments, first) -> int:
    """Train in this process. first: whether it is the one that talks and writes."""
    out = Path(arguments.out)
    if first and (out / "checkpoint.pt").exists() and not (arguments.resume or arguments.overwrite):
        raise DataError(
            f"{out} contains an earlier run: go on with --resume, start anew with --overwrite, or"
            " choose another --out."
        )
    given = {name: value for name, value in vars(arguments).items() if name in DEFAULTS}
    # A wrong value is told before the file is read.
    Options(**given)
    data = read(arguments.data, keep_constant=arguments.keep_constant, **columns(arguments))
    runs = counted(len(data.trajectories), "trajectory", "trajectories")
    if arguments.json or not first:
        log = _ignore
    else:
        log = print
    log(
        f"{arguments.data}: {runs} of {', '.join(data.columns)};"
        f" {data.observations} observed values after the start."
    )
    for note in data.notes:
        log(note)
    if arguments.resume:
        given = {**saved_options(out / "checkpoint.pt"), **given}
    found = understand(data, given)
    for sentence in found.sentences:
        log(sentence)
    choices = [found.options]
    if not PLANNED & set(given):
        choices += found.alternatives
    try:
        run = _trained(data, choices, out, arguments, first)
    except KeyboardInterrupt:
        if not first:
            return arguments.ending.code
        state = "nothing had been saved yet"
        if (out / "checkpoint.pt").exists():
            state = "the checkpoint is as it was"
        return failed(f"pynode: interrupted; {state}.", arguments.ending.code, arguments.json)
    if not first:
        return 0  # torchrun ends all processes when one has another exit code
    return _ended(run, data, found, out, arguments, log)


def _ended(run, data, found, out, arguments, log) -> int:
    """Write and say what came out of a run; returns the exit code."""
    log(
        f"Loss: {run.baseline:.3g} if nothing moved, {run.first:.3g} at the first solve,"
        f" {run.best:.3g} at the best: a factor of {run.baseline / run.best:.0f} in"
        f" {run.history[-1]['seconds']:.0f} s."
    )
    written = [out / name for name in ("model.pt", "checkpoint.pt", "history.csv", VERDICT)]
    try:
        written += draw(run, data, out, log)
    except ImportError:
        log(NO_PLOTS)
    if arguments.export:
        written += export(run, out, log)
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
        "data": found.sentences[0],
        "choice": found.sentences[1],
        "verdict": run.verdict.as_dict(),
    }
    if run.interrupted:
        sentence = f"pynode: interrupted after epoch {results['epochs']}; add --resume to go on."
        return failed(sentence, arguments.ending.code, arguments.json, results)
    if arguments.json:
        print_json(results)
    log(f"Verdict: {run.verdict.sentence}.")
    if run.verdict.advice:
        log(f"Next: {run.verdict.advice}.")
    if run.verdict.word == NOT_LEARNED:
        if launched():
            print(
                f"pynode: not learned, exit code {EXIT_NOT_LEARNED}; torchrun ends with its own"
                f" code, 1, so let programs read {out / VERDICT}.",
                file=sys.stderr,
                flush=True,
            )
        return EXIT_NOT_LEARNED
    return 0


def _trained(data, choices, out, arguments, first) -> Fit:
    """Go on with the attempts in out, or keep the best of new ones."""
    if arguments.quiet or arguments.json or not first:
        shown: Callable[[], SilentProgress] = SilentProgress
    else:
        shown = display
    if arguments.track and first:
        plain = shown

        def shown() -> SilentProgress:
            return tracked(arguments.track, plain(), out)

    return fit_best(
        data,
        choices,
        arguments.seeds,
        out,
        shown,
        arguments.resume,
        arguments.ensemble,
        known_part(choices[0].known),
        arguments.jobs,
    )


def export(run: Fit, out: Path, log: Callable[[str], None]) -> list[Path]:
    """Write the learned field for programs without pynode; returns the paths."""
    written = [export_program(run.field, out / "field.pt2")]
    try:
        written.append(write_pytorch(run.field, out / "field.py"))
    except ValueError as error:
        log(f"field.py was left out: {error}.")
    return written


def _ignore(text):
    """Replaces print if the standard output is for programs."""


def draw(run: Fit, data: Dataset, out: Path, log: Callable[[str], None]) -> list[Path]:
    """Plot the loss and the fit; returns the paths. Raises ImportError without matplotlib."""
    drawn = [plot_loss(out / "loss.png", run.history, run.best)]
    backend = "auto"
    method = run.options.method
    if run.backend == "native" and not no_native_code(method, run.field, data.trajectories[0].y[0]):
        backend = "native"
    try:
        drawn.append(
            plot_fit(
                out / "fit.png",
                run.field,
                data,
                method,
                backend=backend,
                title=run.verdict.sentence,
                members=run.members,
                held_out=run.held_out,
            )
        )
    except SolveError as error:
        log(f"The plot of the fit was left out: {error}")
    return drawn
