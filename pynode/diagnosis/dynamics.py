"""How the solution moves: how often it turns back, and how fast nearby solutions separate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch

from ..backends.torch.inference import run_in_inference_mode, serves_inference
from ..core.norm import Tolerance
from ..core.status import RejectStep
from ..core.vector_field import VectorField
from .reference_solve import ROSENBROCK_UP_TO, ReferenceSolve

TURN = 0.02  # of a component's range: a smaller move back is no turn
STEPS = 10_000  # limit for lyapunov_growth. A limit of time would depend on the machine.


def turns(reference: ReferenceSolve) -> tuple[int, int | None]:
    """(turning points, flat index) of the component that turns back most often, two turns a period;
    (0, None) if none does."""
    states = reference.states.to("cpu", torch.float64).numpy()
    low = states.min(0)
    high = states.max(0)
    # A move of less than a few errors of a step does not count.
    least = np.maximum(
        TURN * (high - low), 10 * reference.tol.scale(reference.states).amax(0).cpu().numpy()
    )
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
        return int(counts[most]), most
    return 0, None


def lyapunov_growth(field: VectorField, reference: ReferenceSolve) -> float | None:
    """The number of e-folds by which a small difference grows over the whole reference solve,
    negative if it shrinks; None if unknown.

    A neighbouring solution takes the same steps, and is brought near again after each (G. Benettin
    et al., Meccanica 15, 1980). The unit is the largest value of each component. The result is the
    trend over time, from the second to the last fifth, because a relaxation oscillator stretches
    and shrinks differences by decades in each cycle. It is computed for up to ROSENBROCK_UP_TO
    states, because their reference solve repeats itself in every digit, and for at most STEPS
    steps, after which the rest is extrapolated.
    """
    if field.size > ROSENBROCK_UP_TO or len(reference.times) < 10:
        return None
    serves = serves_inference(field, reference.times[0], reference.states[0])
    logs = run_in_inference_mode(lambda: _logs(field, reference), serves)
    times = np.abs(np.asarray(reference.times[: len(logs)]) - reference.times[0])
    if len(logs) < 10 or times[-1] <= 0:
        return None
    even = np.interp(np.linspace(0, times[-1], 1001), times, logs)
    rate = (np.median(even[800:]) - np.median(even[200:400])) / (0.6 * times[-1])
    return float(rate * reference.span)


def _logs(field, reference) -> list:
    """Logarithms of the size of the difference, at the start and after each repeated step."""
    largest = reference.states.abs().amax(0)
    scale = torch.maximum(largest, 1e-3 * largest.max()).clamp_min(torch.finfo(field.dtype).tiny)
    length = torch.finfo(field.dtype).eps ** 0.4
    generator = torch.Generator().manual_seed(0)
    offset = torch.randn(field.size, generator=generator, dtype=torch.float64).to(scale)
    offset = offset / offset.norm()
    repeated = _repeated_steps(field, reference)
    logs = [0.0]
    folds = 0.0
    steps = zip(reference.accepted, reference.states, reference.states[1:])
    for attempt, y, after in itertools.islice(steps, STEPS):
        end = repeated(attempt.t, y + length * scale * offset, attempt.h)
        if end is None:
            break
        offset = (end - after) / (length * scale)
        size = float(offset.norm())
        if not 0 < size < math.inf:
            break
        folds = folds + math.log(size)
        offset = offset / size
        logs.append(folds)
    return logs


def _repeated_steps(field, reference) -> Callable:
    """step(t, y, h): the state, (n,), after one step of the reference solve's method, whatever its
    error; None if it cannot be completed."""
    if reference.engine == "native":
        from .native_steps import repeated_steps

        return repeated_steps(reference)
    loose = Tolerance(1.0, torch.full((), 1e30, dtype=field.dtype, device=field.device), field.size)
    state = reference.method.init(field, reference.times[0], reference.states[0], None, 0.0, loose)

    def step(t: float, y: torch.Tensor, h: float) -> torch.Tensor | None:
        try:
            return reference.method.step(field, t, y, h, state, loose).y
        except RejectStep:
            return None

    return step
