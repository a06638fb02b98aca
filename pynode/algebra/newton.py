"""Simplified Newton iteration for the implicit stage of a step, and its derivative by the implicit function theorem."""

from __future__ import annotations

import torch

MAX_ITERATIONS = 4


class Newton:
    """Result of one iteration: d, its scaled norm, whether it converged, its iterations and its rate of convergence."""

    __slots__ = ("d", "norm", "converged", "iterations", "rate")

    def __init__(self, d, norm, converged, iterations, rate):
        self.d, self.norm, self.converged, self.iterations, self.rate = d, norm, converged, iterations, rate


def simplified_newton(field, t, start, psi, c, solver, inverse_scale, tol, kappa, rate):
    """Solve d = c f(t, start + d) - psi for d, (n,). Hairer & Wanner II, sec. IV.8.

    solver: I - c J factorised; rate: the convergence rate last seen with it (1 if none), which lets the iteration stop
    after its first correction (IV.8.10); kappa: the error allowed, as a fraction of the error of the step.
    """
    y, d, last = start, None, None
    stats = field.stats
    for iteration in range(1, MAX_ITERATIONS + 1):
        residual = torch.sub(field(t, y) * c, psi)
        if d is not None:
            residual = residual - d
        change = solver.solve(residual)
        stats.nsolve += 1
        norm = tol.rms(change, inverse_scale)
        if not norm < 1e30:
            return Newton(None, norm, False, iteration, 1.0)
        if last is not None:
            rate = norm / last if last > 0 else 0.0
            if rate >= 1 or rate ** (MAX_ITERATIONS - iteration) / (1 - rate) * norm > kappa:
                return Newton(None, norm, False, iteration, rate)
        d = change if d is None else d + change
        if norm == 0 or (rate < 1 and rate / (1 - rate) * norm <= kappa):
            return Newton(d, norm if iteration == 1 else None, True, iteration, rate)
        y, last = start + d, norm
    return Newton(None, norm, False, iteration, rate)


def attach(field, t, start, psi, c, solver, d):
    """d with the derivatives of the solution of d = c f(t, start + d) - psi in start, psi and parameters.

    d: the solution found, detached; solver: I - c J factorised with the Jacobian at the solution. The value is unchanged.
    """
    residual = c * field(t, start + d) - psi
    return d + _Solve.apply(residual - residual.detach(), solver)


class _Solve(torch.autograd.Function):
    """M^-1 b with a constant matrix M; the cotangent takes the transposed solve."""

    @staticmethod
    def forward(ctx, b, solver):
        ctx.solver = solver
        return solver.solve(b)

    @staticmethod
    def backward(ctx, grad):
        return ctx.solver.solve_transposed(grad), None
