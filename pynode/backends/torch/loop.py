"""The torch engine: one system, one step size for all of its states."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.arithmetic import Floats
from ...core.norm import Tolerance
from ...core.status import Exhausted, RejectStep, Status
from ...core.step_control import (
    FIXED_STOP_TOLERANCE,
    STOP_TOLERANCE,
    bounded_step,
    first_step,
    next_step,
    planned,
    shortened,
    stops_between,
    vanishes,
)
from ...core.stop_conditions import guarded
from ...core.trajectory import Attempt, Trajectory, derivative, evaluate_at
from ...core.transfer import doubles
from ...methods.base import Step
from .checkpoints import Recording

if TYPE_CHECKING:
    from ...core.options import Options
    from ...core.protocols import StepObserver
    from ...core.stop_conditions import Limits
    from ...core.vector_field import VectorField
    from ...methods.base import Method

# As a fraction of the first step. At t = 0 rounding sets no limit, and a smaller step counts as
# zero.
SMALLEST = 1e-40
_HISTORY = 32  # attempted steps kept for the report of a failure


def integrate(
    field: VectorField,
    method: Method,
    y0: Tensor,
    times: list[float],
    options: Options,
    atol: Tensor,
    record: Callable[..., Recording] | None = None,
    dense: bool = False,
    slopes: bool = False,
    watch: StepObserver | None = None,
    limits: Limits | None = None,
    tol: Tolerance | None = None,
) -> Trajectory:
    """Integrate from times[0] to times[-1] with outputs at all times, in either direction.

    y0: (n,); times: list of floats, strictly monotone; record(field, method, tol) -> Recording, or
    None; dense: record the steps and their polynomials; slopes: dy/dt of the polynomials at the
    outputs. watch: looks for events; limits: refuse steps or stop; tol: the norm of errors, by
    default the root mean square over all components. A numerical failure ends the trajectory early,
    and its status says why.
    """
    tol = tol or Tolerance(options.rtol, atol, len(y0))
    t = times[0]
    end = times[-1]
    direction = math.copysign(1.0, end - t)
    try:
        f0 = field.initial_slope(t, y0)
    except RejectStep:
        path = Trajectory(t, y0, None, 0.0)
        path.status = Status.DOMAIN
        return path
    if options.step_size is not None:
        method = method.fixed()
        h = options.step_size
    elif options.first_step is not None:
        h = options.first_step
    else:
        try:
            h = first_step(field, t, end, y0, f0, method.error_order, tol, options.max_step)
        except RejectStep:
            h = 1e-6 * abs(end - t)
    fixed = options.step_size is not None
    h = bounded_step(h, t, end, options.max_step, fixed, direction)
    path = Trajectory(t, y0, f0, h)
    path.times = times
    if not bool(torch.isfinite(f0).all()):
        path.status = Status.NONFINITE
    elif limits is not None and not field.stats.accepted and not limits.allow(t, y0):
        path.status = Status.DOMAIN
    else:
        if watch is not None:
            watch.begin(t, y0)
        if record is None and dense:
            record = Recording
        if record is not None:
            path.recording = record(field, method, tol)
        most: float | None = options.max_nfe
        if most is None:
            most = method.evaluations_a_step * options.max_steps
        with guarded(field.stats, most, limits):
            loop = _Loop(field, method, path, options, tol, h)
            loop.max_nfe = most
            loop.watch = watch
            loop.limits = limits
            loop.dense = dense
            loop.slopes = slopes
            loop.run()
    return path


class _Loop:
    """The steps from the first output time to the last.

    t, y: the present point of the solve; h: the step to try; state: of the method; position: of the
    next output; attempts: steps tried in the whole solve, all its segments together; stops: times
    at which steps must end, the last one is the end. A step that ends nearer to a stop than
    ``stop_tolerance`` steps is stretched to it. fixed: whether all steps have one size. dense: keep
    the polynomials; slopes: dy/dt at the outputs, too.
    """

    def __init__(
        self,
        field: VectorField,
        method: Any,
        path: Trajectory,
        options: Options,
        tol: Tolerance,
        h: float,
    ) -> None:
        self.field = field
        self.method = method
        self.path = path
        self.options = options
        self.tol = tol
        self.times = path.times
        self.t = self.times[0]
        self.y = path.y0
        self.h = h
        self.direction = math.copysign(1.0, self.times[-1] - self.t)
        self.least = max(SMALLEST * abs(h), sys.float_info.min)
        self.stops = deque(stops_between(options.tstops, self.t, self.times[-1], self.least))
        self.state = method.init(field, self.t, self.y, path.f0, h, tol)
        self.position = 1
        self.attempts = field.stats.accepted + field.stats.rejected
        self.history: deque[tuple] = deque(maxlen=_HISTORY)
        self.fixed = options.step_size is not None
        if self.fixed:
            self.stop_tolerance = FIXED_STOP_TOLERANCE
        else:
            self.stop_tolerance = STOP_TOLERANCE
        self.max_nfe = math.inf
        self.watch: Any = None
        self.limits: Limits | None = None
        self.dense = False
        self.slopes = False

    def run(self) -> None:
        path = self.path
        self._tell_horizon()
        path.status = self._limit_reached()
        while path.status is None:
            try:
                path.status = self._step()
            except Exhausted as limit:
                path.status = limit.status
            if path.status is None:
                path.status = self._limit_reached()
        path.attempts = [Attempt(*attempt) for attempt in self.history]
        if self.watch is None:
            path.hits = []
        else:
            path.hits = self.watch.hits

    def _tell_horizon(self) -> None:
        """Tell compiled steps how far they may look ahead: to the next stop at most."""
        if self.field.compiled is not None:
            self.field.compiled.set_horizon(
                self.stops[0], self.stop_tolerance, self.options.max_step
            )

    def _limit_reached(self) -> Status | None:
        """The status that ends the solve before the next step, or None."""
        last = self.path.last
        if self.attempts >= self.options.max_steps:
            return Status.MAX_STEPS
        if self.field.stats.nfe >= self.max_nfe:
            return Status.MAX_EVALUATIONS
        at_edge = last is not None and last.failure in (Status.DOMAIN, Status.NONFINITE)
        if vanishes(self.h, self.t, self.stops[0], self.least, at_edge):
            return cause(last.failure if last is not None else None)
        if abs(self.h) < self.options.min_step and last is not None and not last.accepted:
            if last.failure is Status.DOMAIN:
                return Status.DOMAIN
            return Status.MIN_STEP
        if self.limits is not None and self.limits.expired():
            return Status.MAX_SECONDS
        return None

    def _step(self) -> Status | None:
        """Try one step. Return the status that ends the solve, or None."""
        t = self.t
        proposed = self.h
        h, t1, hits_stop = next_step(
            Floats, t, proposed, self.stops[0], self.stop_tolerance, self.direction
        )
        self.h = h
        self.attempts += 1
        recording = self.path.recording
        if recording is not None and (self.path.last is None or self.path.last.accepted):
            recording.before_step(self.y, self.state)
        step, coefficients = self._attempt(h, t1)
        if self.fixed and step.accepted and not math.isfinite(step.y.sum().item()):
            # Fixed steps have no error test to notice this, and the user did not ask for a smaller
            # step.
            self.history.append((t, h, math.inf, Status.DIVERGED))
            return Status.DIVERGED
        before = self.state
        self.state = step.state
        self.path.last = step
        self.history.append((t, h, step.ratio, step.failure))
        if not step.accepted:
            self.field.stats.rejected += 1
            if recording is not None and self.state is not before:
                recording.on_reject(h)
            self.h = shortened(h, t, t1, step.factor)
            return None
        status = self._accept(step, t1, coefficients, hits_stop)
        if status is None:
            self._plan(step, proposed, hits_stop)
        return status

    def _attempt(self, h: float, t1: float) -> tuple[Step, Tensor | None]:
        """(Step, its polynomial, or None if it is not needed)."""
        t = self.t
        times = self.times
        outputs = False
        if self.position < len(times) and self.direction * (times[self.position] - t1) <= 0:
            outputs = self.slopes or times[self.position] != t1
        coefficients = None
        try:
            step = self.method.step(self.field, t, self.y, h, self.state, self.tol)
            if step.accepted and (outputs or self.dense or self.watch is not None):
                coefficients = self.method.polynomial(self.field, step)
        except RejectStep:
            step = Step.failed(t, h, 0.25, self.state, Status.DOMAIN)
        limits = self.limits
        if limits is not None and step.accepted and not limits.allow(t1, step.y, self.y):
            step = Step.failed(t, h, 0.5, self.state, Status.DOMAIN)
        return step, coefficients

    def _accept(self, step: Step, t1: float, coefficients: Any, hits_stop: bool) -> Status | None:
        """Move to the end of a step, or to the event within it. Return the status that ends the
        solve here, or None."""
        path = self.path
        cut = None
        if self.watch is not None:
            cut = self.watch.check_step(step, t1, coefficients)
        self.field.stats.accepted += 1
        path.end = t1
        if cut is None:
            self.t = t1
            self.y = step.y
        else:
            self.t = cut.t
            self.y = cut.y
        times = self.times
        if self.position < len(times) and self.direction * (times[self.position] - self.t) <= 0:
            self._write_outputs(step, coefficients)
        if path.recording is not None:
            path.recording.on_accept(step)
            if self.dense:
                path.polynomials.append(coefficients)
        path.t = self.t
        path.y = self.y
        if self.limits is not None and self.limits.stop(self.t, self.y):
            return Status.CALLBACK
        if cut is not None:
            return self.watch.status
        if hits_stop and len(self.stops) == 1:
            return Status.SUCCESS
        return None

    def _write_outputs(self, step: Step, coefficients: Any) -> None:
        """Write the outputs inside a step, at least one."""
        times = self.times
        first = self.position
        while self.position < len(times) and self.direction * (times[self.position] - self.t) <= 0:
            self.position += 1
        reached = times[first : self.position]
        _outputs(self.path, step, reached, self.t, self.y, coefficients, self.slopes)

    def _plan(self, step: Step, proposed: float, hits_stop: bool) -> None:
        """The next step to try, after one that was accepted."""
        if hits_stop:
            self.stops.popleft()
            self._tell_horizon()
        self.h = planned(
            self.t,
            self.h,
            step.factor,
            proposed,
            self.fixed,
            hits_stop,
            self.direction,
            self.options.max_step,
            self.times[-1],
        )


def _outputs(
    path: Trajectory,
    step: Step,
    times: Sequence[float],
    t: float,
    y: Tensor,
    coefficients: Any,
    slopes: bool,
) -> None:
    """Append the outputs within a step. The output at t is y. coefficients: the step's
    polynomial."""
    inside = [s for s in times if s != t]
    if inside or slopes:
        thetas = [(s - step.t) / step.h for s in times]
        path.ys.extend(evaluate_at(coefficients, thetas[: len(inside)]).unbind(0))
        if slopes:
            theta = doubles(thetas, step.y.device)
            path.slopes.extend((derivative(coefficients, theta) / step.h).unbind(0))
    if len(inside) < len(times):
        path.ys.append(y)


def cause(failure: Status | None) -> Status:
    """Why the steps became too small. failure: of the last attempt, None if only its error was too
    large."""
    if failure is None:
        return Status.STEP_TOO_SMALL
    return failure
