"""The walk: one solve of the problem by a robust stiff method, with every attempted step noted."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from ..algebra.structure import Krylov, Sparse
from ..backends.torch import loop as engine
from ..backends.torch.inference import run_in_inference_mode, serves_inference
from ..core.norm import Tolerance
from ..core.options import Options
from ..core.status import RejectStep, Status
from ..core.stop_conditions import Limits
from ..core.trajectory import Trajectory
from ..failure.rerun import WatchedTolerance
from ..methods import registry
from ..methods.base import Method, OneStep

ROSENBROCK_UP_TO = 100  # states for which a Jacobian and a factorisation a step are cheap
DENSE_UP_TO = 1000
LOOK = 1000  # attempts, after which it is looked at whether they lead anywhere
MEMORY = 1e9  # bytes of states and polynomials, about eight vectors a step


class Tried(NamedTuple):
    """One attempted step from t to t + h. ratio: scaled error, infinite where the step could not be
    completed; component: flat index of the largest scaled error, None where there is none."""

    t: float
    h: float
    ratio: float
    accepted: bool
    component: int | None


class ChatterLimit(Limits):
    """The limits of a walk, given up as soon as it chatters: in a sliding mode f jumps back and
    forth at every step, most are refused, and the rest so short that at this pace max_steps of them
    do not reach the end."""

    def __init__(self, field, seconds, attempts, end, max_steps):
        super().__init__(field.layout, field.stats, seconds=seconds)
        self.attempts = attempts
        self.end = end
        self.most = max_steps / LOOK
        self.chatters = False

    def expired(self):
        count = len(self.attempts)
        if count and count % LOOK == 0:
            last = self.attempts[-LOOK:]
            taken = [abs(attempt.h) for attempt in last if attempt.accepted]
            self.chatters = len(taken) < LOOK / 2 and abs(self.end - last[-1].t) > self.most * sum(
                taken
            )
        return self.chatters or super().expired()


@dataclass(frozen=True)
class Watched(Method):
    """The inner method, its attempts written into a list."""

    inner: OneStep
    attempts: list[Tried]

    @classmethod
    def of(cls, inner):
        return cls(inner.name, inner.order, inner.reference, inner, [])

    @property
    def error_order(self):
        return self.inner.error_order

    def init(self, field, t, y, f0, h, tol):
        return self.inner.init(field, t, y, f0, h, tol)

    def step(self, field, t, y, h, state, tol):
        """One step of the inner method; y: (n,)."""
        tol.begin()
        try:
            step = self.inner.step(field, t, y, h, state, tol)
        except RejectStep:
            self.attempts.append(Tried(t, h, float("inf"), False, None))
            raise
        measured = tol.vector is not None and step.failure is None
        if measured:
            component = int(tol.vector.abs().argmax())
        else:
            component = None
        self.attempts.append(Tried(t, h, step.ratio, step.accepted, component))
        return step

    def polynomial(self, field, step):
        return self.inner.polynomial(field, step)

    def trim_tape(self, tape):
        return None  # the polynomials tell all that is asked of the steps


@dataclass(frozen=True)
class Walk:
    """What the walk saw. times: (K + 1,) floats, of the start and of the ends of all accepted
    steps; states: (K + 1, n) there; attempts: all attempted steps in their order; status: how it
    ended, and reached: at what time; path: with the polynomials of the steps; tol: norm of the
    errors; seconds: of the clock; evaluations: of f."""

    method: OneStep
    times: list
    states: torch.Tensor
    attempts: list
    status: Status
    path: Trajectory
    tol: Tolerance
    seconds: float
    evaluations: int

    @property
    def reached(self) -> float:
        return self.times[-1]

    @property
    def span(self) -> float:
        """Length of the part that was reached."""
        return abs(self.times[-1] - self.times[0])

    @property
    def sizes(self) -> list:
        """|h| of the accepted steps, (K,)."""
        return [abs(b - a) for a, b in zip(self.times, self.times[1:])]

    @property
    def accepted(self) -> list:
        return [attempt for attempt in self.attempts if attempt.accepted]

    @property
    def rejected(self) -> list:
        return [attempt for attempt in self.attempts if not attempt.accepted]

    def state(self, t: float) -> torch.Tensor:
        """(n,) at a time of the part that was reached."""
        return self.path.evaluate([t])[0]

    def dominating(self) -> list:
        """[(flat index, share of the attempted steps whose error it dominates)], the largest share
        first."""
        counts: dict[int, int] = {}
        for attempt in self.attempts:
            if attempt.component is not None:
                counts[attempt.component] = counts.get(attempt.component, 0) + 1
        total = sum(counts.values())
        return sorted(
            ((i, count / total) for i, count in counts.items()), key=lambda item: -item[1]
        )


def economical():
    """The structure of a large system's Jacobian about which nothing is known: sparse where SciPy
    is installed."""
    try:
        import scipy.sparse  # noqa: F401
    except ImportError:
        return Krylov()
    return Sparse()


def walk(field, times, y0, rtol, atol, max_steps, max_seconds) -> Walk:
    """Solve from times[0] to times[-1] (floats) and note the steps. y0: (n,); atol: 0-d or (n,).

    Ends at the limits of steps and seconds at the latest, and sooner where it chatters; then, and
    where the solve fails, the Walk is of the part that was reached.
    """
    method = Watched.of(registry.get("rodas5p" if field.size <= ROSENBROCK_UP_TO else "kencarp47"))
    steps = max(100, min(max_steps, int(MEMORY / (8 * field.size * field.dtype.itemsize))))
    options = replace(Options(rtol=rtol, max_steps=steps), atol=atol)
    tol = WatchedTolerance(Tolerance(rtol, atol, field.size))
    began = time.perf_counter()
    before = field.stats.nfe
    limits = ChatterLimit(field, max_seconds, method.attempts, times[-1], steps)

    def run():
        method.attempts.clear()
        # The limit on steps is that of this walk alone.
        field.stats.accepted = field.stats.rejected = 0
        return engine.integrate(
            field, method, y0, times, options, atol, dense=True, limits=limits, tol=tol
        )

    path = run_in_inference_mode(run, serves_inference(field, times[0], y0))
    if limits.chatters:
        path.status = Status.MAX_STEPS
    taken = path.steps
    states = [path.y0] + [step.y for step in taken]
    ends = [path.t0] + [step.t + step.h for step in taken]
    if taken:
        ends[-1] = path.t
    return Walk(
        method.inner,
        ends,
        torch.stack(states).clone(),
        method.attempts,
        path.status,
        path,
        tol,
        time.perf_counter() - began,
        field.stats.nfe - before,
    )
