"""Attempted steps of rows without a look at their numbers: a fixed sequence of operations for the
passes of backends/torch/masked_loop.py, which keep all numbers on the device.

The attempt of a family registers itself in MASKED. Its formulas are the same as in one_step.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...algebra.combine import as_stage_tensor
from ...algebra.linear import UNROLLED
from ...core.transfer import constant
from ..base import ByFamily
from ..compiled.batched_steps import Inverses, count_attempts
from ..explicit import ExplicitRungeKutta
from ..rosenbrock import RosenbrockMethod
from .one_step import RowInverse, polynomial

if TYPE_CHECKING:
    from ...core.batched_field import RowField

# The attempts, each registered for a family of methods beside its class.
MASKED = ByFamily()


class Attempt(NamedTuple):
    """An attempted step of all rows. y1: (m, n), the states at its end; error: (m, n), None for
    steps of one size; last: f at the end, (m, n), if the method reads it in its next step,
    otherwise None; coefficients: (degree + 1, m, n) of the powers of theta; doubtful: (m,) mask of
    the rows with a Jacobian that is not finite, or None without Jacobians."""

    y1: Tensor
    error: Tensor | None
    last: Tensor | None
    coefficients: Tensor
    doubtful: Tensor | None


class _Attempts:
    """carries: whether a step reads f at its start from the step before. capturable: whether a CUDA
    graph can contain the steps. degree: of the continuous extension; weights: (stages, degree), its
    weights on the device."""

    carries = False
    capturable = True

    def __init__(self, method: Any, like: Tensor) -> None:
        self.method = method
        self.weights: Any = constant(method.tableau.dense_weights, like)
        self.degree = self.weights.shape[1]


@MASKED.register(ExplicitRungeKutta)
class ExplicitAttempts(_Attempts):
    """Steps of an explicit Runge-Kutta method."""

    def __init__(self, method: Any, like: Tensor) -> None:
        super().__init__(method, like)
        self.carries = method.tableau.fsal

    def __call__(
        self, field: RowField, t: Tensor, h: Tensor, y: Tensor, first: Tensor | None
    ) -> Attempt:
        """Steps from y (m, n) at t (m,) by h (m,). first: f there, (m, n), if it carries."""
        method = self.method
        y1, error, ks = method.attempt(field, t, y, h, first)
        last = None
        if self.carries:
            last = ks[-1]
        if method.tableau.c_dense:
            # For all rows, because no one knows yet which of them have outputs in this step.
            ks = method.all_stages(field, t, y, h, ks)
        return Attempt(y1, error, last, polynomial(y, as_stage_tensor(ks), self.weights, h), None)

    def count(self, stats: Any, count: int) -> None:
        """Add the work of so many attempts of single rows."""
        count_attempts(stats, self.method, count)
        stats.nfe += count * len(self.method.tableau.c_dense)


@MASKED.register(RosenbrockMethod)
class RosenbrockAttempts(_Attempts):
    """Steps of a Rosenbrock method, each with a Jacobian of its own: only the numbers say whether a
    row could keep the last one."""

    def __init__(self, method: Any, like: Tensor) -> None:
        super().__init__(method, like)
        self.eye = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
        # The library calls that invert larger matrices may wait for the device.
        self.capturable = like.shape[1] <= UNROLLED

    def __call__(
        self, field: RowField, t: Tensor, h: Tensor, y: Tensor, first: Tensor | None
    ) -> Attempt:
        """Steps from y (m, n) at t (m,) by h (m,)."""
        method = self.method
        jac, slope, doubtful = field.linearised_unseen(t, y)
        solver = self._solver(field, jac, h * method.numbers[0])
        y1, error, us = method.attempt(field, t, y, h, slope, solver)
        return Attempt(y1, error, None, polynomial(y, as_stage_tensor(us), self.weights), doubtful)

    def _solver(self, field: RowField, jac: Tensor, c: Tensor) -> RowInverse | Inverses:
        """The inverses of I - c_i J_i."""
        if jac.is_cpu or len(self.eye) > UNROLLED:
            return RowInverse(self.eye, jac, c, field.stats)
        # Library calls for many small matrices are slow on a GPU.
        return Inverses(torch.addcmul(self.eye, c.to(jac.dtype).view(-1, 1, 1), jac, value=-1))

    def count(self, stats: Any, count: int) -> None:
        """Add the work of so many attempts of single rows."""
        count_attempts(stats, self.method, count)
