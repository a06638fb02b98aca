"""How the solution moves: how often it turns back, and how nearby solutions part from it."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from ..backends.torch.inference import run_in_inference_mode, serves_inference
from ..core.norm import Tolerance
from ..core.status import RejectStep
from .reference_solve import ROSENBROCK_UP_TO

TURN = 0.02  # of a component's range: a smaller way back is no turn
SECONDS = 10.0  # for the neighbours


def turns(walk) -> tuple:
    """(turning points, flat index) of the component that turns back most often, two turns a period;
    (0, None) if none does."""
    states = walk.states.to("cpu", torch.float64).numpy()
    low = states.min(0)
    high = states.max(0)
    # What moves by less than a few errors of a step does not move.
    least = np.maximum(TURN * (high - low), 10 * walk.tol.scale(walk.states).amax(0).cpu().numpy())
    anchor = states[0].copy()
    direction = np.zeros(states.shape[1])
    counts = np.zeros(states.shape[1], int)
    for y in states[1:]:
        moved = y - anchor
        back = (np.abs(moved) > least) & (np.sign(moved) != direction)
        counts += back & (direction != 0)
        direction = np.where(back, np.sign(moved), direction)
        # The anchor is the farthest point in the present direction.
        anchor = np.where(back | (direction * moved > 0), y, anchor)
        start = direction == 0
        anchor = np.where(start, states[0], anchor)
    most = int(counts.argmax())
    if counts[most]:
        return (int(counts[most]), most)
    return (0, None)


def lyapunov_growth(field, walk) -> float | None:
    """By how many e-folds a small difference grows over the whole walk, negative where it shrinks;
    None where unknown.

    A neighbour is taken along by the walk's own steps, and brought near again after each (G.
    Benettin et al., Meccanica 15, 1980). In units of each component's largest value. The trend over
    time, from the second to the last fifth: a relaxation oscillator stretches and shrinks
    differences by decades as it goes round. For up to ROSENBROCK_UP_TO states, whose walk repeats
    itself in every digit, and for SECONDS at most, from which the rest is extrapolated.
    """
    if field.size > ROSENBROCK_UP_TO or len(walk.times) < 10:
        return None
    serves = serves_inference(field, walk.times[0], walk.states[0])
    logs = run_in_inference_mode(lambda: _logs(field, walk), serves)
    times = np.abs(np.asarray(walk.times[: len(logs)]) - walk.times[0])
    if len(logs) < 10 or times[-1] <= 0:
        return None
    even = np.interp(np.linspace(0, times[-1], 1001), times, logs)
    rate = (np.median(even[800:]) - np.median(even[200:400])) / (0.6 * times[-1])
    return float(rate * walk.span)


def _logs(field, walk) -> list:
    """Logarithms of the size of the difference, at the start and after each step that was taken
    again."""
    largest = walk.states.abs().amax(0)
    scale = torch.maximum(largest, 1e-3 * largest.max()).clamp_min(torch.finfo(field.dtype).tiny)
    length = torch.finfo(field.dtype).eps ** 0.4
    generator = torch.Generator().manual_seed(0)
    away = torch.randn(field.size, generator=generator, dtype=torch.float64).to(scale)
    away = away / away.norm()
    loose = Tolerance(1.0, torch.full((), 1e30, dtype=field.dtype, device=field.device), field.size)
    state = walk.method.init(field, walk.times[0], walk.states[0], None, 0.0, loose)
    logs = [0.0]
    folds = 0.0
    began = time.perf_counter()
    for attempt, y, after in zip(walk.accepted, walk.states, walk.states[1:]):
        try:
            step = walk.method.step(
                field, attempt.t, y + length * scale * away, attempt.h, state, loose
            )
        except RejectStep:
            break
        if step.y is None:
            break
        away = (step.y - after) / (length * scale)
        size = float(away.norm())
        if not 0 < size < math.inf:
            break
        folds = folds + math.log(size)
        away = away / size
        logs.append(folds)
        if time.perf_counter() - began > SECONDS:
            break
    return logs
