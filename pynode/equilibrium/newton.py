"""Newton's iteration with a line search on f(y) = 0, where conserved sums replace equations.

Deuflhard, Newton Methods for Nonlinear Problems, 2004, sec. 3.3: a damped step is taken if the
next correction by the same matrix becomes smaller. The test does not depend on units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..algebra.newton import ImplicitCorrection, ImplicitSolve

if TYPE_CHECKING:
    from .conserved import Conserved
    from .rows import BatchOfSystems, SingleSystem

MAX_ITERATIONS = 40
SMALLEST_DAMPING = 2.0**-12
# A matrix with a smaller reciprocal condition, after scaling, counts as singular.
SINGULAR = 1e-13
# A residual of so many units in the last place of its terms is rounding.
ROUNDING = 64.0


class Factorised:
    """The equations' matrices, (m, n, n), factorised with their rows scaled to one."""

    def __init__(self, matrices: Tensor) -> None:
        sizes = matrices.abs().amax(dim=2)
        self.scale = torch.where(sizes > 0, 1 / sizes, torch.ones_like(sizes))
        self._scaled = matrices * self.scale.unsqueeze(2)
        clean = torch.nan_to_num(self._scaled)
        self._factors, self._pivots, _ = torch.linalg.lu_factor_ex(clean)

    def solve(self, right: Tensor) -> Tensor:
        """x with W x = right, (m, n)."""
        scaled = (self.scale * right).unsqueeze(-1)
        return torch.linalg.lu_solve(self._factors, self._pivots, scaled).squeeze(-1)

    def solve_transposed(self, right: Tensor) -> Tensor:
        """x with W^T x = right, (m, n)."""
        found = torch.linalg.lu_solve(
            self._factors, self._pivots, right.unsqueeze(-1), adjoint=True
        )
        return self.scale * found.squeeze(-1)

    def singular(self, units: Tensor) -> Tensor:
        """(m,) whether a matrix is singular to rounding. units: (m, n), typical sizes of the
        states."""
        matrices = self._scaled * units.unsqueeze(1)
        sizes = matrices.abs().amax(dim=2, keepdim=True)
        matrices = matrices / torch.where(sizes > 0, sizes, torch.ones_like(sizes))
        bad = ~torch.isfinite(matrices).all(dim=2).all(dim=1)
        values = torch.linalg.svdvals(torch.nan_to_num(matrices))
        return bad | (values[:, -1] <= SINGULAR * values[:, 0])


class Equations:
    """The equations of the steady state of all rows: f_i(y) = 0 for the free components, and
    L (y - y0) = 0 in place of the others."""

    def __init__(self, rows: SingleSystem | BatchOfSystems, conserved: list[Conserved]) -> None:
        self.rows = rows
        self.conserved = conserved
        batch, n = rows.y0.shape
        sums = np.zeros((batch, n, n))
        for i, one in enumerate(conserved):
            sums[i, one.own] = one.sums
        self.sums = torch.as_tensor(sums).to(rows.y0)
        self.replaced = self.sums.abs().sum(dim=2) > 0

    def residual(self, y: Tensor, start: Tensor, which: Tensor) -> Tensor:
        """(m, n), with the graphs of y, start and f. start: y0 of the rows in which."""
        kept = (self.sums[which] @ (y - start).unsqueeze(-1)).squeeze(-1)
        return torch.where(self.replaced[which], kept, self.rows.values(y, which))

    def matrix(self, y: Tensor, which: Tensor) -> Tensor:
        """The derivative of the residual in y, (m, n, n), detached."""
        return self._matrix(self.rows.jacobians(y, which), which)

    def _matrix(self, jacobians, which):
        return torch.where(self.replaced[which].unsqueeze(2), self.sums[which], jacobians)

    def stable(self, y: Tensor, which: Tensor) -> Tensor:
        """(m,) whether every eigenvalue of the reduced Jacobian has a negative real part, and none
        is zero to rounding."""
        jacobians = self.rows.jacobians(y, which)
        numbers = jacobians.to(torch.float64).cpu().numpy()
        stable = [
            _is_stable(self.conserved[i].reduced(jacobian))
            for i, jacobian in zip(which.tolist(), numbers, strict=True)
        ]
        units = torch.maximum(y.abs(), self.rows.y0.detach()[which].abs())
        units = units + 1e-6 * units.amax(dim=1, keepdim=True)
        regular = ~Factorised(self._matrix(jacobians, which)).singular(units)
        return torch.tensor(stable, dtype=torch.bool, device=y.device) & regular


