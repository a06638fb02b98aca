"""scipy_solver: SciPy's solve_ivp on the CPU. It has no gradients; odeint_adjoint computes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from .call import Call, OdeintError


def integrate(call: Call) -> torch.Tensor:
    """The states at call.t, (T, *y0.shape). options['solver'] is the name of a method of solve_ivp,
    'LSODA' by default."""
    solvers = _solvers()
    y0 = call.y0.detach()
    options = call.options
    if call.event_fn is not None:
        raise AttributeError("scipy_solver has no events: use 'dopri5', or one of pynode's methods")
    if len(call.t) == 1:
        return y0.unsqueeze(0)
    real = y0.abs().dtype

    progress = _Progress(abs(call.t[-1].item() - call.t[0].item()))

    def rhs(t: float, y: Any) -> Any:
        progress.note(t)
        with torch.no_grad():
            state = torch.as_tensor(y).to(y0).reshape(y0.shape)
            out = call.func(torch.tensor(t, dtype=real, device=y0.device), state)
        return out.cpu().numpy().reshape(-1)

    def number(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return x.expand(y0.shape).reshape(-1).cpu().numpy()
        return x

    times = call.t.detach().double().cpu().numpy()
    name = options.get("solver", "LSODA")
    start = y0.reshape(-1).cpu().numpy()
    tolerances = (number(call.rtol), number(call.atol))
    longest = float(options.get("max_step", math.inf))
    least = float(options.get("min_step", 0.0))
    if least > 0:
        states = _no_smaller_than(least, name, rhs, times, start, tolerances, longest)
    else:
        rtol, atol = tolerances
        solved = solvers.solve_ivp(
            rhs,
            (times[0], times[-1]),
            start,
            t_eval=times,
            method=name,
            rtol=rtol,
            atol=atol,
            max_step=longest,
        )
        if not solved.success:
            raise OdeintError(f"{name} of SciPy failed: {solved.message}")
        states = solved.y.T
    if not np.isfinite(states).all():
        raise OdeintError(
            f"non-finite values in state `y`: {name} of SciPy continued through NaN or infinity"
            " that func returned"
        )
    return torch.as_tensor(states.copy()).to(y0).reshape((-1, *y0.shape))


def _solvers():
    """scipy.integrate, imported when it is needed first. Raises ImportError with a remedy if SciPy
    is missing."""
    try:
        import scipy.integrate
    except ImportError as error:
        raise ImportError(
            "'scipy_solver' needs SciPy: pip install 'torch-stiff-ode[scipy]', or use 'fbdf'"
        ) from error
    return scipy.integrate


class _Progress:
    """Raises OdeintError if thousands of evaluations make no progress: LSODA continues for ever
    towards a singularity."""

    # So many evaluations must move the time by at least this part of the span.
    EVALUATIONS = 10_000
    LEAST = 1e-12

    def __init__(self, span: float) -> None:
        self.least = self.LEAST * span
        self.latest: float | None = None
        self.count = 0

    def note(self, t: float) -> None:
        if self.latest is None or abs(t - self.latest) > self.least:
            self.latest = t
            self.count = 0
        self.count += 1
        if self.count > self.EVALUATIONS:
            raise OdeintError(
                f"underflow in dt: SciPy's solver does not get past t = {t:.6g}, where the"
                " solution may be singular; stop before, or loosen rtol and atol"
            )


def _no_smaller_than(least, name, rhs, times, start, tolerances, longest):
    """(T, n) states, by steps of at least this size. SciPy's solvers do not offer this (LSODA
    ignores its min_step).

    If the error test asks for a smaller step, the step is repeated with tolerances that are ten
    thousand times larger.
    """
    solver_class = getattr(_solvers(), name)
    factor = 1.0
    t = times[0]
    y = start
    end = times[-1]
    rows = [start]
    if end > times[0]:
        direction = 1.0
    else:
        direction = -1.0
    rtol, atol = tolerances

    def begin() -> Any:
        step = min(least, abs(end - t))
        return solver_class(
            rhs,
            t,
            y,
            end,
            first_step=step,
            max_step=longest,
            rtol=rtol * factor,
            atol=atol * factor,
        )

    solver = begin()
    while t != end:
        message = solver.step()
        small = abs(solver.t - t) < 0.999 * least and solver.t != end
        if solver.status == "failed" or (small and factor < 1e16):
            if factor >= 1e16:
                raise OdeintError(f"{name} of SciPy failed: {message}")
            factor *= 1e4
            solver = begin()
            continue
        dense = solver.dense_output()
        t = solver.t
        y = solver.y
        while len(rows) < len(times) and direction * (t - times[len(rows)]) >= 0:
            rows.append(dense(times[len(rows)]))
    return np.stack(rows)
