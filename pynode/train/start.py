"""The start of training: random weights that were fitted without the solver, and that the solver
can follow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from ..core.explained import ExplainedError
from ..data import Dataset
from .collocate import Slopes, collocation, trajectory_slopes
from .features import fewest_seen, representative, thinned
from .objective import Objective
from .options import Options
from .progress import SilentProgress
from .ranks import Ranks
from .run import Run
from .scaling import ScaledField
from .warmstart import warm_start

# At most so many random starts are tried.
STARTS = 3
# A start is good if its loss is below so many times that of constant states: without a warm start
# it need only be solvable; a warm start that leaves it higher has got stuck.
SOLVABLE = 2.0
WARM = 0.1
# With more rows, an iteration of a fit without solves takes long, and much memory.
MOST_ROWS = 20_000
# The part of a time limit that the start may take.
PART = 0.5


class Clock:
    """The seconds that are left of a limit."""

    def __init__(self, limit: float, ranks: Ranks | None = None) -> None:
        self._end = time.monotonic() + limit
        self._ranks = ranks or Ranks()

    @property
    def left(self) -> float:
        """The seconds left, by the clock of the first process. All processes must ask together."""
        return self._ranks.agreed(max(0.0, self._end - time.monotonic()))


class TrainingError(ExplainedError):
    """Training cannot continue. The message says why and what to do. The best weights so far are
    saved."""


def start(run: Run, resume: bool) -> None:
    """Give the run its first field, or the state of its checkpoint."""
    if resume:
        run.load()
    else:
        run.adopt(
            first_field(
                representative(run.training, MOST_ROWS),
                run.new_field,
                run.objective,
                run.options,
                run.generator,
                run.progress,
                Clock(PART * run.plan.limit, run.ranks),
            )
        )
        run.history = [run.record() | {"loss": run.baseline}]
    run.whole = run.snapshot()
    if not resume:
        run.save()
        run.keep_epoch()


def first_field(
    data: Dataset,
    make: Callable[[torch.Generator], ScaledField],
    objective: Objective,
    options: Options,
    generator: torch.Generator,
    progress: SilentProgress,
    clock: Clock,
) -> ScaledField:
    """A field of ``make`` that can be solved: not much worse than constant states, and after a warm
    start much better, if one of the random starts is. Depending on the options, it is fitted before
    it is solved. When the clock has run out, no further start is tried."""
    best = math.inf
    chosen = None
    good = objective.baseline() * (WARM if options.warm_start else SOLVABLE)
    for attempt in range(1, STARTS + 1):
        field = _prepared(data, make, options, generator, progress, objective, clock)
        loss, _ = objective.value(field)
        if loss < best:
            best = loss
            chosen = field
        if chosen is not None and best < good:
            return chosen
        if chosen is not None and not clock.left:
            return chosen
        if attempt < STARTS:
            progress.say(
                f"Start {attempt} of at most {STARTS} has a loss of {loss:.2g}; drawing new"
                " weights."
            )
    if chosen is None:
        raise TrainingError(
            f"none of {STARTS} random starts could be solved over the time span of the data: raise"
            " --max-steps, use an implicit --method such as fbdf, or try another --seed."
        )
    return chosen


def _prepared(data, make, options, generator, progress, objective, clock):
    """A field that was fitted without solves. Where the options compare starts, the one whose first
    solve has the lower loss."""
    if not options.compare_starts:
        return _fitted(data, make, options, generator, progress, clock.left)
    kinds = [replace(options, collocation=0), replace(options, warm_start=0)]
    share = clock.left / len(kinds)
    fields = [_fitted(data, make, kind, generator, progress, share) for kind in kinds]
    return min(fields, key=lambda field: objective.value(field)[0])


def _fitted(data, make, options, generator, progress, seconds):
    """A field that was fitted without solves, in at most so many seconds."""
    if options.warm_start:
        count = options.candidates
    else:
        count = 1
    fields = [make(generator) for _ in range(count)]
    if options.collocation:
        points = _slopes(data, fields[0].scaling, options.neighbours)
        share = seconds / 2 / len(fields)
        for field in fields:
            collocation(field, points, options.collocation, report=progress.warm, seconds=share)
    if options.warm_start:
        limit = seconds / 2
        report = progress.warm
        native = options.engine == "native"
        return warm_start(
            fields,
            thinned(data, MOST_ROWS),
            options.warm_start,
            seconds=limit,
            report=report,
            native=native,
        )
    if not options.collocation:
        fields[0].close_gates()
    return fields[0]


def _slopes(data, scaling, neighbours) -> Slopes:
    """The slopes of the scaled states of all trajectories that have enough values."""
    parts = []
    for run in data.trajectories:
        near = min(neighbours, fewest_seen(run))
        if near >= 3:
            parts.append(trajectory_slopes(run, scaling, near))
    if not parts:
        raise TrainingError(
            "collocation needs at least three values of each state after the start of a trajectory:"
            " use --collocation 0 with --warm-start 1500."
        )
    return Slopes.joined(parts).thinned(MOST_ROWS)
