"""The reference solve: one solve of the problem by a robust stiff method, with a record of every
attempted step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from ..algebra.structure import Krylov, Sparse
from ..backends.torch import loop as engine
from ..backends.torch.inference import run_in_inference_mode, serves_inference
from ..core.norm import Tolerance
from ..core.options import Options
from ..core.protocols import Step
from ..core.status import RejectStep, Status
from ..core.stop_conditions import Limits
from ..core.trajectory import Trajectory
from ..core.vector_field import VectorField
from ..failure.rerun import WatchedTolerance
from ..methods import registry
from ..methods.base import Method

ROSENBROCK_UP_TO = 100  # states: then a Jacobian and a factorisation in each step are cheap
DENSE_UP_TO = 1000
LOOK = 1000  # the progress is checked after so many attempts
MEMORY = 1e9  # bytes of states and polynomials, about eight vectors a step


class AttemptedStep(NamedTuple):
    """One attempted step from t to t + h. ratio: scaled error, infinite if the step could not be
    completed; component: flat index of the largest scaled error, or None."""

    t: float
    h: float
    ratio: float
    accepted: bool
    component: int | None


class ChatterLimit(Limits):
    """Limits that end a reference solve as soon as it chatters. In a sliding mode f jumps back and
    forth in every step. Most steps are refused, and the others are so short that max_steps of them
    would not reach the end."""

    def __init__(
        self,
        field: VectorField,
        seconds: float,
        attempts: Sequence[AttemptedStep],
        end: float,
        max_steps: int,
    ) -> None:
        super().__init__(field.layout, field.stats, seconds=seconds)
        self.attempts = attempts
        self.end = end
        self.most = max_steps / LOOK
        self.chatters = False

    def expired(self) -> bool:
        """Whether the solve chatters, or its time is over."""
        count = len(self.attempts)
        if count and count % LOOK == 0:
            last = self.attempts[-LOOK:]
            taken = [abs(attempt.h) for attempt in last if attempt.accepted]
            remaining = abs(self.end - last[-1].t)
            self.chatters = len(taken) < LOOK / 2 and remaining > self.most * sum(taken)
        return self.chatters or super().expired()


@dataclass(frozen=True, repr=False)
class RecordingMethod(Method):
    """The inner method. It appends its attempts to a list."""

    inner: Any
    attempts: list[AttemptedStep] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def order(self) -> int:
        return self.inner.order

    @property
    def reference(self) -> str:
        return self.inner.reference

    @property
    def error_order(self) -> int:
        return self.inner.error_order

    def init(
        self,
        field: VectorField,
        t: float,
        y: torch.Tensor,
        f0: torch.Tensor,
        h: float,
        tol: Tolerance,
    ) -> Any:
        return self.inner.init(field, t, y, f0, h, tol)

    def step(
        self,
        field: VectorField,
        t: float,
        y: torch.Tensor,
        h: float,
        state: Any,
        tol: WatchedTolerance,
    ) -> Any:
        """One step of the inner method; y: (n,)."""
        tol.begin()
        try:
            step = self.inner.step(field, t, y, h, state, tol)
        except RejectStep:
            self.attempts.append(AttemptedStep(t, h, float("inf"), False, None))
            raise
        component = None
        if tol.vector is not None and step.failure is None:
            component = int(tol.vector.abs().argmax())
        self.attempts.append(AttemptedStep(t, h, step.ratio, step.accepted, component))
        return step

    def polynomial(self, field: VectorField, step: Step) -> torch.Tensor:
        return self.inner.polynomial(field, step)

    def trim_tape(self, tape: Any) -> None:
        return None  # the polynomials are enough


@dataclass(frozen=True)
class ReferenceSolve:
    """The result of the reference solve.

    method: that made it.
    times: (K + 1,) floats, the start and the ends of all accepted steps.
    states: (K + 1, n) at these times.
    attempts: all attempted steps in order.
    status: how it ended.
    path: its Trajectory, with the polynomials of the steps.
    tol: the norm of the errors.
    seconds: wall-clock time.
    evaluations: of f.
    bound: the field's native code, if the solve was native (native_steps.py); else None.
    """

    method: Any
    times: list[float]
    states: torch.Tensor
    attempts: list[AttemptedStep]
    status: Status
    path: Trajectory
    tol: Tolerance
    seconds: float
    evaluations: int
    bound: Any = None

    @property
    def engine(self) -> str:
        """The name of the engine."""
        if self.bound is None:
            return "torch"
        return "native"

    @property
    def reached(self) -> float:
        """The time that was reached."""
        return self.times[-1]

    @property
    def span(self) -> float:
        """The length of the part that was reached."""
        return abs(self.times[-1] - self.times[0])

    @property
    def sizes(self) -> list[float]:
        """|h| of the accepted steps, (K,)."""
        return [abs(b - a) for a, b in zip(self.times, self.times[1:])]

    @property
    def accepted(self) -> list[AttemptedStep]:
        """The accepted steps."""
        return [attempt for attempt in self.attempts if attempt.accepted]

    @property
    def rejected(self) -> list[AttemptedStep]:
        """The refused steps."""
        return [attempt for attempt in self.attempts if not attempt.accepted]

    def state(self, t: float) -> torch.Tensor:
        """The state, (n,), at a time of the part that was reached."""
        return self.path.evaluate([t])[0]

    def dominating(self) -> list[tuple[int, float]]:
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


def economical() -> Krylov | Sparse:
    """The structure for the Jacobian of a large system of unknown structure: sparse if SciPy is
    installed, otherwise Krylov."""
    try:
        import scipy.sparse  # noqa: F401
    except ImportError:
        return Krylov()
    return Sparse()


def solve_reference(
    field: VectorField,
    times: Sequence[float],
    y0: torch.Tensor,
    rtol: float,
    atol: torch.Tensor,
    max_steps: int,
    max_seconds: float,
) -> ReferenceSolve:
    """Solve from times[0] to times[-1] (floats) and record the steps. y0: (n,); atol: 0-d or (n,).

    It ends at the limits of steps and seconds, or when it chatters. The ReferenceSolve then holds
    the part that was reached, as it does after a failure.
    """
    name, options, tol = reference_settings(field, rtol, atol, max_steps)
    method = RecordingMethod(registry.get(name))
    began = time.perf_counter()
    before = field.stats.nfe
    limits = ChatterLimit(field, max_seconds, method.attempts, times[-1], options.max_steps)

    def run():
        method.attempts.clear()
        # The limit on steps is for this solve only.
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
    return ReferenceSolve(
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


def reference_settings(
    field: VectorField, rtol: float, atol: torch.Tensor, max_steps: int
) -> tuple[str, Options, WatchedTolerance]:
    """(name of the method, options, tolerance) of a reference solve. It takes no more steps than
    memory has room for."""
    name = "kencarp47"
    if field.size <= ROSENBROCK_UP_TO:
        name = "rodas5p"
    steps = max(100, min(max_steps, int(MEMORY / (8 * field.size * field.dtype.itemsize))))
    options = replace(Options(rtol=rtol, max_steps=steps), atol=atol)
    return name, options, WatchedTolerance(Tolerance(rtol, atol, field.size))


def starts(field: VectorField, t0: float, y0: torch.Tensor) -> bool:
    """Whether f is finite at the start."""
    try:
        return bool(torch.isfinite(field.initial_slope(t0, y0)).all())
    except RejectStep:
        return False
