"""The start of training: random weights that were fitted without the solver, and that the solver
can follow."""

from __future__ import annotations

import math

import torch

from .collocation import Slopes, collocation, slopes
from .data import Dataset
from .model import build
from .objective import Objective
from .options import Options
from .progress import SilentProgress
from .scaling import ScaledField, Scaling
from .warmstart import warm_start

# At most so many random starts are tried.
STARTS = 3


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
    """A field that can be solved and is not much worse than constant states. Depending on the
    options, it is fitted before it is solved."""
    best = math.inf
    start = None
    baseline = objective.baseline()
    for attempt in range(STARTS):
        field = _prepared(data, scaling, options, generator, progress)
        loss, _ = objective.value(field)
        if loss < best:
            best = loss
            start = field
        if start is not None and best < 2 * baseline:
            return start
        progress.say(
            f"Start {attempt + 1} of at most {STARTS} has a loss of {loss:.2g}; drawing new"
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
        points = Slopes.joined(
            slopes(run.t, scaling.scaled(run.y), run.seen) for run in data.trajectories
        )
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
