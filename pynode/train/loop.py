"""A training run as stages: understand the data, start, descend, polish, judge.

Each stage is a function in the file of its name, and changes the state of the run (run.py). Reading
comes before: a run gets a data set. To add a strategy, add it to the stage that it belongs to.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..data import Dataset
from .checkpoint import saved_options
from .descend import descend
from .options import Options
from .outcome import forget_verdict, save_verdict
from .polish import polish
from .progress import SilentProgress
from .ranks import PeerLost
from .run import KnownPart, Run
from .scaling import PhysicalField
from .start import TrainingError, start
from .understanding import understand
from .verdict import Verdict, judge


@dataclass
class Fit:
    """The result of a training run.

    field: the best one, in the units of the data.
    history: one dict for each epoch with the keys in HISTORY, the baseline first.
    baseline: the loss of constant states. first: that of the first solve. best: the lowest; with
        ``validation`` that of the held-out observations.
    interrupted: whether Ctrl-C ended the run.
    backend: the engine of the solves.
    options: those of the run.
    verdict: whether the field has learned the data.
    members: the fields of an ensemble, in the units of the data; () without one.
    held_out: for each trajectory whether training never saw it.
    """

    field: PhysicalField
    history: list[dict[str, Any]]
    baseline: float
    first: float
    best: float
    interrupted: bool
    backend: str
    options: Options
    verdict: Verdict
    members: tuple[PhysicalField, ...] = ()
    held_out: tuple[bool, ...] = ()


def fit(
    data: Dataset,
    options: Options | None = None,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: SilentProgress | None = None,
    time_left: float = math.inf,
    known: KnownPart | None = None,
) -> Fit:
    """Train a neural ODE on the data.

    options: None lets ``understand`` choose them from the data.
    out: a directory for checkpoint.pt, model.pt and history.csv, which are written atomically every
        ``checkpoint_every`` seconds and at the end, and for verdict.json, which exists when the run
        is over. None writes nothing.
    resume: continue from the checkpoint in out. With the same options and data, and no time limit,
        the result is equal in every bit to that of a run without interruption.
    progress: a display.
    known: a known part f(t, y) of dy/dt in the units of the data, for one state (n,). The network
        learns the rest. Parameters of a module are constants.
    time_left: seconds after which training ends, if that is before ``time_limit``.

    Ctrl-C, or anything else that raises KeyboardInterrupt, saves the last complete epoch and ends
    the run; ``interrupted`` is then True. Of several processes, the first saves it, and the others
    raise KeyboardInterrupt. Raises TrainingError if solves keep failing, ModelError
    for an unusable checkpoint, OSError for a full disk.
    """
    if resume and out is None:
        raise ValueError("resume continues from the checkpoint in out: name its directory")
    if options is None:
        saved = {}
        if out is not None and resume:
            saved = saved_options(Path(out) / "checkpoint.pt")
        options = understand(data, saved).options
    progress = progress or SilentProgress()
    if out is not None and not resume:
        forget_verdict(out)
    try:
        run = Run(data, options, out, progress, time_left, known)
        progress.begin(run.options.as_dict())
        interrupted = _carried_out(run, resume)
        try:
            return _result(run, interrupted)
        except KeyboardInterrupt:
            if not interrupted:
                raise
            # After the loss of a process torchrun asks the other ones to end, too.
            return _result(run, interrupted)
    finally:
        progress.close()


def _carried_out(run, resume) -> bool:
    """Do the stages that train. Returns whether the user interrupted them."""
    try:
        start(run, resume)
        if run.out is not None and run.ranks.first:
            forget_verdict(run.out)
        descend(run)
        polish(run)
        run.finish()
    except KeyboardInterrupt as ending:
        run.ranks.go_alone()
        if run.whole is None or not run.ranks.first:
            raise
        if isinstance(ending, PeerLost):
            run.progress.say(f"Epoch {run.epoch + 1} was interrupted: {ending}.")
            with suppress(KeyboardInterrupt):  # torchrun asks the other processes to end, too
                _end(run)
                return True
        _end(run)
        return True
    except TrainingError:
        if run.history:
            run.save()
        raise
    return False


def _end(run):
    """Keep the last epoch that is whole."""
    run.restore(run.whole)
    run.finish()


def _result(run, interrupted) -> Fit:
    """What came out of a run, with its verdict."""
    run.use(run.best_weights or run.now())
    objective = run.whole_objective()
    if run.estimated:
        run.save_model()
    field = run.physical()
    if len(run.history) > 1:
        first = run.history[1]["loss"]
    else:
        first = run.best
    verdict = judge(run.field, run.whole_data, objective, run.options, run.held_out)
    if run.out is not None and run.ranks.first:
        save_verdict(run.out, verdict, interrupted)
    run.progress.judged(verdict.sentence, interrupted)
    return Fit(
        field=field,
        history=run.history,
        baseline=run.baseline,
        first=first,
        best=run.best,
        interrupted=interrupted,
        backend=run.options.engine,
        options=run.options,
        verdict=verdict,
        held_out=run.held_out,
    )
