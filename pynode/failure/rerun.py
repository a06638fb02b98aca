"""The last steps once more, watched: steps are pure, so that what made them fail shows again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from ..control import first_step
from ..dense import Attempt
from ..field import VectorField
from ..norm import Tolerance
from ..stats import Stats
from ..status import RejectStep, Status

ATTEMPTS = 60  # from a step of usual size, quartered again and again, to one that is none


class WatchedTolerance(Tolerance):
    """The same norm, which keeps what was measured: norms, and the latest vector (n,) in units of the tolerances."""

    def __init__(self, tol):
        super().__init__(tol.rtol, tol.atol, tol.size)
        self.vector, self.norms = None, []

    def ratio(self, error, y, y1):
        self.vector = error / torch.add(self.atol, torch.maximum(y.abs(), y1.abs()), alpha=self.rtol)
        self.norms.append(super().ratio(error, y, y1))
        return self.norms[-1]

    def rms(self, v, scale):
        self.vector = v / scale
        self.norms.append(super().rms(v, scale))
        return self.norms[-1]


class WatchedField(VectorField):
    """The same field with counts of its own, which keeps the first point (t, y, f) at which f was not finite."""

    def __init__(self, field, found=None):
        self.__dict__.update(field.__dict__)
        self.stats, self.found = Stats(), [] if found is None else found
        if self.parts is not None:
            self.parts = tuple(WatchedField(part, self.found) for part in self.parts)

    def __call__(self, t, y):
        out = super().__call__(t, y)
        if not self.found and not bool(torch.isfinite(out).all()):
            self.found.append((float(t), y.detach().clone(), out.detach().clone()))
        return out


@dataclass
class Rerun:
    """What the last steps showed. error: (n,) of the last attempt, in units of the tolerances; newton: norms of the last failed
    iteration; point: (t, y, f) where f was first not finite, or None; noise: whether the error stays as the step shrinks."""

    attempts: list = field(default_factory=list)
    error: torch.Tensor | None = None
    newton: tuple = ()
    point: tuple | None = None
    noise: bool = False


@torch.no_grad()
def rerun(case) -> Rerun:
    """Steps from the last good state on, until they fail beyond doubt."""
    watched, tol = WatchedField(case.field), WatchedTolerance(case.tolerance)
    t, y = case.t, case.y
    result = Rerun()
    try:
        f0 = watched.first(t, y)
        if not bool(torch.isfinite(f0).all()):
            result.point = (t, y, f0)
            return result
        h = case.options.step_size or first_step(watched, t, case.span[1], y, f0, case.method.error_order, tol, case.remaining)
        method = case.method.fixed() if case.options.step_size else case.method
        h = case.direction * min(max(h, case.size), case.remaining or h)
        state = method.init(watched, t, y, f0, h, tol)
    except RejectStep:
        return result
    for _ in range(ATTEMPTS):
        if t + h == t or (t - case.span[1]) * case.direction >= 0:
            break
        tol.norms.clear()
        try:
            step = method.step(watched, t, y, h, state, tol)
            failure = step.failure
        except RejectStep:
            step, failure = None, Status.DOMAIN
        good = step is not None and step.accepted
        if good and case.limits is not None and not case.limits.allow(t + h, step.y):
            good, failure = False, Status.DOMAIN
        result.attempts.append(Attempt(t, h, math.inf if step is None or failure else step.ratio, failure))
        if failure is Status.NEWTON:
            result.newton = tuple(tol.norms)
        elif failure is None:
            result.error = tol.vector
        if good:
            t, y, h, state = t + h, step.y, h * step.factor, step.state
        else:
            h *= 0.25 if step is None or failure is Status.DOMAIN else min(step.factor, 0.9)
            state = state if step is None else step.state
    result.point = watched.found[0] if watched.found else None
    result.noise = _stays(result.attempts)
    return result


def _stays(attempts) -> bool:
    """Whether the error of rejected steps does not fall although they shrink by far: rounding, not truncation."""
    rejected = [a for a in attempts if a.failure is None and not a.accepted]
    if len(rejected) < 4:
        return False
    first, last = rejected[0], rejected[-1]
    return abs(last.h) < 1e-3 * abs(first.h) and last.ratio > 0.3 * first.ratio
