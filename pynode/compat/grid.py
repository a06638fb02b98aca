"""Fixed steps on a grid of times, as in torchdiffeq. Gradients also reach the times, through every
stage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..algebra.linear import Factorised
from ..algebra.structure import linearise
from ..backends.torch.event_detection import EventDetector
from ..core.status import Status
from ..methods.base import Step
from ..methods.collocation import Collocation, GaussLegendre
from ..methods.esdirk import DIRK
from .adaptive import moved_start, terminal_event
from .call import EXCLUSIVE, BadInput, Call, OdeintError, check_times, rms
from .field import CallField, CallTolerance

OPTIONS = {"step_size", "grid_constructor", "interp", "perturb"}
MOST = 20_000  # steps before an event


def integrate(call: Call, method: Any) -> Any:
    """(T, n) states at call.t. With an event: (its time, a float, and (2, n) states at the start
    and at the event)."""
    field = CallField(call)
    options = call.options
    step_size = options.get("step_size")
    constructor = options.get("grid_constructor")
    if step_size is not None and constructor is not None:
        raise ValueError(EXCLUSIVE)
    if options.get("interp", "linear") not in ("linear", "cubic"):
        raise ValueError(
            f"Unknown interpolation method {options['interp']}: choose 'linear' or 'cubic'"
        )
    if step_size is not None and not float(step_size) > 0:
        raise BadInput(
            f"step_size must be positive, not {step_size!r}; the direction of time comes from t"
        )
    integrator: GridIntegrator
    if call.states is not None and method.implicit:
        integrator = AdjointGridIntegrator(field, method, options)
    else:
        integrator = GridIntegrator(field, method, options)
    if call.event_fn is not None:
        if step_size is None:
            raise BadInput(
                "Event handling for fixed step solvers currently requires `step_size` to be"
                " provided in options."
            )
        return integrator.to_event(float(step_size))
    grid = call.t
    if constructor is not None:
        grid = constructor(call.func, call.y0, call.t)
        check_times("the grid", grid)
    elif step_size is not None:
        grid = even(call.t, float(step_size))
    if grid[0] != call.t[0] or grid[-1] != call.t[-1]:
        raise BadInput("the grid of grid_constructor must begin at t[0] and end at t[-1]")
    return integrator.along(grid)


def even(t: torch.Tensor, size: float) -> torch.Tensor:
    """Times from t[0] to t[-1] in steps of this size; the last step is shorter."""
    span = float((t[-1] - t[0]).detach())
    count = max(1, math.ceil(abs(span) / size - 1e-9))
    inner = torch.arange(count, dtype=t.dtype, device=t.device) * math.copysign(size, span) + t[0]
    return torch.cat((inner, t[-1:]))


class GridIntegrator:
    """Runs a method step by step."""

    def __init__(self, field: CallField, method: Any, options: dict[str, Any]) -> None:
        self.field = field
        self.method = method
        self.call = field.call
        if method.implicit:
            method.check_dtype(field.dtype)
        self.tol = CallTolerance(field, field.call)
        self.perturb = bool(options.get("perturb", False))
        self.cubic = options.get("interp", "linear") == "cubic"
        self.state = None

    def step(self, a0: float, b0: float, y: torch.Tensor) -> Step:
        """The Step from a0 to b0, with the callback before it."""
        callback = self.call.callbacks.get("callback_step")
        if callback is not None:
            callback(self.field.time(a0), self.field.leave(y), self.field.time(b0 - a0))
        if self.perturb:
            self.field.shifted_times = self.shifted_times(a0, b0)
        step = self.advance(a0, b0, y)
        self.field.shifted_times = {}
        return step

    def shifted_times(self, a0: float, b0: float) -> dict[float, float]:
        """{end of the step: the time inside the step at which func is evaluated instead}."""
        field = self.field
        return {a0: field.next_to(a0, b0 - a0), b0: field.next_to(b0, a0 - b0)}

    def advance(self, a0: float, b0: float, y: torch.Tensor) -> Step:
        """The Step from a0 to b0."""
        field = self.field
        h = b0 - a0
        implicit = self.method.implicit
        # The last slope of the previous step cannot be used where times are shifted or move.
        if self.state is None or (implicit and (field.shifted_times or field.clock)):
            if implicit:
                slope = field(a0, y)
            else:
                slope = None
            self.state = self.method.init(field, a0, y, slope, h, self.tol)
        elif implicit and isinstance(self.method.tableau, GaussLegendre):
            # Its nodes lie inside the step, but torchdiffeq evaluates func at the start of a step.
            field(a0, y)
        step = self.method.step(field, a0, y, h, self.state, self.tol)
        if not step.accepted:
            raise failure(step, y)
        self.state = step.state
        if isinstance(self.method, DIRK) and self.method.begins_explicitly:
            # The last slope of a step has the rounding error of y / h, which grows on a fine grid.
            self.state = step.state._replace(first=None)
        return step

    def along(self, grid: torch.Tensor) -> torch.Tensor:
        """(T, n) states at the times of the call, with steps on this grid."""
        t = self.call.t
        values = self.call.t.detach().tolist()
        nodes = grid.detach().tolist()
        if values[-1] > values[0]:
            direction = 1.0
        else:
            direction = -1.0
        moving = torch.is_grad_enabled() and (grid.requires_grad or t.requires_grad)
        y = self.field.initial
        rows = [self.field.initial]
        for i, (a0, b0) in enumerate(zip(nodes, nodes[1:])):
            a = grid[i]
            b = grid[i + 1]
            if moving:
                self.field.clock = (a, b, a0, b0)
            else:
                self.field.clock = None
            step = self.step(a0, b0, y)
            curve = None
            while len(rows) < len(t) and direction * (b0 - values[len(rows)]) >= 0:
                k = len(rows)
                if values[k] == b0 and (grid is t or k == len(t) - 1 or not moving):
                    rows.append(step.y)
                    continue
                if curve is None:
                    curve = self.curve(step)
                theta = (t[k] - a) / (b - a)
                powers = theta ** torch.arange(len(curve), device=theta.device)
                rows.append(torch.mv(curve.t(), powers.to(curve.dtype)))
            y = step.y
        self.field.clock = None
        return torch.stack(rows)

    def curve(self, step: Step) -> torch.Tensor:
        """(degree + 1, n) coefficients of the interpolant of a step, linear or Hermite's cubic."""
        y0 = step.start
        y1 = step.y
        if not self.cubic:
            return torch.stack((y0, y1 - y0))
        f0 = step.h * self.field(step.t, y0)
        f1 = step.h * self.field(step.t + step.h, y1)
        rise = y1 - y0
        return torch.stack((y0, f0, 3 * rise - 2 * f0 - f1, f0 + f1 - 2 * rise))

    def to_event(self, size: float) -> tuple[float, torch.Tensor]:
        """(time of the event, (2, n) states at the start and there), by steps of this size."""
        values = self.call.t.detach().tolist()
        h = math.copysign(size, values[1] - values[0])
        t = values[0]
        y = moved_start(self.field)
        detector = EventDetector([terminal_event(self.call, self.field)], self.field, [0])
        detector.begin(t, y)
        for _ in range(MOST):
            step = self.step(t, t + h, y)
            hit = detector.check_step(step, t + h, self.curve(step))
            if hit is not None:
                return hit.t, torch.stack((self.field.initial, hit.y))
            t = t + h
            y = step.y
        raise RuntimeError(
            f"Reached maximum number of iterations {MOST}: the event did not occur until t ="
            f" {t:.6g}."
        )


