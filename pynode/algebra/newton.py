"""Simplified Newton iteration for an implicit stage, and its derivative by the implicit function
theorem."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..core.arithmetic import Floats

if TYPE_CHECKING:
    from ..core.arithmetic import Arithmetic, Numbers
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField
    from .linear import LinearSolver

MAX_ITERATIONS = 4
# The rate if none was measured. It makes the iteration do a second correction, unless the first
# one is rounding.
UNKNOWN = 1.0
# The rate that a full Newton iteration reports. It makes the method renew its Jacobian.
POOR = 0.99
NO_THIRD_DERIVATIVE = (
    "third derivatives through a solve need adjoint='direct' and an explicit or Rosenbrock method"
    " ('tsit5', 'rodas5p')"
)


class Newton(NamedTuple):
    """The result of an iteration. y: the solution, None if it diverged. norm: of the last
    correction. rate: of convergence."""

    y: torch.Tensor | None
    change: torch.Tensor
    norm: float
    iterations: int
    rate: float


def convergence_test(
    xp: Arithmetic,
    norm: Numbers,
    last: Numbers,
    rate: Numbers,
    repeated: bool | Numbers,
    remaining: int | Numbers,
    newton_tol: float,
    rounding_floor: float,
) -> tuple[Any, Any, Numbers]:
    """(converged, hopeless, rate) after a correction of an iteration. Hairer & Wanner II, IV.8.10.

    norm: the norm of this correction; last: the norm of the correction before. rate: the
    convergence rate before this correction; the result has the new one. repeated: whether this is
    not the first correction. remaining: how many corrections may follow. newton_tol,
    rounding_floor: see Tolerance. hopeless: the remaining corrections cannot suffice; it overrides
    converged.
    """
    rate = xp.where(repeated, norm / last, rate)
    contracts = rate < 1
    contraction = xp.where(contracts, rate, 0.0)
    rest = norm / (1 - contraction)
    coarse = norm > rounding_floor
    enough = contracts & (contraction * rest <= newton_tol)
    stays = (rate >= 1) | (contraction**remaining * rest > newton_tol)
    return (norm <= rounding_floor) | enough, repeated & coarse & stays, rate


def simplified_newton(
    field: VectorField,
    t: float,
    start: Tensor,
    history_term: Tensor,
    c: float,
    scale: Tensor,
    tol: Tolerance,
    newton_tol: float,
    solver: LinearSolver,
    rate: float,
    max_iterations: int = MAX_ITERATIONS,
) -> Newton:
    """Solve M (y - start + psi) = c f(t, y) for y, (n,). M is the mass matrix or the identity.
    Hairer & Wanner II, IV.8.

    history_term: psi. solver: solves with M - c J. rate: the last convergence rate with this
    solver, or UNKNOWN; it can stop the iteration after its first correction (IV.8.10). newton_tol:
    kappa, the allowed error as a fraction of the error of the step. max_iterations: the limit of
    iterations. A correction at the level of rounding ends the iteration. The function does not
    report the rate of such a correction, because it is noise.
    """
    y = start
    increment = history_term
    last = math.inf
    stats = field.stats
    floor = tol.rounding_floor
    mass = field.mass
    for iteration in range(1, max_iterations + 1):
        # The increment is psi + (y - start).
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
        last_rate = rate
        remaining = max_iterations - iteration
        converged, hopeless, rate = convergence_test(
            Floats, norm, last, rate, iteration > 1, remaining, newton_tol, floor
        )
        if hopeless:
            if norm <= tol.rounding(y, increment, scale):
                return Newton(y + change, change, norm, iteration, last_rate)
            break
        y = y + change
        if converged:
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
    """Solve the same equation with a new Jacobian in every iteration. Fixed steps need this,
    because they cannot shrink.

    factorise(y): factorises M - c J at y. Convergence is quadratic: the remaining error is the
    square of the last correction.
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
    if not solver.ok:
        return Newton(None, history_term, math.inf, iteration, UNKNOWN)
    return Newton(None, change, norm, iteration, UNKNOWN)


def newton_to_rounding(
    field: VectorField,
    t: float,
    start: Tensor,
    history_term: Tensor,
    c: float,
    scale: Tensor,
    tol: Tolerance,
    solver: LinearSolver,
    rate: float,
    max_iterations: int,
    factorise: Callable[[Tensor], LinearSolver],
) -> Newton:
    """Solve the same equation as exactly as the dtype allows. Fixed steps need this: they must show
    only the error of the formula. A failed simplified iteration starts again with new Jacobians.

    simplified_newton and full_newton explain the arguments.
    """
    floor = tol.rounding_floor
    result = simplified_newton(
        field, t, start, history_term, c, scale, tol, floor, solver, rate, max_iterations
    )
    if result.y is not None:
        return result
    return full_newton(field, t, start, history_term, c, factorise, scale, tol, floor)


def implicit_diff(
    field: VectorField,
    t: float,
    start: Tensor,
    history_term: Tensor | float,
    c: float,
    solver: LinearSolver,
    y: Tensor,
) -> Tensor:
    """y with the derivatives of the solution of M (y - start + psi) = c f(t, y) in start, psi and
    the parameters.

    y: the solution, detached. solver: solves with M - c J, J at the solution. The value of y does
    not change. Each pass is one simplified Newton iteration from the solution and raises the order
    of correct derivatives by one: two passes give second derivatives. A third derivative raises
    NotImplementedError.
    """
    for solve in (ImplicitSolve, ImplicitCorrection):
        increment = start - history_term - y
        residual = torch.add(
            increment if field.mass is None else field.mass.times(increment), field(t, y), alpha=c
        )
        y = y + solve.apply(residual - residual.detach(), solver)
    return UpToSecondOrder.apply(y)


class ImplicitSolve(torch.autograd.Function):
    """W^-1 b with a constant matrix W. The backward pass is the transposed solve."""

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
    """The same solve for a b without first derivatives. The backward pass skips it unless a second
    derivative follows."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        if torch.is_grad_enabled():
            return ImplicitSolve.backward(ctx, grad)
        return (None, None, None)


class UpToSecondOrder(torch.autograd.Function):
    """Returns x. Refuses a third derivative, because it would be wrong."""

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
