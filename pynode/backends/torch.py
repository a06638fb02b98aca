"""The torch engine: one system, one step size for all of its states."""

from __future__ import annotations

import math
from collections import deque

import torch

from ..control import first_step
from ..dense import Trajectory, evaluate, slope
from ..methods.base import Step
from ..norm import Tolerance
from ..status import Status

_HISTORY = 8  # step sizes kept for the report of a failure


def integrate(field, method, y0, times, options, atol, keep=False, dense=False, slopes=False) -> Trajectory:
    """Integrate from times[0] to times[-1] with outputs at all times, in either direction.

    y0: (n,); times: list of floats, strictly monotone; keep: record the steps; dense: record their polynomials as well;
    slopes: dy/dt of the polynomials at the outputs.
    Numerical failure ends the trajectory early and is told in its status.
    """
    tol = Tolerance(options.rtol, atol, len(y0))
    t, end = times[0], times[-1]
    direction = 1.0 if end > t else -1.0
    f0 = field.slope(t, y0)
    if options.step_size is not None:
        method, h = method.fixed(), options.step_size
    elif options.first_step is not None:
        h = options.first_step
    else:
        h = first_step(field, t, end, y0, f0, method.error_order, tol, options.max_step)
    h = direction * min(abs(h), options.max_step, abs(end - t))
    path = Trajectory(t, y0, f0, h)
    if not bool(torch.isfinite(f0).all()):
        path.status = Status.NONFINITE
    else:
        _march(field, method, path, times, options, tol, h, keep or dense, dense, slopes)
    return path


def _march(field, method, path, times, options, tol, h, keep, dense, slopes):
    t, y, end = times[0], path.y0, times[-1]
    direction = 1.0 if end > t else -1.0
    stats, sizes = field.stats, deque(maxlen=_HISTORY)
    max_nfe = options.max_nfe if options.max_nfe is not None else math.inf
    state = method.init(field, t, y, path.f0, h, tol)
    position, attempts = 1, 0
    slack = 1e-3 if options.step_size is None else 1e-9  # a step that ends this near to the end, in steps, is stretched to it
    while True:
        if attempts >= options.max_steps:
            path.status = Status.MAX_STEPS
        elif stats.nfe >= max_nfe:
            path.status = Status.MAX_EVALUATIONS
        elif t + h == t or abs(h) < 4e-16 * abs(t):
            path.status = _cause(path.last)
        elif abs(h) < options.min_step and path.last is not None and not path.last.accepted:
            path.status = Status.MIN_STEP
        if path.status is not None:
            break
        final = direction * (t + h - end) >= -slack * abs(h)
        if final:
            h = end - t
        attempts += 1
        step = path.last = method.step(field, t, y, h, state, tol)
        state = step.state
        if not step.accepted:
            stats.rejected += 1
            h *= min(step.factor, 0.9)
            continue
        stats.accepted += 1
        sizes.append(h)
        t, y = (end if final else t + h), step.y
        coefficients = None
        first = position
        while position < len(times) and direction * (times[position] - t) <= 0:
            position += 1
        if position > first or dense:
            coefficients = _outputs(field, method, path, step, times[first:position], t, dense, slopes)
        if keep:
            path.steps.append(step)
            if dense:
                path.polynomials.append(coefficients)
        path.t, path.y = t, y
        if final:
            path.status = Status.SUCCESS
            break
        h *= step.factor
        if abs(h) > options.max_step:
            h = direction * options.max_step
    path.sizes = list(sizes)


def _outputs(field, method, path, step, times, t, dense, slopes):
    """Append the outputs within a step; returns its polynomial, made only where something needs it."""
    inside = [s for s in times if s != t]
    if not (inside or dense or slopes):
        path.ys.append(step.y)
        return None
    coefficients = method.polynomial(field, step)
    theta = torch.tensor([(s - step.t) / step.h for s in times], dtype=torch.float64, device=step.y.device)
    path.ys.extend(evaluate(coefficients, theta[: len(inside)]).unbind(0))
    if len(inside) < len(times):
        path.ys.append(step.y)
    if slopes:
        path.slopes.extend((slope(coefficients, theta) / step.h).unbind(0))
    return coefficients


def _cause(last: Step) -> Status:
    """Why the steps shrank to nothing, from the last attempt."""
    if last is not None and last.failure is not None:
        return last.failure
    return Status.STEP_TOO_SMALL
