"""Simplified Newton iteration for the implicit stage of a step, and its derivative by the implicit
function theorem."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField
    from .linear import LinearSolver

MAX_ITERATIONS = 4
# Rate of an iteration that has none: with this one correction never is enough, unless it is
# rounding.
UNKNOWN = 1.0
# Rate that is told where the simplified iteration failed, so that its Jacobian is renewed.
POOR = 0.99
NO_THIRD_DERIVATIVE = (
    "third derivatives through a solve need adjoint='direct' and an explicit or Rosenbrock method"
    " ('tsit5', 'rodas5p')"
)


class Newton(NamedTuple):
    """How an iteration ended. y: the solution, None if it diverged; norm: of the last correction;
    rate: of convergence."""

    y: torch.Tensor | None
    change: torch.Tensor
    norm: float
    iterations: int
    rate: float


def simplified_newton(
    field: VectorField,
    t: float,
    start: Tensor,
    history_term: Tensor,
    c: float,
    solver: LinearSolver,
    scale: Tensor,
    tol: Tolerance,
    newton_tol: float,
    rate: float,
    max_iterations: int = MAX_ITERATIONS,
) -> Newton:
    """Solve M (y - start + psi) = c f(t, y) for y, (n,), M the mass matrix or the identity. Hairer
    & Wanner II, IV.8.

    solver: M - c J factorised; rate: the convergence rate last seen with it (UNKNOWN if none),
    which lets the iteration stop after its first correction (IV.8.10); kappa: the error allowed, as
    a fraction of the error of the step; max_iterations: iterations after which it is given up. A correction
    at the level of rounding ends the iteration, and its rate, which would be that of noise, is not
    told.
    """
    y = start
    increment = history_term
    last = 0.0
    stats = field.stats
    mass = field.mass
    for iteration in range(1, max_iterations + 1):
        # increment = psi + (y - start)
        if mass is None:
            mass_increment = increment
        else:
            mass_increment = mass.times(increment)
        change = solver.solve(torch.sub(mass_increment, field(t, y), alpha=c), -1.0)
        if tol.has_zero_atol:
            scale = tol.grow_scale(scale, y + change)
        norm = tol.rms(change, scale)
        stats.nsolve += 1
        if not math.isfinite(norm):
            return Newton(None, change, norm, iteration, UNKNOWN)
        if iteration > 1:
            last_rate = rate
            rate = norm / last
            if norm > tol.rounding_floor and (
                rate >= 1 or rate ** (max_iterations - iteration) / (1 - rate) * norm > newton_tol
            ):
                if norm <= tol.rounding(y, increment, scale):
                    return Newton(y + change, change, norm, iteration, last_rate)
                break
        y = y + change
        if norm <= tol.rounding_floor or (rate < 1 and rate / (1 - rate) * norm <= newton_tol):
            return Newton(y, change, norm, iteration, rate)
        increment = increment + change
        last = norm
    return Newton(None, change, norm, iteration, rate)


def full_newton(
    field: VectorField,
    t: float,
    start: Tensor,
    history_term: Tensor,
    c: float,
    factorise: Callable[[Tensor], LinearSolver],
    scale: Tensor,
    tol: Tolerance,
    newton_tol: float,
    max_iterations: int = 30,
) -> Newton:
    """The same equation with a new Jacobian at every iterate: for fixed steps, which cannot be cut
    where that fails.

    factorise(y): M - c J at y, factorised. Convergence is quadratic: what is left is the square of
    the last correction.
    """
    y = start
    for iteration in range(1, max_iterations + 1):
        solver = factorise(y)
        if not solver.ok:
            break
        increment = history_term + (y - start)
        if field.mass is None:
            mass_increment = increment
        else:
            mass_increment = field.mass.times(increment)
        change = solver.solve(torch.sub(mass_increment, field(t, y), alpha=c), -1.0)
        y = y + change
        scale = tol.grow_scale(scale, y)
        norm = tol.rms(change, scale)
        field.stats.nsolve += 1
        if not math.isfinite(norm):
            break
        if norm <= max(newton_tol, 1e-5):
            return Newton(y, change, norm, iteration, POOR)
    return Newton(
        None,
        change if solver.ok else history_term,
        norm if solver.ok else math.inf,
        iteration,
        UNKNOWN,
    )


def implicit_diff(
    field: VectorField,
    t: float,
    start: Tensor,
    history_term: Tensor,
    c: float,
    solver: LinearSolver,
    y: Tensor,
) -> Tensor:
    """y with the derivatives of the solution of M (y - start + psi) = c f(t, y) in start, psi and
    parameters.

    y: the solution found, detached; solver: M - c J factorised with the Jacobian at the solution.
    The value is unchanged. Each pass is an iteration of simplified Newton, from a solution; it
    makes the derivatives right to one order more: here to the second. NotImplementedError where a
    third is taken.
    """
    for solve in (ImplicitSolve, ImplicitCorrection):
        increment = start - history_term - y
        residual = torch.add(
            increment if field.mass is None else field.mass.times(increment), field(t, y), alpha=c
        )
        y = y + solve.apply(residual - residual.detach(), solver)
    return UpToSecondOrder.apply(y)


class ImplicitSolve(torch.autograd.Function):
    """W^-1 b with a constant matrix W; the cotangent takes the transposed solve."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, solver: LinearSolver, transposed: bool = False) -> Tensor:
        ctx.solver = solver
        ctx.transposed = transposed
        if transposed:
            return solver.solve_transposed(b)
        return solver.solve(b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        return ImplicitSolve.apply(grad, ctx.solver, not ctx.transposed), None, None


class ImplicitCorrection(ImplicitSolve):
    """The same where b is last_rate to have no derivative of first order: it is left out unless there
    will be a second."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        if torch.is_grad_enabled():
            return ImplicitSolve.backward(ctx, grad)
        return (None, None, None)


class UpToSecondOrder(torch.autograd.Function):
    """x itself; a third derivative that passes here is refused, because it would be wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return _UpToSecondOrderGrad.apply(grad, *ctx.saved_tensors)
        return grad


class _UpToSecondOrderGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad, x):
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():
            raise NotImplementedError(NO_THIRD_DERIVATIVE)
        return grad, None
