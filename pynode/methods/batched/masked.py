"""Passes of rows without a look at their numbers: fixed sequences of operations for
backends/torch/masked_loop.py, which keeps all numbers on the device.

A family of methods registers its passes in MASKED. A pass tries a step of every row, or makes one
iteration of it. The formulas are the same as in the steppers of this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...algebra.combine import as_stage_tensor
from ...algebra.linear import UNROLLED
from ...core.arithmetic import Tensors
from ...core.transfer import constant
from ..base import ByFamily
from ..compiled.batched_steps import Inverses, count_attempts
from ..explicit import ExplicitRungeKutta
from ..rosenbrock import RosenbrockMethod
from .one_step import RowInverse, polynomial

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.norm import RowTolerance

# The passes, each registered for a family of methods beside its class.
MASKED = ByFamily()

# A row that takes no step repeats this part of its last one, so that f sees only usual values.
IDLE = 2.0**-20


class Clock(NamedTuple):
    """The steps that are tried, (m,): from t by h to ``arrived``; size: of the last accepted
    steps; running: mask of the rows that take part."""

    t: Tensor
    h: Tensor
    arrived: Tensor
    size: Tensor
    running: Tensor


class Plan(NamedTuple):
    """What a pass will do, beyond its clock. counts: 0-d tensors that the host may read first
    (``advance``). numbers: of the family."""

    counts: Sequence[Tensor]
    numbers: Any


class Outcome(NamedTuple):
    """What a pass did. inner: the state of the family. accepted, rejected: (m,) masks; a row with
    neither iterates on. broken: whether a value was not finite; unsolved: whether Newton's
    iteration did not converge, or None without one. factor: (m,) of the next step. y: (m, n), the
    states of the rows, y1 of those that were accepted. doubtful: (m,) mask of the rows with a
    Jacobian that is not finite, or None without Jacobians.

    polynomial: inner -> the inner state with the polynomials of the accepted steps, if it does not
    have them yet, otherwise None.
    """

    inner: Any
    accepted: Tensor
    rejected: Tensor
    broken: Tensor
    unsolved: Tensor | None
    factor: Tensor
    y: Tensor
    doubtful: Tensor | None
    polynomial: Callable[[Any], Any] | None


class Interpolant(NamedTuple):
    """Polynomials of the last accepted steps in Newton's form: c_0 + (theta - x_0) (c_1 + (theta -
    x_1) (c_2 + ...)). coefficients: c, (degree + 1, m, n). nodes: x, (degree, m), or None if all of
    them are zero."""

    coefficients: Tensor
    nodes: Tensor | None


class OneStepState(NamedTuple):
    """first: f at the start for methods that carry it, (m, n), otherwise (m, 0); past, older: the
    ratios of the last two steps, (m,). polynomial: (degree + 1, m, n), of the last accepted
    step."""

    first: Tensor
    past: Tensor
    older: Tensor
    polynomial: Tensor

    def select(self, rows: Tensor) -> OneStepState:
        """The states of some rows, in the order of the index."""
        first, past, older = (part.index_select(0, rows) for part in self[:3])
        return OneStepState(first, past, older, self.polynomial.index_select(1, rows))


class _Attempt(NamedTuple):
    """An attempted step of all rows. y1: (m, n), the states at its end; error: (m, n), None for
    steps of one size; last: f at the end, (m, n), if the method reads it in its next step,
    otherwise None. coefficients() -> (degree + 1, m, n) of the powers of theta. doubtful: as in
    Outcome."""

    y1: Tensor
    error: Tensor | None
    last: Tensor | None
    coefficients: Callable[[], Tensor]
    doubtful: Tensor | None


class _OneStepPasses:
    """carries: whether a step reads f at its start from the step before. capturable: whether a CUDA
    graph can contain the passes. iterates: whether a step can take several passes. weights:
    (stages, degree) of the continuous extension, on the device."""

    carries = False
    capturable = True
    iterates = False

    def __init__(self, method: Any, like: Tensor) -> None:
        self.method = method
        self.weights: Any = constant(method.tableau.dense_weights, like)

    def start(
        self, field: RowField, tol: RowTolerance, t: Tensor, y: Tensor, f0: Tensor, h: Tensor
    ) -> tuple[OneStepState, Tensor | None]:
        """(the rows at their starts y (m, n) with slopes f0, Outcome.doubtful)."""
        if self.carries:
            first = f0
        else:
            first = y[:, :0]
        steps = y.new_zeros(self.weights.shape[1] + 1, *y.shape)
        steps[0] = y
        return OneStepState(first, torch.ones_like(h), torch.ones_like(h), steps), None

    def plan(self, inner: OneStepState, clock: Clock, tol: RowTolerance) -> Plan:
        """A step has no more choices."""
        return Plan((), None)

    def advance(
        self,
        field: RowField,
        tol: RowTolerance,
        inner: OneStepState,
        y: Tensor,
        clock: Clock,
        plan: Plan,
        number: int,
        counts: Sequence[int] | None,
    ) -> Outcome:
        """One attempted step of every row from y (m, n). Rows that do not run repeat the end of
        their last steps. number: of the pass in its block; counts: what the host read of the plan,
        or None."""
        running = clock.running
        idle = IDLE * clock.size
        attempt = self._attempt(
            field,
            torch.where(running, clock.t, clock.t - idle),
            torch.where(running, clock.h, idle),
            y,
            inner.first if self.carries else None,
        )
        good, broken, factor, past, older = self._judge(attempt, inner, tol, y)
        accepted = running & good
        moved = accepted.unsqueeze(1)
        first = inner.first
        if attempt.last is not None:
            first = torch.where(moved, attempt.last, first)
        past = torch.where(running, past, inner.past)
        older = torch.where(running, older, inner.older)

        def with_polynomial(state: OneStepState) -> OneStepState:
            steps = torch.where(moved, attempt.coefficients(), state.polynomial)
            return state._replace(polynomial=steps)

        return Outcome(
            inner=OneStepState(first, past, older, inner.polynomial),
            accepted=accepted,
            rejected=running & ~good,
            broken=broken,
            unsolved=None,
            factor=factor,
            y=torch.where(moved, attempt.y1, y),
            doubtful=attempt.doubtful,
            polynomial=with_polynomial,
        )

    def _attempt(
        self, field: RowField, t: Tensor, h: Tensor, y: Tensor, first: Tensor | None
    ) -> _Attempt:
        raise NotImplementedError

    def _judge(
        self, attempt: _Attempt, inner: OneStepState, tol: RowTolerance, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(masks of the rows whose errors are small enough and of those with values that are not
        finite, factors of the next steps, new ratios of the last two steps), as in
        one_step.OneStepRows."""
        method = self.method
        if not method.adaptive or attempt.error is None:
            good = torch.isfinite(attempt.y1).all(1)
            return good, ~good, 1.0 - 0.5 * ~good, inner.past, inner.older
        ratio = tol.ratio_there(attempt.error, y, attempt.y1)
        factor, (past, older) = method.controller.control(
            Tensors, ratio, (inner.past, inner.older), method.error_order
        )
        return ratio <= 1, ~torch.isfinite(ratio), factor, past, older

    def interpolant(self, inner: OneStepState, size: Tensor) -> Interpolant:
        """Of the last accepted steps, by ``size``, (m,)."""
        return Interpolant(inner.polynomial, None)

    def taped(self, before: Tensor, inner: OneStepState, y: Tensor) -> Tensor:
        """What the gradient needs of each step, (m, n): the state before it."""
        return before

    def order(self, inner: OneStepState) -> Tensor | None:
        """The orders of the last steps, (m,), if the gradient needs them."""
        return None

    def work(self, inner: OneStepState) -> Tensor | None:
        """(c, m): what the rows counted, or None."""
        return None

    def count(self, stats: Any, attempts: int, work: Sequence[int], dense: int) -> None:
        """Add the work of so many attempts of single rows, the sums of what the rows counted, and
        so many polynomials."""
        count_attempts(stats, self.method, attempts)


