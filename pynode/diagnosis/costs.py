"""Estimates for explicit and implicit methods on this problem: steps for accuracy, steps for
stability, seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ..core.memory import raise_if_exhausted
from ..core.status import RejectStep
from ..core.vector_field import VectorField
from ..methods import registry
from ..methods.explicit import ExplicitRungeKutta
from .reference_solve import ReferenceSolve
from .spectrum import Spectrum

EXPLICIT = "tsit5"
STABLE = 1.001  # a mode counts as stable up to this |R|
STIFF = 5.0  # stiff means: stability needs so many times more explicit steps than accuracy
TRIES = 3


@cache
def boundary(name: str = EXPLICIT) -> tuple[np.ndarray, np.ndarray]:
    """(angles, radii): the extent of an explicit method's stability region in the left half plane,
    by the angle of h lambda to the negative axis, 0 to pi / 2. Hairer & Wanner II, sec. IV.2."""
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


def needed(spectrum: Spectrum) -> np.ndarray:
    """(m,) explicit steps per unit of t that stability needs at the times of the spectrum."""
    angles, radii = boundary()
    rates = []
    for values in spectrum.values:
        decaying = values[values.real <= 0]
        angle = np.arctan2(np.abs(decaying.imag), -decaying.real)
        rates.append((np.abs(decaying) / np.interp(angle, angles, radii)).max(initial=0.0))
    return np.array(rates)


@dataclass(frozen=True)
class Costs:
    """Estimates for the span of the reference solve.

    accuracy: steps for accuracy only, those of the reference solve.
    stability: steps that Tsit5 needs for stability only.
    explicit_steps: steps of Tsit5 for both, each where it is the stricter.
    explicit, implicit: seconds with Tsit5, and with the method of the reference solve.
    evaluation: seconds for one evaluation of f.
    method: of the reference solve.
    """

    accuracy: float
    stability: float
    explicit_steps: float
    explicit: float
    implicit: float
    evaluation: float
    method: str

    @property
    def severity(self) -> float:
        """How many times more steps an explicit method needs in all than for accuracy."""
        return self.explicit_steps / max(self.accuracy, 1.0)

    @property
    def stiff(self) -> bool:
        """Whether the problem is stiff."""
        return self.severity > STIFF


def costs(field: VectorField, reference: ReferenceSolve, spectrum: Spectrum) -> Costs:
    """Steps from the spectrum and the reference solve; seconds a step from a few timed steps at its
    start."""
    explicit = registry.get(EXPLICIT)
    stable = needed(spectrum)
    taken = len(reference.sizes)
    if len(spectrum.times) > 1:
        order = np.argsort(spectrum.times)
        middles = np.asarray(reference.times[:-1]) + 0.5 * np.diff(reference.times)
        rate = np.interp(middles, np.asarray(spectrum.times)[order], stable[order])
    else:
        rate = np.full(taken, stable[0] if len(stable) else 0.0)
    sizes = np.asarray(reference.sizes)
    both = float(np.sum(np.maximum(1.0, rate * sizes)))
    tries = 1 + len(reference.rejected) / max(taken, 1)
    explicit_step, evaluation = _timed(field, reference, explicit)
    implicit_step = reference.seconds / max(len(reference.attempts), 1)
    return Costs(
        float(taken),
        float(np.sum(rate * sizes)),
        both,
        both * tries * explicit_step,
        taken * tries * implicit_step,
        evaluation,
        reference.method.name,
    )


def _timed(field, reference, method) -> tuple:
    """(seconds for an explicit step, seconds for an evaluation of f): the best of a few at the
    start."""
    t = reference.times[0]
    y = reference.states[0]
    if len(reference.times) > 1:
        h = 0.01 * (reference.times[1] - t)
    else:
        h = 0.0
    if h and reference.engine == "native":
        from .native_steps import timed_steps

        return timed_steps(reference, method.name, h)
    best = [float("inf")] * 2
    try:
        with torch.inference_mode():
            state = method.init(field, t, y, field(t, y), h, reference.tol)
            for _ in range(TRIES):
                began = time.perf_counter()
                method.step(field, t, y, h, state, reference.tol)
                middle = time.perf_counter()
                field(t, y)
                best = [min(best[0], middle - began), min(best[1], time.perf_counter() - middle)]
    except (RejectStep, RuntimeError) as error:
        raise_if_exhausted(error)
        pass
    return tuple(best)
