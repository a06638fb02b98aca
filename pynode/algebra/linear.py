"""Factorisations of M - c J, and solves with M - c J and its transpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..core import products

if TYPE_CHECKING:
    from ..core.stats import Stats

# Below this size an inverse and a matrix-vector product cost less than the launch of a triangular
# solve (benchmarks/micro.py). At these sizes the residual is as small as that of an LU solve.
INVERSE_BELOW = 48


class LinearSolver(Protocol):
    """Solves with W = M - c J, factorised or matrix-free. ok: whether W is regular and finite."""

    ok: bool

    def solve(self, b: Tensor, factor: float = 1.0) -> Tensor:
        """factor W^-1 b, (n,)."""
        ...

    def solve_transposed(self, b: Tensor) -> Tensor:
        """W^-T b, (n,)."""
        ...


class Factorised:
    """The factorised matrix W = M - c J. M is the mass matrix or the identity. ok: whether W is
    regular and finite.

    projector: the projection P, (n, n), onto the algebraic equations of a singular M
    (Mass.projector); None if M is regular. The rows of the algebraic equations are c P J. They
    vanish with c, so in short steps the rounding errors of the other rows would exceed them. The
    class scales them to the size of M: it factorises (I + lift P) W = M - c (J + lift P J) with
    lift = |M| / |c P J|, in root mean squares.
    """

    __slots__ = ("inverse", "lift", "lu", "ok", "pivots")

    def __init__(
        self, mass: Tensor, jac: Tensor, c: float, stats: Stats, projector: Tensor | None = None
    ) -> None:
        stats.nlu += 1
        self.lift = None
        if projector is not None:
            lifted = products.mm(projector, jac)
            size = (
                (mass.abs().norm() / (abs(c) * lifted.abs().norm()))
                .clamp(min=1.0)
                .nan_to_num(1.0, 1.0, 1.0)
            )
            self.lift = (size - 1) * projector
            jac = jac + (size - 1) * lifted
        matrix = torch.sub(mass, jac, alpha=c)
        self.inverse = self.lu = self.pivots = None
        if len(mass) < INVERSE_BELOW:
            self.inverse, info = products.inv_ex(matrix)
        else:
            self.lu, self.pivots, info = products.lu_factor_ex(matrix)
        self.ok = info.device.type != "cpu" or info.item() == 0

    def solve(self, b: Tensor, factor: float = 1.0) -> Tensor:
        """factor W^-1 b, (n,)."""
        if self.lift is not None:
            b = b + torch.mv(self.lift, b)
        if self.inverse is not None:
            return torch.addmv(b, self.inverse, b, beta=0, alpha=factor)
        return products.lu_solve(self.lu, self.pivots, (b * factor).unsqueeze(1)).squeeze(1)

    def solve_transposed(self, b: Tensor) -> Tensor:
        """W^-T b, (n,)."""
        if self.inverse is not None:
            x = torch.mv(self.inverse.t(), b)
        else:
            x = products.lu_solve(self.lu, self.pivots, b.unsqueeze(1), adjoint=True).squeeze(1)
        if self.lift is None:
            return x
        return x + torch.mv(self.lift.t(), x)


# Up to this size, compiled elimination takes half the time of a LAPACK call from compiled code.
UNROLLED = 8


def gauss_jordan(matrix: Tensor) -> Tensor:
    """Invert matrices (..., n, n) by elimination with partial pivoting. The result is not finite if
    a matrix is singular.

    The loop is unrolled and has no branches, so a compiler can fuse it.
    """
    n = matrix.shape[-1]
    eye = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    rows = torch.arange(n, device=matrix.device)
    work = torch.cat((matrix, eye.expand_as(matrix)), -1)
    for k in range(n):
        column = work[..., k]
        largest = torch.where(rows >= k, column.abs(), -torch.ones_like(column)).argmax(
            -1, keepdim=True
        )
        pivot = (rows == largest).unsqueeze(-1)
        here = (rows == k).unsqueeze(-1)
        chosen = torch.where(pivot, work, torch.zeros_like(work)).sum(-2, keepdim=True)
        row = chosen / chosen[..., k : k + 1]
        work = torch.where(here, row, torch.where(pivot, work[..., k : k + 1, :], work))
        work = work - torch.where(here, torch.zeros_like(work[..., :1]), work[..., k : k + 1]) * row
    return work[..., n:]
