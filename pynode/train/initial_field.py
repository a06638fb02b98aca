"""The start of training: random weights that were fitted without the solver, and that the solver
can follow."""

from __future__ import annotations

import math

import torch

from ..data import Dataset
from .collocation import Slopes, collocation, trajectory_slopes
from .model import build
from .objective import Objective
from .options import Options
from .progress import SilentProgress
from .scaling import ScaledField, Scaling
from .warmstart import warm_start

# At most so many random starts are tried.
STARTS = 3
# A start is good if its loss is below so many times that of constant states: without a warm start
# it need only be solvable; a warm start that leaves it higher has got stuck.
SOLVABLE = 2.0
WARM = 0.1


class TrainingError(RuntimeError):
    """Training cannot continue. The message says why and what to do. The best weights so far are
    saved."""


def first_field(
    data: Dataset,
    scaling: Scaling,
    objective: Objective,
    options: Options,
    generator: torch.Generator,
    progress: SilentProgress,
) -> ScaledField:
    """A field that can be solved: not much worse than constant states, and after a warm start much
    better, if one of the random starts is. Depending on the options, it is fitted before it is
    solved."""
    best = math.inf
    start = None
    good = objective.baseline() * (WARM if options.warm_start else SOLVABLE)
    for attempt in range(1, STARTS + 1):
        field = _prepared(data, scaling, options, generator, progress)
        loss, _ = objective.value(field)
        if loss < best:
            best = loss
            start = field
        if start is not None and best < good:
            return start
        if attempt < STARTS:
            progress.say(
                f"Start {attempt} of at most {STARTS} has a loss of {loss:.2g}; drawing new"
                " weights."
            )
    if start is None:
        raise TrainingError(
            f"none of {STARTS} random starts could be solved over the time span of the data: raise"
            " --max-steps, use an implicit --method such as fbdf, or try another --seed."
        )
    return start


def _prepared(data, scaling, options, generator, progress):
    if options.warm_start:
        count = options.candidates
    else:
        count = 1
    fields = [build(options.architecture, scaling, generator) for _ in range(count)]
    if options.collocation:
        points = Slopes.joined(trajectory_slopes(run, scaling) for run in data.trajectories)
        for field in fields:
            collocation(field, points, options.collocation, report=progress.warm)
    if options.warm_start:
        limit = options.time_limit / 4
        report = progress.warm
        native = options.engine == "native"
        return warm_start(
            fields, data, options.warm_start, seconds=limit, report=report, native=native
        )
    if not options.collocation:
        fields[0].close_gates()
    return fields[0]
