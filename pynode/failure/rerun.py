"""Repeats the last steps and observes them. Steps are pure, so the cause of the failure shows
again."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch

from ..core.memory import raise_if_exhausted
from ..core.norm import Tolerance
from ..core.stats import Stats
from ..core.status import Status
from ..core.step_control import first_step, shortened
from ..core.trajectory import Attempt
from ..core.vector_field import VectorField
from .failed_solve import Case

ATTEMPTS = 60  # enough to quarter a step of usual size until it vanishes
PATIENCE = 5.0  # limit in seconds for these steps, and for one question to an expensive f


class WatchedTolerance(Tolerance):
    """The same norm, which stores its measurements since the last ``begin``.

    norms: all of them.
    vector: the latest vector (n,), in units of the tolerances. After a complete step this is its
        error, up to a factor.
    """

    def __init__(self, tol: Tolerance) -> None:
        super().__init__(tol.rtol, tol.atol, tol.size)
        self.vector: torch.Tensor | None = None
        self.norms: list[float] = []

    def begin(self) -> None:
        """Forget all measurements."""
        self.vector = None
        self.norms = []

    def ratio(self, error: torch.Tensor, y: torch.Tensor, y1: torch.Tensor) -> float:
        return self._record_norm(
            error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        )

    def rms(self, v: torch.Tensor, scale: torch.Tensor | float) -> float:
        return self._record_norm(v / scale)

    def rounding(
        self, y: torch.Tensor, increment: torch.Tensor, scale: torch.Tensor | float
    ) -> float:
        return self.noise * super().rms(y.abs() + increment.abs(), scale)

    def _record_norm(self, scaled):
        if len(scaled) == self.size:  # not all stages of a step together
            self.vector = scaled
        self.norms.append(super().rms(scaled, 1.0))
        return self.norms[-1]


class WatchedField(VectorField):
    """The same field with its own counts. nonfinite: the first point (t, y, f) at which f was not
    finite."""

    def __init__(self, field: VectorField, nonfinite: list | None = None) -> None:
        self.__dict__.update(field.__dict__)
        self.stats = Stats()
        if nonfinite is None:
            self.nonfinite = []
        else:
            self.nonfinite = nonfinite
        if self.parts is not None:
            self.parts = tuple(WatchedField(part, self.nonfinite) for part in self.parts)

    def __call__(self, t: float, y: torch.Tensor) -> torch.Tensor:
        out = super().__call__(t, y)
        if not self.nonfinite and not bool(torch.isfinite(out).all()):
            self.nonfinite.append((float(t), y.detach().clone(), out.detach().clone()))
        return out


@dataclass
class Rerun:
    """What the last steps showed.

    attempts: the repeated steps.
    error: (n,) of the last attempt with a measured error, in units of the tolerances.
    newton: norms of the last failed iteration.
    point: (t, y, f) where f was first not finite, or None.
    noise: whether the error stays the same while the step shrinks.
    first_size: the size of the first of these steps.
    seconds: for one evaluation of f.
    """

    attempts: list[Attempt] = field(default_factory=list)
    error: torch.Tensor | None = None
    newton: tuple[float, ...] = ()
    point: tuple[float, torch.Tensor, torch.Tensor] | None = None
    noise: bool = False
    first_size: float = 0.0
    seconds: float = 0.0

    def affords(self, evaluations: int) -> bool:
        """Whether this number of evaluations of f takes at most PATIENCE."""
        return evaluations * self.seconds < PATIENCE


def rerun(case: Case) -> Rerun:
    """Repeat steps from the last good state until they fail for certain. Any exception of f fails a
    step, as RejectStep does."""
    watched = WatchedField(case.field)
    tol = WatchedTolerance(case.tolerance)
    t = case.t
    y = case.y.clone()
    end = case.times[-1]
    result = Rerun()
    began = time.perf_counter()
    try:
        started = _start(case, watched, y, tol, result)
    except Exception as error:
        raise_if_exhausted(error)
        return result
    if started is None:
        return result
    method, h, state = started
    for _ in range(ATTEMPTS):
        h = case.direction * min(abs(h), case.options.max_step, abs(end - t))
        if t + h == t or time.perf_counter() - began > PATIENCE:
            break
        tol.begin()
        step, failure, good = _attempt(case, method, watched, t, y, h, state, tol)
        result.attempts.append(
            Attempt(t, h, math.inf if step is None or failure else step.ratio, failure)
        )
        if failure is Status.NEWTON:
            result.newton = tuple(tol.norms)
        elif failure is None and not case.options.step_size and tol.vector is not None:
            result.error = tol.vector * (step.ratio / max(tol.rms(tol.vector, 1.0), 1e-300))
        if good:
            t = t + h
            y = step.y
            h = h * step.factor
            state = step.state
        elif failure is Status.DOMAIN:
            h = 0.25 * h
        else:
            h = shortened(h, t, t + h, step.factor)
            state = step.state
    result.seconds = (time.perf_counter() - began) / max(watched.stats.nfe, 1)
    if watched.nonfinite:
        result.point = watched.nonfinite[0]
    else:
        result.point = None
    result.noise = _is_rounding(result.attempts)
    return result


def _start(case, field, y, tol, result):
    """(method, first step h, state of the method) at the last good state y, (n,). None if f is not
    finite there. Writes its observations to result."""
    t = case.t
    end = case.times[-1]
    began = time.perf_counter()
    f0 = field.initial_slope(t, y)
    result.seconds = time.perf_counter() - began
    if not bool(torch.isfinite(f0).all()):
        result.point = (t, y, f0)
        return None
    longest = min(abs(end - t), case.options.max_step)
    fixed = case.options.step_size
    h = fixed or first_step(field, t, end, y, f0, case.method.error_order, tol, longest)
    if fixed:
        method = case.method.fixed()
    else:
        method = case.method
    h = case.direction * min(max(h, case.size if case.attempts else 0.0), longest)
    result.first_size = abs(h)
    return method, h, method.init(field, t, y, f0, h, tol)


def _attempt(case, method, field, t, y, h, state, tol):
    """(Step, the cause of its failure or None, whether it is accepted) for one step from t to t +
    h; y: (n,). The Step is None if f raised."""
    try:
        step = method.step(field, t, y, h, state, tol)
        if step.accepted and case.limits is not None and not case.limits.allow(t + h, step.y, y):
            return step, Status.DOMAIN, False
    except Exception as error:
        raise_if_exhausted(error)
        return None, Status.DOMAIN, False
    return step, step.failure, step.accepted


def _is_rounding(attempts) -> bool:
    """Whether the error of rejected steps does not fall although they shrink by a large factor:
    then it is rounding, not truncation."""
    rejected = [a for a in attempts if a.failure is None and not a.accepted]
    if len(rejected) < 4:
        return False
    first = rejected[0]
    last = rejected[-1]
    return abs(last.h) < 1e-3 * abs(first.h) and last.ratio > 0.3 * first.ratio