@MASKED.register(ExplicitRungeKutta)
class ExplicitPasses(_OneStepPasses):
    """Steps of an explicit Runge-Kutta method."""

    def __init__(self, method: Any, like: Tensor) -> None:
        super().__init__(method, like)
        self.carries = method.tableau.fsal

    def _attempt(
        self, field: RowField, t: Tensor, h: Tensor, y: Tensor, first: Tensor | None
    ) -> _Attempt:
        method = self.method
        y1, error, ks = method.attempt(field, t, y, h, first)
        last = None
        if self.carries:
            last = ks[-1]

        def coefficients() -> Tensor:
            stages = ks
            if method.tableau.c_dense:
                # For all rows, because no one knows yet which of them have outputs in this step.
                stages = method.all_stages(field, t, y, h, ks)
            return polynomial(y, as_stage_tensor(stages), self.weights, h)

        return _Attempt(y1, error, last, coefficients, None)

    def count(self, stats: Any, attempts: int, work: Sequence[int], dense: int) -> None:
        super().count(stats, attempts, work, dense)
        stats.nfe += dense * len(self.method.tableau.c_dense)


@MASKED.register(RosenbrockMethod)
class RosenbrockPasses(_OneStepPasses):
    """Steps of a Rosenbrock method, each with a Jacobian of its own: only the numbers say whether a
    row could keep the last one."""

    def __init__(self, method: Any, like: Tensor) -> None:
        super().__init__(method, like)
        self.eye = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
        # The library calls that invert larger matrices may wait for the device.
        self.capturable = like.shape[1] <= UNROLLED

    def _attempt(
        self, field: RowField, t: Tensor, h: Tensor, y: Tensor, first: Tensor | None
    ) -> _Attempt:
        method = self.method
        jac, slope, doubtful = field.linearised_unseen(t, y)
        solver = self._solver(field, jac, h * method.numbers[0])
        y1, error, us = method.attempt(field, t, y, h, slope, solver)

        def coefficients() -> Tensor:
            return polynomial(y, as_stage_tensor(us), self.weights)

        return _Attempt(y1, error, None, coefficients, doubtful)

    def _solver(self, field: RowField, jac: Tensor, c: Tensor) -> RowInverse | Inverses:
        """The inverses of I - c_i J_i."""
        if jac.is_cpu or len(self.eye) > UNROLLED:
            return RowInverse(self.eye, jac, c, field.stats)
        # Library calls for many small matrices are slow on a GPU.
        return Inverses(torch.addcmul(self.eye, c.to(jac.dtype).view(-1, 1, 1), jac, value=-1))
