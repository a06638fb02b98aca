"""Transposed solves of structured systems for the gradient: one Jacobian and one factorisation for
each step, none stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...algebra.structure import linearise
from .. import field_products

if TYPE_CHECKING:
    from ...algebra.linear import LinearSolver
    from ...core.vector_field import VectorField

VALUES = 1 << 21  # numbers in the states of the steps that go back together


class Stepwise:
    """Makes M - c J at recorded points in the structure of the field. Its work counts as work of
    the gradient."""

    def __init__(self, field: VectorField) -> None:
        self.field = field
        self.linear: Any = linearise(field)

    def factorised(self, t: float, y: Tensor, c: float) -> LinearSolver:
        """M - c J(t, y), y (n,), for ``solve_transposed``. Raise RuntimeError if it is singular."""
        with self.field.stats.of_gradient():
            solver = self.linear.factorised(self.linear(t, y), c)
        if not solver.ok:
            raise RuntimeError(
                f"M - c J is singular at t = {t:.6g} with c = {c:.3g}, so this step has no gradient"
            )
        return solver


def chunk_size(n: int) -> int:
    """The number of steps whose states form one batch for the pull-back of the parameters."""
    return max(1, VALUES // n)


def pull(
    field: VectorField, t: float, y: Tensor, v: Tensor
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return (v^T df/dy (n,), v^T df/dp) at one point. None if f does not depend on it."""
    with torch.enable_grad():
        y = y.detach().clone().requires_grad_()
        out = field.eval(torch.full((), t, dtype=y.dtype, device=y.device), y)
        field.stats.backward_nfe += 1
        field.stats.backward_nvjp += 1
        (back,), param_grads = field_products.pull_back(field, out, (y,), v)
    return back, param_grads
