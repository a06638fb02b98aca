"""The command ``pynode train``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch

from ..core.formatting import counted
from ..data import DataError, Dataset, read
from ..train import (
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
from ..train.outcome import VERDICT
from ..train.progress import SilentProgress, display
from ..train.ranks import join, launched, leave
from ..train.understanding import GROUPS
from ..train.verdict import NOT_LEARNED
from .call import Call
from .commands.train import Train
from .config import save_config
from .output import NO_PLOTS, failed, files_written, print_json, sentence
from .targets import known_part

# The run worked, and its field does not describe the data.
EXIT_NOT_LEARNED = 3
FILES = ("config.toml", "model.pt", "checkpoint.pt", "history.csv", VERDICT)
# Whoever gives one of these gets one run, and no second attempt.
PLANNED = {name for group in GROUPS for name in group}


def run(command: Train, call: Call) -> int:
    """Train, judge and write; returns the exit code. Raises DataError, ModelError, TrainingError,
    OSError, and ValueError for options that mean nothing."""
    torch.set_num_threads(command.threads.threads)
    first = join()
    try:
        return _train(command, call.ending, first)
    except ImportError as error:  # a package that an option needs
        raise OSError(f"{error}.") from error
    finally:
        leave()


def _train(command, ending, first) -> int:
    """Train in this process. first: whether it is the one that talks and writes."""
    out = command.out
    anew = not (command.earlier.resume or command.earlier.overwrite)
    if first and anew and (out / "checkpoint.pt").exists():
        raise DataError(
            f"{out} contains an earlier run: go on with --resume, start anew with --overwrite, or"
            " choose another --out."
        )
    given = command.options
    # A wrong value is told before the file is read.
    Options(**given)
    columns = command.columns.as_arguments()
    data = read(command.data, keep_constant=command.keep_constant, **columns)
    runs = counted(len(data.trajectories), "trajectory", "trajectories")
    log = _ignore
    if first:
        log = command.talk.say
    log(
        f"{command.data}: {runs} of {', '.join(data.columns)};"
        f" {data.observations} observed values after the start."
    )
    for note in data.notes:
        log(note)
    if command.earlier.resume:
        given = {**saved_options(out / "checkpoint.pt"), **given}
    found = understand(data, given)
    for about in found.sentences:
        log(about)
    if first:
        save_config(command, "train", out, command.earlier.resume, _changed(found.options))
    choices = [found.options]
    if not PLANNED & set(given):
        choices += found.alternatives
    try:
        trained = _trained(data, choices, command, first)
    except KeyboardInterrupt:
        if not first:
            return ending.code
        state = "nothing had been saved yet"
        if (out / "checkpoint.pt").exists():
            state = "the checkpoint is as it was"
        return failed(f"pynode: interrupted; {state}.", ending.code, command.json)
    if not first:
        return 0  # torchrun ends all processes when one has another exit code
    return _ended(trained, data, found, command, ending)


def _ended(run, data, found, command, ending) -> int:
    """Write and say what came out of a run; returns the exit code."""
    log = command.talk.say
    out = command.out
    written = [out / name for name in FILES]
    try:
        written += draw(run, data, out)
    except ImportError:
        log(NO_PLOTS)
    if command.records.export:
        written += export(run, out, log)
    log(files_written(written))
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
        told = f"pynode: interrupted after epoch {results['epochs']}; add --resume to go on."
        return failed(told, ending.code, command.json, results)
    if command.json:
        print_json(results)
    else:
        _print_results(run)
    if run.verdict.word == NOT_LEARNED:
        if launched():
            sentence(
                f"pynode: not learned, exit code {EXIT_NOT_LEARNED}; torchrun ends with its own"
                f" code, 1, so let programs read {out / VERDICT}.",
                sys.stderr,
            )
        return EXIT_NOT_LEARNED
    return 0


def _print_results(run):
    sentence(
        f"Loss: {run.baseline:.3g} if nothing moved, {run.first:.3g} at the first solve,"
        f" {run.best:.3g} at the best: a factor of {run.baseline / run.best:.0f} in"
        f" {run.history[-1]['seconds']:.0f} s."
    )
    sentence(f"Verdict: {run.verdict.sentence}.")
    if run.verdict.advice:
        sentence(f"Next: {run.verdict.advice}.")


def _changed(options) -> dict:
    """The options that are not as Options() has them."""
    plain = Options()
    names = [field.name for field in fields(options)]
    return {
        name: getattr(options, name)
        for name in names
        if getattr(options, name) != getattr(plain, name)
    }


def _trained(data, choices, command, first) -> Fit:
    """Go on with the attempts in --out, or keep the best of new ones."""
    if command.talk.quiet or not first:
        shown: Callable[[], SilentProgress] = SilentProgress
    else:
        shown = display
    if command.records.track and first:
        plain = shown

        def shown() -> SilentProgress:
            return tracked(command.records.track, plain(), command.out)

    return fit_best(
        data,
        choices,
        command.seeds.seeds,
        command.out,
        shown,
        command.earlier.resume,
        command.seeds.ensemble,
        known_part(choices[0].known),
        command.seeds.jobs,
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
    """Replaces the talk in all processes but the first."""


def draw(run: Fit, data: Dataset, out: Path) -> list[Path]:
    """Plot the loss and the fit; returns the paths. Raises ImportError without matplotlib."""
    drawn = [plot_loss(out / "loss.png", run.history, run.best)]
    backend = "auto"
    method = run.options.method
    if run.backend == "native" and not no_native_code(method, run.field, data.trajectories[0].y[0]):
        backend = "native"
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
    return drawn
