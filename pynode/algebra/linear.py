"""Factorisations of M - c J, and solves with them and with their transposes."""

from __future__ import annotations

import torch

# Below this size one inverse and a matrix-vector product a solve cost less than the launch of a triangular solve
# (benchmarks/micro.py); the residual of such a solve is as good as that of an LU solve for the sizes concerned.
INVERSE_BELOW = 48


class Factorised:
    """W = M - c J ready for solves, M the mass matrix or the identity; ok: whether W is regular and finite."""

    __slots__ = ("inverse", "lu", "ok", "pivots")

    def __init__(self, mass, jac, c: float, stats):
        stats.nlu += 1
        matrix = torch.sub(mass, jac, alpha=c)
        self.inverse = self.lu = self.pivots = None
        if len(mass) < INVERSE_BELOW:
            self.inverse, info = torch.linalg.inv_ex(matrix)
        else:
            self.lu, self.pivots, info = torch.linalg.lu_factor_ex(matrix)
        self.ok = info.device.type != "cpu" or info.item() == 0

    def solve(self, b, factor=1.0):
        """factor W^-1 b, (n,)."""
        if self.inverse is not None:
            return torch.addmv(b, self.inverse, b, beta=0, alpha=factor)
        return torch.linalg.lu_solve(self.lu, self.pivots, (b * factor).unsqueeze(1)).squeeze(1)

    def solve_transposed(self, b):
        """W^-T b, (n,)."""
        if self.inverse is not None:
            return torch.mv(self.inverse.t(), b)
        return torch.linalg.lu_solve(self.lu, self.pivots, b.unsqueeze(1), adjoint=True).squeeze(1)


def gauss_jordan(matrix):
    """The inverse of (n, n) by elimination with partial pivoting, unrolled and without branches, for a compiler to fuse; not
    finite where the matrix is singular."""
    n, rows = len(matrix), torch.arange(len(matrix), device=matrix.device)
    work = torch.cat((matrix, torch.eye(n, dtype=matrix.dtype, device=matrix.device)), 1)
    for k in range(n):
        candidates = torch.where(rows >= k, work[:, k].abs(), -torch.ones_like(work[:, k]))
        pivot, here = (rows == candidates.argmax()).unsqueeze(1), (rows == k).unsqueeze(1)
        chosen = torch.where(pivot, work, torch.zeros_like(work)).sum(0)
        row = chosen / chosen[k]
        work = torch.where(here, row, torch.where(pivot, work[k], work))
        work = work - torch.where(here, torch.zeros_like(work[:, :1]), work[:, k : k + 1]) * row
    return work[:, n:]