class Found(NamedTuple):
    """What Newton's iteration found. y: (m, n). converged: (m,)."""

    y: Tensor
    converged: Tensor


@torch.no_grad()
def newton(equations: Equations, guess: Tensor, which: Tensor, rtol: float, atol: Tensor) -> Found:
    """Iterate from guess, (m, n), for the rows in which until a correction is below
    atol + rtol |y|."""
    start = equations.rows.y0.detach()[which]
    y = guess.clone()
    converged = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    active = torch.arange(len(y), device=y.device)
    for _ in range(MAX_ITERATIONS):
        if not len(active):
            break
        step = _step(equations, y[active], start[active], which[active], rtol, atol)
        y[active] = torch.where(step.taken.unsqueeze(1), step.y, y[active])
        converged[active] = step.converged
        active = active[step.taken & ~step.converged]
    return Found(y, converged)


class _Step(NamedTuple):
    y: Tensor
    taken: Tensor
    converged: Tensor


def _step(equations, y, start, which, rtol, atol):
    """One damped step of every row."""
    matrix = equations.matrix(y, which)
    residual = equations.residual(y, start, which)
    factorised = Factorised(matrix)
    change = factorised.solve(-residual)
    scale = atol + rtol * y.abs()
    size = _norm(change, scale)
    # A residual of rounding cannot become smaller: no step is tried from there.
    terms = (matrix.abs() @ (y.abs() + start.abs()).unsqueeze(-1)).squeeze(-1)
    noise = ROUNDING * torch.finfo(y.dtype).eps * terms
    at_rest = (residual.abs() <= noise).all(dim=1) & (size <= 1e-3 / rtol)
    damping = torch.ones_like(size)
    taken = at_rest.clone()
    converged = at_rest | (size == 0)
    best = torch.where(torch.isfinite(change), y + change, y)
    trying = ~taken & torch.isfinite(size)
    while bool(trying.any()):
        trial = y + damping.unsqueeze(1) * change
        next_change = factorised.solve(-equations.residual(trial, start, which))
        next_size = _norm(next_change, scale)
        good = trying & (next_size <= (1 - damping / 4) * size)
        good |= trying & (damping == 1) & (next_size <= 1)
        best = torch.where(good.unsqueeze(1), trial, best)
        ends = good & (damping == 1) & (next_size <= 1)
        best = torch.where(ends.unsqueeze(1), trial + next_change, best)
        converged |= ends
        taken |= good
        trying &= ~good
        damping = torch.where(trying, damping / 2, damping)
        trying &= damping >= SMALLEST_DAMPING
    return _Step(best, taken, converged & taken)


def _norm(x: Tensor, scale: Tensor) -> Tensor:
    """(m,) the largest component in units of scale."""
    return (x / scale).abs().amax(dim=1)


def _is_stable(jacobian: np.ndarray) -> bool:
    if not np.isfinite(jacobian).all():
        return False
    if not len(jacobian):
        return True
    return bool(np.linalg.eigvals(jacobian).real.max() < 0)


def differentiable(equations: Equations, y: Tensor, which: Tensor) -> Tensor:
    """y, (m, n), with the first and second derivatives of the steady state in y0 and in the
    tensors of f. The value does not change."""
    factorised = Factorised(equations.matrix(y, which))
    start = equations.rows.y0[which]
    for solve in (ImplicitSolve, ImplicitCorrection):
        residual = equations.residual(y, start, which)
        if not residual.requires_grad:
            return y
        y = y - solve.apply(residual - residual.detach(), factorised)
    return y
