"""The torch engine: one system, one step size for all of its states."""

from __future__ import annotations

import math
import sys
from collections import deque

import torch

from ...core.norm import Tolerance
from ...core.status import Exhausted, RejectStep, Status
from ...core.step_control import RESOLUTION, as_moved, first_step, shortened
from ...core.stop_conditions import guarded
from ...core.trajectory import Attempt, Trajectory, evaluate_at, slope
from ...methods.base import Step
from .checkpoints import Recording

# Of the first step: at t = 0, where rounding sets no limit, a step below it is none.
SMALLEST = 1e-40
_HISTORY = 32  # attempted steps kept for the report of a failure


def integrate(
    field,
    method,
    y0,
    times,
    options,
    atol,
    record=None,
    dense=False,
    slopes=False,
    watch=None,
    limits=None,
    tol=None,
) -> Trajectory:
    """Integrate from times[0] to times[-1] with outputs at all times, in either direction.

    y0: (n,); times: list of floats, strictly monotone; record(field, method, tol) -> Recording, or
    None; dense: record the steps and their polynomials; slopes: dy/dt of the polynomials at the
    outputs. watch: looks for events; limits: refuse steps or stop; tol: the norm of errors, by
    default the root mean square over all components. Numerical failure ends the trajectory early
    and is told in its status.
    """
    tol = tol or Tolerance(options.rtol, atol, len(y0))
    t = times[0]
    end = times[-1]
    if end > t:
        direction = 1.0
    else:
        direction = -1.0
    try:
        f0 = field.first(t, y0)
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
    if options.step_size is None:
        h = max(abs(h), RESOLUTION * abs(t))
    h = direction * min(abs(h), options.max_step, abs(end - t))
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
        if record is None:
            path.recording = None
        else:
            path.recording = record(field, method, tol)
        most = options.max_nfe
        if most is None:
            most = method.evaluations_a_step * options.max_steps
        with guarded(field.stats, most, limits):
            _march(field, method, path, times, options, tol, h, dense, slopes, watch, limits, most)
    return path


