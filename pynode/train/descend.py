"""The stage that goes from the start to the neighbourhood of a minimum: Levenberg-Marquardt on
segments that grow, then Adam on a horizon that grows, on segments, or on whole solves."""

from __future__ import annotations

import math
from typing import Any

import torch

from .gradients import normalise_gradients
from .phases import DESCENT, HORIZON, SEGMENTS, SHOOTING
from .polish import one_step
from .run import Run
from .start import TrainingError


def descend(run: Run) -> None:
    """Do the epochs of the phases that the options ask for."""
    run.advance(SEGMENTS, one_step_in_segments)
    for phase in (HORIZON, SHOOTING, DESCENT):
        run.advance(phase, one_pass)


def one_step_in_segments(run: Run, record: dict[str, Any]) -> tuple[float, float]:
    """One step of Levenberg-Marquardt. The segments grow when a step gains little."""
    losses = one_step(run, record)
    error = math.sqrt(run.polisher.cost)
    run.plan.grow(error, run.polisher.gain, run.objective.longest)
    return losses


def one_pass(run: Run, record: dict[str, Any]) -> tuple[float, float]:
    """One pass of Adam; the weights move after each batch. A failed solve is undone and
    repeated at a lower rate."""
    count = len(run.objective)
    size = run.options.batch or count
    order = list(range(count))
    if size < count:
        order = torch.randperm(count, generator=run.generator).tolist()
    if run.options.horizon:
        run.objective.limit(run.plan.horizon(run.epoch))
    if run.options.sample:
        run.objective.draw(run.generator)
    record["lr"] = _set_rate(run)
    total = 0.0
    other = 0.0
    k = 0
    while k < count:
        losses = _batch(run, order[k : k + size], record)
        if losses is None:
            record["failures"] += 1
            record["lr"] = _set_rate(run)
            continue
        total = total + losses[0]
        other = other + losses[1]
        k = k + size
    return total, other


def _batch(run, indices, record):
    """One step of Adam on some trajectories. Returns their losses, or None if a solve or its
    gradient failed."""
    run.optimizer.zero_grad()
    size = run.plan.segment(run.objective.longest)
    total = 0.0
    other = 0.0
    for i in indices:
        part, held_out, solved = run.objective.part(run.field, i, size)
        if part is None:
            return _step_back(run, solved[-1].message)
        part.backward()
        total = total + float(part.detach())
        other = other + held_out
        run.count(solved, record)
    if run.options.normalise:
        norm = normalise_gradients(run.weights, run.options.normalise)
    else:
        norm = torch.nn.utils.clip_grad_norm_(run.weights, run.options.clip)
    if not (math.isfinite(total) and torch.isfinite(norm)):
        return _step_back(run, "The loss or its gradient is not finite.")
    run.good = run.now()
    run.optimizer.step()
    run.failures = 0
    return total, other


def _step_back(run, problem):
    """Return to the last weights that could be solved, with half the learning rate."""
    run.failures += 1
    if run.failures >= run.options.max_failures:
        raise TrainingError(
            f"training stopped in epoch {run.epoch + 1} after {run.failures} failed solves in"
            f" a row. The last: {problem} The best weights so far are saved; try a lower --lr,"
            " a larger --rtol, or another --seed."
        )
    run.use(run.good)
    run.rate_factor *= 0.5
    run.progress.say(
        f"Epoch {run.epoch + 1}: a solve failed; went a step back, at half the rate. {problem}"
    )


def _set_rate(run) -> float:
    rate = run.rate_factor * run.plan.rate(run.epoch, run.elapsed)
    run.optimizer.rate = rate
    return rate
