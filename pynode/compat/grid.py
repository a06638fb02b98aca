"""Fixed steps on a grid of times, as torchdiffeq takes them: gradients also reach the times, through every stage."""

from __future__ import annotations

import math

import torch

from ..status import Status
from ..watch import Watch
from .adaptive import failure, moved_start, watched
from .call import EXCLUSIVE, BadInput, check_times
from .field import CallField, CallTolerance

OPTIONS = {"step_size", "grid_constructor", "interp", "perturb"}
MOST = 20_000  # steps on the way to an event


def integrate(call, method):
    """(T, n) states at call.t; with an event (its time, a float, and (2, n) states at the start and there)."""
    field, options = CallField(call), call.options
    step_size, constructor = options.get("step_size"), options.get("grid_constructor")
    if step_size is not None and constructor is not None:
        raise ValueError(EXCLUSIVE)
    if options.get("interp", "linear") not in ("linear", "cubic"):
        raise ValueError(f"Unknown interpolation method {options['interp']}: choose 'linear' or 'cubic'")
    if step_size is not None and not float(step_size) > 0:
        raise BadInput(f"step_size must be positive, not {step_size!r}; the direction of time comes from t")
    march = March(field, method, options)
    if call.event_fn is not None:
        if step_size is None:
            raise BadInput(
                "Event handling for fixed step solvers currently requires `step_size` to be provided in options."
            )
        return march.to_event(float(step_size))
    grid = call.t
    if constructor is not None:
        grid = constructor(call.func, call.y0, call.t)
        check_times("the grid", grid)
    elif step_size is not None:
        grid = even(call.t, float(step_size))
    if grid[0] != call.t[0] or grid[-1] != call.t[-1]:
        raise BadInput("the grid of grid_constructor must begin at t[0] and end at t[-1]")
    return march.along(grid)


def even(t, size):
    """Times from t[0] by steps of this size up to t[-1], the last one shorter."""
    span = float((t[-1] - t[0]).detach())
    count = max(1, math.ceil(abs(span) / size - 1e-9))
    inner = torch.arange(count, dtype=t.dtype, device=t.device) * math.copysign(size, span) + t[0]
    return torch.cat((inner, t[-1:]))


class March:
    """Runs a method step by step."""

    def __init__(self, field, method, options):
        self.field, self.method, self.call = field, method, field.call
        if method.implicit:
            method.check_dtype(field.dtype)
        self.tol = CallTolerance(field, field.call)
        self.perturb, self.cubic = bool(options.get("perturb", False)), options.get("interp", "linear") == "cubic"
        self.state = None

    def step(self, a0, b0, y):
        """The Step from a0 to b0."""
        field, h = self.field, b0 - a0
        field.nudged = {}
        if self.perturb:
            field.nudged = {a0: field.next_to(a0, h), b0: field.next_to(b0, -h)}
        implicit = self.method.implicit
        # A slope that the step before leaves to this one knows nothing of what is special here.
        if self.state is None or (implicit and (field.nudged or field.clock)):
            self.state = self.method.init(field, a0, y, field(a0, y) if implicit else None, h, self.tol)
        callback = self.call.callbacks.get("callback_step")
        if callback is not None:
            callback(field.time(a0), field.leave(y), field.time(h))
        step = self.method.step(field, a0, y, h, self.state, self.tol)
        if not step.accepted:
            raise failure(step.failure or Status.NONFINITE, field, a0, y)
        self.state, field.nudged = step.state, {}
        return step

    def along(self, grid):
        t, values, marks = self.call.t, self.call.t.detach().tolist(), grid.detach().tolist()
        direction = 1.0 if values[-1] > values[0] else -1.0
        moving = torch.is_grad_enabled() and (grid.requires_grad or t.requires_grad)
        y, rows = self.field.initial, [self.field.initial]
        for i, (a0, b0) in enumerate(zip(marks, marks[1:])):
            a, b = grid[i], grid[i + 1]
            self.field.clock = (a, b, a0, b0) if moving else None
            step = self.step(a0, b0, y)
            curve = None
            while len(rows) < len(t) and direction * (b0 - values[len(rows)]) >= 0:
                at = len(rows)
                if values[at] == b0 and (grid is t or at == len(t) - 1 or not moving):
                    rows.append(step.y)
                    continue
                curve = self.curve(step) if curve is None else curve
                theta = (t[at] - a) / (b - a)
                powers = theta ** torch.arange(len(curve), device=theta.device)
                rows.append(powers.to(curve.dtype) @ curve)
            y = step.y
        self.field.clock = None
        return torch.stack(rows)

    def curve(self, step):
        """(degree + 1, n) coefficients of the interpolant of a step, linear or Hermite's cubic."""
        y0, y1 = step.start, step.y
        if not self.cubic:
            return torch.stack((y0, y1 - y0))
        f0, f1 = step.h * self.field(step.t, y0), step.h * self.field(step.t + step.h, y1)
        rise = y1 - y0
        return torch.stack((y0, f0, 3 * rise - 2 * f0 - f1, f0 + f1 - 2 * rise))

    def to_event(self, size):
        values = self.call.t.detach().tolist()
        h = math.copysign(size, values[1] - values[0])
        t, y = values[0], moved_start(self.field)
        watch = Watch([watched(self.call, self.field)], self.field, [0])
        watch.begin(t, y)
        for _ in range(MOST):
            step = self.step(t, t + h, y)
            cut = watch.scan(step, t + h, self.curve(step))
            if cut is not None:
                return cut.t, torch.stack((self.field.initial, cut.y))
            t, y = t + h, step.y
        raise RuntimeError(f"Reached maximum number of iterations {MOST}: the event did not occur until t = {t:.6g}.")