def _march(field, method, path, times, options, tol, h, dense, slopes, watch, limits, max_nfe):
    t = times[0]
    y = path.y0
    end = times[-1]
    recording = path.recording
    if end > t:
        direction = 1.0
    else:
        direction = -1.0
    stats = field.stats
    history = deque(maxlen=_HISTORY)
    least = max(SMALLEST * abs(h), sys.float_info.min)
    stops = _stops(options.tstops, t, end, least)
    state = method.init(field, t, y, path.f0, h, tol)
    # Of the whole solve, of which this may be one leg of many.
    position = 1
    attempts = stats.accepted + stats.rejected
    # A step that ends this near to a stop, in steps, is stretched to it.
    fixed = options.step_size is not None
    if fixed:
        slack = 1e-9
    else:
        slack = 1e-3
    if field.compiled is not None:
        field.compiled.towards(stops[0], slack, options.max_step)
    while True:
        if attempts >= options.max_steps:
            path.status = Status.MAX_STEPS
        elif stats.nfe >= max_nfe:
            path.status = Status.MAX_EVALUATIONS
        elif (abs(h) < least or t + h == t) and abs(h) < abs(stops[0] - t):
            path.status = _cause(path.last)
        elif abs(h) < options.min_step and path.last is not None and not path.last.accepted:
            if path.last.failure is Status.DOMAIN:
                path.status = Status.DOMAIN
            else:
                path.status = Status.MIN_STEP
        elif limits is not None and limits.expired():
            path.status = Status.MAX_SECONDS
        if path.status is not None:
            break
        stop = stops[0]
        proposed = h
        landing = direction * (t + h - stop) >= -slack * abs(h)
        if landing:
            t1 = stop
        else:
            t1 = t + h
        h = as_moved(h, t, t1)
        due = position < len(times) and direction * (times[position] - t1) <= 0
        curved = dense or watch is not None or (due and (slopes or times[position] != t1))
        attempts += 1
        if recording is not None and (path.last is None or path.last.accepted):
            recording.begin(y, state)
        try:
            step = method.step(field, t, y, h, state, tol)
            if curved and step.accepted:
                coefficients = method.polynomial(field, step)
            else:
                coefficients = None
        except RejectStep:
            step = Step.failed(t, h, 0.25, state, Status.DOMAIN)
        except Exhausted as limit:
            path.status = limit.status
            break
        if limits is not None and step.accepted and not limits.allow(t1, step.y, y):
            step = Step.failed(t, h, 0.5, state, Status.DOMAIN)
        if fixed and step.accepted and not math.isfinite(step.y.sum().item()):
            # Without an error to measure nothing else would tell; and a smaller step is not what
            # was asked for.
            path.status = Status.DIVERGED
            history.append((t, h, math.inf, path.status))
            break
        before = state
        state = step.state
        path.last = step
        history.append((t, h, step.ratio, step.failure))
        if not step.accepted:
            stats.rejected += 1
            if recording is not None and state is not before:
                recording.refuse(h)
            h = shortened(h, t, t1, step.factor)
            continue
        try:
            if watch is None:
                cut = None
            else:
                cut = watch.scan(step, t1, coefficients)
        except Exhausted as limit:
            path.status = limit.status
            break
        stats.accepted += 1
        t = t1
        y = step.y
        path.end = t1
        if cut is not None:
            t = cut.t
            y = cut.y
        first = position
        while position < len(times) and direction * (times[position] - t) <= 0:
            position += 1
        if position > first:
            _outputs(path, step, times[first:position], t, y, coefficients, slopes)
        if recording is not None:
            recording.accept(step)
            if dense:
                path.polynomials.append(coefficients)
        path.t = t
        path.y = y
        if limits is not None and limits.stop(t, y):
            path.status = Status.CALLBACK
        elif cut is not None:
            path.status = watch.status
        elif landing and len(stops) == 1:
            path.status = Status.SUCCESS
        if path.status is not None:
            break
        # A fixed step stays what was asked for, by however little the time moved otherwise.
        if fixed:
            h = proposed
        else:
            h = h * step.factor
        if landing:
            # The step was shortened to end at a stop, not because of its error.
            stops.popleft()
            if field.compiled is not None:
                field.compiled.towards(stops[0], slack, options.max_step)
            h = direction * max(abs(h), abs(proposed))
        if abs(h) > options.max_step:
            h = direction * options.max_step
    path.attempts = [Attempt(*attempt) for attempt in history]
    if watch is None:
        path.hits = []
    else:
        path.hits = watch.hits


def _stops(given, t, end, least):
    """The stops between t and the end, in order and then the end; of two nearer than a step can be
    it is the later one."""
    if end > t:
        direction = 1.0
    else:
        direction = -1.0
    stops = deque([end])
    for stop in sorted(given, key=lambda s: -direction * s):
        if direction * (stops[0] - stop) > least and direction * (stop - t) > least:
            stops.appendleft(stop)
    return stops


def _outputs(path, step, times, t, y, coefficients, slopes):
    """Append the outputs within a step, the last of them y where it is at t; coefficients: the
    step's polynomial."""
    inside = [s for s in times if s != t]
    if inside or slopes:
        thetas = [(s - step.t) / step.h for s in times]
        path.ys.extend(evaluate_at(coefficients, thetas[: len(inside)]).unbind(0))
        if slopes:
            theta = torch.tensor(thetas, dtype=torch.float64, device=step.y.device)
            path.slopes.extend((slope(coefficients, theta) / step.h).unbind(0))
    if len(inside) < len(times):
        path.ys.append(y)


def _cause(last: Step) -> Status:
    """Why the steps shrank to nothing, from the last attempt."""
    if last is not None and last.failure is not None:
        return last.failure
    return Status.STEP_TOO_SMALL
