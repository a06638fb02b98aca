"""What explicit and implicit methods would cost on the walk: steps for accuracy, steps for
stability, seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ..core.status import RejectStep
from ..methods import registry
from ..methods.explicit import ExplicitRungeKutta

EXPLICIT = "tsit5"
STABLE = 1.001  # |R| up to which a mode that ought to decay, or to swing, is taken to do so
STIFF = 5.0  # times as many explicit steps for stability as for accuracy
TRIES = 3


@cache
def boundary(name=EXPLICIT) -> tuple:
    """(angles, radii): how far the stability region of an explicit method reaches in the left half
    plane, by the angle of h lambda with the negative axis, 0 to pi / 2. Hairer & Wanner II, sec.
    IV.2."""
    method = registry.get(name)
    if not isinstance(method, ExplicitRungeKutta):
        raise ValueError(f"{name} is not an explicit Runge-Kutta method: give the name of one")
    tb = method.tableau
    a = tb.matrix()[: tb.stages, : tb.stages]
    b = np.array([float(x) for x in tb.b][: tb.stages])
    # R(z) = 1 + sum_k z^k b^T A^(k-1) 1
    moments = [1.0]
    power = np.ones(tb.stages)
    for _ in range(tb.stages):
        moments.append(float(b @ power))
        power = a @ power
    angles = np.linspace(0, np.pi / 2, 91)
    radii = np.arange(0.01, 20, 0.01)
    z = radii * np.exp(1j * (np.pi - angles[:, None]))
    outside = np.abs(np.polyval(moments[::-1], z)) > STABLE
    return angles, radii[outside.argmax(1)]


def needed(spectrum) -> np.ndarray:
    """(m,) explicit steps a unit of t that stability asks for at the points of the spectrum."""
    angles, radii = boundary()
    rates = []
    for values in spectrum.values:
        left = values[values.real <= 0]
        angle = np.arctan2(np.abs(left.imag), -left.real)
        rates.append((np.abs(left) / np.interp(angle, angles, radii)).max(initial=0.0))
    return np.array(rates)


@dataclass(frozen=True)
class Costs:
    """Estimates over the walk. accuracy: steps for accuracy alone, those that the walk took;
    stability: steps that Tsit5 needs for stability alone; explicit_steps: where each holds sway,
    together; explicit, implicit: seconds with Tsit5 and with the walk's method, method; evaluation:
    seconds of one evaluation of f."""

    accuracy: float
    stability: float
    explicit_steps: float
    explicit: float
    implicit: float
    evaluation: float
    method: str

    @property
    def severity(self) -> float:
        """How many times more steps stability asks of an explicit method than accuracy."""
        return self.explicit_steps / max(self.accuracy, 1.0)

    @property
    def stiff(self) -> bool:
        return self.severity > STIFF


def costs(field, walk, spectrum) -> Costs:
    """Steps from the spectrum and from the walk, seconds a step from a few that are timed at its
    start."""
    explicit = registry.get(EXPLICIT)
    stable = needed(spectrum)
    taken = len(walk.sizes)
    if len(spectrum.times) > 1:
        order = np.argsort(spectrum.times)
        at = np.asarray(walk.times[:-1]) + 0.5 * np.diff(walk.times)
        rate = np.interp(at, np.asarray(spectrum.times)[order], stable[order])
    else:
        rate = np.full(taken, stable[0] if len(stable) else 0.0)
    sizes = np.asarray(walk.sizes)
    both = float(np.sum(np.maximum(1.0, rate * sizes)))
    tries = 1 + len(walk.rejected) / max(taken, 1)
    explicit_step, evaluation = _timed(field, walk, explicit)
    implicit_step = walk.seconds / max(len(walk.attempts), 1)
    return Costs(
        float(taken),
        float(np.sum(rate * sizes)),
        both,
        both * tries * explicit_step,
        taken * tries * implicit_step,
        evaluation,
        walk.method.name,
    )


def _timed(field, walk, method) -> tuple:
    """(seconds of an explicit step, of an evaluation of f): the best of a few at the start of the
    walk."""
    t = walk.times[0]
    y = walk.states[0]
    if len(walk.times) > 1:
        h = 0.01 * (walk.times[1] - t)
    else:
        h = 0.0
    best = [float("inf")] * 2
    try:
        with torch.inference_mode():
            state = method.init(field, t, y, field(t, y), h, walk.tol)
            for _ in range(TRIES):
                began = time.perf_counter()
                method.step(field, t, y, h, state, walk.tol)
                middle = time.perf_counter()
                field(t, y)
                best = [min(best[0], middle - began), min(best[1], time.perf_counter() - middle)]
    except (RejectStep, RuntimeError):
        pass
    return tuple(best)