class AdjointGridIntegrator(GridIntegrator):
    """Steps of the equation of odeint_adjoint, for (vjp_t, y, vjp_y, *vjp_params), by an implicit
    formula.

    The result is that of the formula for the whole equation, but the parts are solved one after
    another: first y, which does not depend on the others; then vjp_y at the stages, which is
    linear; then the rest as a quadrature. So all systems have the size of the state for any number
    of parameters, and f is differentiated once.
    """

    def __init__(self, field: CallField, method: Any, options: dict[str, Any]) -> None:
        super().__init__(field, method, options)
        call = self.call
        y = call.output(call.y0)[1]
        if call.states is None:
            raise ValueError("this integrator is for the equation of odeint_adjoint")
        states = Call(call.states, y, call.t, call.rtol, call.atol, {}, None, None, rms)
        self.states = GridIntegrator(CallField(states), method, options)
        self.jacobian: Any = linearise(self.states.field)
        tableau = method.tableau
        if isinstance(tableau, Collocation):
            self.a = tableau.a
            self.nodes = tableau.c.tolist()
            self.ending = tableau.ending
            self.b = self.ending @ self.a
        else:
            self.a = tableau.matrix()
            self.nodes = method.nodes
            self.b = np.array([float(x) for x in tableau.b])
            # Weights of the Y_i - y in y1 - y. Weights of the k_i would multiply rounding errors by
            # the stiffness.
            self.ending = np.linalg.lstsq(self.a.T, self.b, rcond=None)[0]

    def advance(self, a0: float, b0: float, z: torch.Tensor) -> Step:
        h = b0 - a0
        states = self.states
        _, y, start, *_ = self.call.output(self.field.leave(z))
        states.field.shifted_times = self.field.shifted_times
        start = states.field.enter(start)
        step = states.advance(a0, b0, states.field.enter(y))
        if isinstance(step.tape, torch.Tensor):
            ys = step.tape
        else:
            ys = torch.stack(step.tape[1])
        times = [a0 + c * h for c in self.nodes]
        cotangents = self.cotangents(times, h, ys, start)
        slopes = torch.stack(
            [self.field(t, self.joined(z, *pair)) for t, *pair in zip(times, ys, cotangents)]
        )
        z1 = z + h * torch.mv(slopes.t(), self.tensor(self.b))
        end = start + torch.mv((cotangents - start).t(), self.tensor(self.ending))
        return Step(a0, h, z, self.joined(z1, step.y, end), 0.0, 1.0, None)

    def cotangents(
        self, times: list[float], h: float, ys: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        """vjp_y at the stages, (s, n): the A_i of A_i = start - h sum_j a_ij J_j^T A_j, with the
        Jacobians at ys, (s, n)."""
        field = self.states.field
        s, n = ys.shape
        blocks = torch.stack([self.jacobian(t, y) for t, y in zip(times, ys)])
        coupled = self.tensor(self.a).view(s, 1, s, 1) * blocks.permute(2, 0, 1)
        coupled = coupled.reshape(s * n, s * n)
        solver = Factorised(
            torch.eye(s * n, dtype=ys.dtype, device=ys.device), coupled, -h, field.stats
        )
        cotangents = solver.solve(start.repeat(s)).view(s, n)
        if not solver.ok or not bool(torch.isfinite(cotangents).all()):
            raise OdeintError(
                f"the equations of the cotangents have no solution for the step of {h:.3g} from t ="
                f" {times[0]:.6g}: take another step_size, or odeint, which differentiates its own"
                " steps"
            )
        return cotangents

    def joined(self, z: torch.Tensor, y: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
        """z, (N,), with these flat parts as y and vjp_y."""
        z = z.clone()
        parts = self.call.output(self.field.leave(z))
        for part, flat in ((parts[1], y), (parts[2], cotangent)):
            part.copy_(self.states.field.leave(flat))
        return z

    def tensor(self, weights: np.ndarray) -> torch.Tensor:
        """Weights in the dtype and on the device of the state."""
        return torch.from_numpy(weights).to(self.field.initial)


def failure(step: Step, y: torch.Tensor) -> OdeintError:
    """The error of a step from y, (n,), that was not accepted."""
    if not bool(torch.isfinite(y).all()):
        return OdeintError(
            f"non-finite values in state `y` at t = {step.t:.6g}. What to do:"
            f" {Status.NONFINITE.remedy}."
        )
    what = "found no solution of"
    if step.failure is Status.NONFINITE:
        what = "met NaN or infinity in"
    return OdeintError(
        f"Newton's iteration {what} the step of {step.h:.3g} from t = {step.t:.6g}. What to do:"
        " take smaller steps (step_size), or a method with error control, which chooses them, such"
        " as 'fbdf'; look for values where func fails."
    )
