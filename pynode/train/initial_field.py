"""Where training starts: random weights that were fitted without the solver, and that it can
follow."""

from __future__ import annotations

import math

from .collocation import Slopes, collocation, slopes
from .model import build
from .warmstart import warm_start

# A start that cannot be used is drawn again so often.
STARTS = 3


class TrainingError(RuntimeError):
    """Training that cannot go on. The message says why and what to do; the best weights so far were
    saved."""


def first_field(data, scaling, objective, options, generator, progress):
    """A field that can be solved and is not much worse than states that never move; fitted
    beforehand, if wanted."""
    best = math.inf
    found = None
    baseline = objective.baseline()
    for attempt in range(STARTS):
        field = _prepared(data, scaling, options, generator, progress)
        loss, _ = objective.value(field)
        if loss < best:
            best = loss
            found = field
        if best < 2 * baseline:
            return found
        progress.say(
            f"Start {attempt + 1} of at most {STARTS} has a loss of {loss:.2g}; drawing new"
            " weights."
        )
    if found is None:
        raise TrainingError(
            f"none of {STARTS} random starts could be solved over the time span of the data: raise"
            " --max-steps, use an implicit --method such as fbdf, or try another --seed."
        )
    return found


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
        return warm_start(fields, data, options.warm_start, seconds=limit, report=report)
    if not options.collocation:
        fields[0].close_gates()
    return fields[0]
