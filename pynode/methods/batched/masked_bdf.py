"""Masked passes of BDF (masked.py): one Newton iteration of every row, as in bdf.py, with masks in
place of indices.

Only some rows of a pass need a new Jacobian or a new inverse. If the host has read how many, they
are made for just these rows. Otherwise inverses are made for all rows, and Jacobians as well, in
every fourth pass; rows that need one wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...algebra.newton import MAX_ITERATIONS, UNKNOWN, convergence_test
from ...algebra.row_matrices import applied, inverses
from ...core.arithmetic import Tensors
from ...core.products import SMALL
from ...core.transfer import constant, places
from ..bdf.step import FBDF, MAX_ORDER, QNDF, SAFETY, SLOW, SMALLEST_ERROR
from ..jacobian_reuse import KEEP, remembered_rate
from .bdf import PATIENCE, PRESENT, worth_waiting
from .masked import MASKED, Clock, Interpolant, Outcome, Plan
from .masked_histories import MASKED_HISTORIES

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.norm import RowTolerance


class BDFState(NamedTuple):
    """State of all rows, (m, ...). bdf.BDFRows and methods/bdf/step.State explain the fields.

    z: (r, m, n); past: (r, m) or (0, m); parts: (4, m, n), the iterate y, the defect, y minus the
    prediction, and the reciprocal of the scale; grid: the step of the history; read: the order of
    the last accepted step. work: (4, m), counts of iterations, Jacobians, inverses, and failures of
    Newton's iteration.
    """

    z: Tensor
    past: Tensor
    parts: Tensor
    work: Tensor
    k: Tensor
    read: Tensor
    equal: Tensor
    iteration: Tensor
    grid: Tensor
    has_jac: Tensor
    fresh: Tensor
    reordered: Tensor
    c_inverse: Tensor
    rate: Tensor
    last: Tensor
    jac: Tensor
    inverse: Tensor

    def select(self, rows: Tensor) -> BDFState:
        """The states of some rows, in the order of the index."""
        before = (part.index_select(1, rows) for part in self[:4])
        return BDFState(*before, *(part.index_select(0, rows) for part in self[4:]))


class _Begin(NamedTuple):
    """Of a plan, (m,): masks of the rows that begin a step, of those that need a Jacobian, an
    inverse (also with a new Jacobian), and another grid; their orders and c = h / leading
    coefficient."""

    begins: Tensor
    old: Tensor
    stale: Tensor
    changed: Tensor
    k: Tensor
    c: Tensor


class _Judged(NamedTuple):
    """Of the iteration and the error test, (m,) masks: converged; accepted; lost, of the rows whose
    iteration starts again; and hopeless, of those that do it with half the step."""

    converged: Tensor
    accepted: Tensor
    lost: Tensor
    hopeless: Tensor


@MASKED.register(QNDF)
@MASKED.register(FBDF)
class BDFPasses:
    """Newton iterations of QNDF or FBDF. capturable, iterates: as in masked.py. waited: how many
    passes rows have waited for a Jacobian, if the host decides."""

    iterates = True

    def __init__(self, method: Any, like: Tensor) -> None:
        self.method = method
        self.form = method.history
        self.history = MASKED_HISTORIES[type(method.history)](method.history, like)
        n = like.shape[1]
        self.minus_eye = -torch.eye(n, dtype=like.dtype, device=like.device)
        numbers = like.new_zeros(0, dtype=torch.float64)
        self.safety = constant(SAFETY, numbers)
        # The library calls that invert larger matrices may wait for the device.
        self.capturable = n <= SMALL
        self.waited = 0

    def start(
        self, field: RowField, tol: RowTolerance, t: Tensor, y: Tensor, f0: Tensor, h: Tensor
    ) -> tuple[BDFState, None]:
        """The rows at their starts y (m, n) with slopes f0."""
        m, n = y.shape
        z, past = self.history.start(y, h.to(y.dtype).unsqueeze(1) * f0, h)
        zero = torch.zeros_like(h, dtype=torch.int64)
        false = torch.zeros_like(h, dtype=torch.bool)
        one = torch.ones_like(h)
        state = BDFState(
            z=z,
            past=past,
            parts=y.new_zeros(4, m, n),
            work=zero.new_zeros(4, m),
            k=zero + 1,
            read=zero + 1,
            equal=zero,
            iteration=zero,
            grid=h,
            has_jac=false,
            fresh=false,
            reordered=false,
            c_inverse=torch.full_like(h, torch.nan),
            rate=one,
            last=one,
            jac=y.new_zeros(m, n, n),
            inverse=y.new_zeros(m, n, n),
        )
        return state, None

    def plan(self, inner: BDFState, clock: Clock, tol: RowTolerance) -> Plan:
        """What the rows need that begin a step. counts: of Jacobians, and of inverses."""
        begins = clock.running & (inner.iteration == 0)
        ratio = clock.h / inner.grid
        trusted = self.form.rule(Tensors, inner.k, ratio, tol.rounding_floor, self.form.largest).to(
            torch.int64
        )
        k = torch.where(begins, trusted, inner.k)
        c = clock.h / self.history.alpha.index_select(0, k)
        stale = begins & (c != inner.c_inverse)
        slow = (inner.rate > SLOW) & (inner.rate < UNKNOWN) & ~inner.fresh
        old = begins & (~inner.has_jac | (stale & slow))
        stale = stale | old
        changed = begins & ((clock.h != inner.grid) | inner.reordered)
        return Plan((old.sum(), stale.sum()), _Begin(begins, old, stale, changed, k, c))

    def advance(
        self,
        field: RowField,
        tol: RowTolerance,
        inner: BDFState,
        y: Tensor,
        clock: Clock,
        plan: Plan,
        number: int,
        counts: Sequence[int] | None,
    ) -> Outcome:
        """One Newton iteration of every row. The arguments are those of
        masked._OneStepPasses.advance."""
        begin: _Begin = plan.numbers
        if not self._renews(number, counts, len(y)):
            late = ~begin.old
            begin = begin._replace(
                begins=begin.begins & late,
                old=torch.zeros_like(late),
                stale=begin.stale & late,
                changed=begin.changed & late,
            )
            if counts is not None:
                counts = (0, counts[1] - counts[0])
        state, doubtful = self._begun(field, tol, inner, y, clock, begin, counts, number)
        active = clock.running & (state.iteration > 0)
        state, moved, norm = self._iterated(field, tol, state, y, clock, begin.c, active)
        return self._judged(tol, state, y, clock, active, moved, norm, doubtful)

    def _renews(self, number: int, counts: Sequence[int] | None, rows: int) -> bool:
        """Whether this pass makes the Jacobians that rows need."""
        if counts is None:
            return number % PATIENCE == 0
        waits = counts[0] > 0 and worth_waiting(self.waited, counts[0], rows)
        if waits:
            self.waited += 1
        else:
            self.waited = 0
        return not waits and counts[0] > 0

    def _begun(
        self,
        field: RowField,
        tol: RowTolerance,
        state: BDFState,
        y: Tensor,
        clock: Clock,
        begin: _Begin,
        counts: Sequence[int] | None,
        number: int,
    ) -> tuple[BDFState, Tensor | None]:
        """(the rows after the beginning of their steps, mask of the rows with a Jacobian that is
        not finite): histories on the grids of the steps, predictions, Jacobians and inverses."""
        begins, old, stale, changed, k, c = begin
        z = self.history.rescaled(state.z, changed, k, clock.h / state.grid)
        predicted, sums = self.history.predicted(z, state.past, k, clock.h)
        reciprocal = tol.scale(predicted).reciprocal()
        zeros = torch.zeros_like(predicted)
        parts = torch.stack((predicted, sums, zeros, reciprocal))
        parts = torch.where(begins.unsqueeze(1), parts, state.parts)
        jac, doubtful = self._jacobians(field, state.jac, clock, y, parts[0], old, counts, number)
        inverse = self._inverses(jac, state.inverse, stale, c, counts)
        none = torch.zeros_like(stale)
        state = state._replace(
            z=z,
            parts=parts,
            work=state.work + torch.stack((none, old, stale, none)),
            k=k,
            equal=state.equal * ~changed,
            iteration=torch.where(begins, 1, state.iteration),
            grid=torch.where(begins, clock.h, state.grid),
            has_jac=state.has_jac | old,
            fresh=state.fresh | old,
            reordered=state.reordered & ~changed,
            c_inverse=torch.where(stale, c, state.c_inverse),
            rate=torch.where(stale, UNKNOWN, state.rate),
            jac=jac,
            inverse=inverse,
        )
        return state, doubtful

    def _jacobians(
        self,
        field: RowField,
        jac: Tensor,
        clock: Clock,
        y: Tensor,
        predicted: Tensor,
        old: Tensor,
        counts: Sequence[int] | None,
        number: int,
    ) -> tuple[Tensor, Tensor | None]:
        """(Jacobians (m, n, n), new ones at the predictions for the rows in the mask ``old``; mask
        of those that are not finite)."""
        if counts is None:
            if number % PATIENCE:
                return jac, None
            # f of the other rows sees the states where they are.
            points = torch.where(old.unsqueeze(1), predicted, y)
            times = torch.where(old, clock.arrived, clock.t)
            which = torch.arange(len(y), device=y.device)
            new, doubtful = field.jacobian_unseen(times, points, which)
            return torch.where(old.view(-1, 1, 1), new, jac), doubtful & old
        if not counts[0]:
            return jac, None
        which = places(old, counts[0])
        new, doubtful = field.jacobian_unseen(clock.arrived, predicted, which)
        return jac.index_copy(0, which, new), torch.zeros_like(old).index_copy(0, which, doubtful)

    def _inverses(
        self, jac: Tensor, inverse: Tensor, stale: Tensor, c: Tensor, counts: Sequence[int] | None
    ) -> Tensor:
        """-(I - c J)^-1, (m, n, n), new ones for the rows in the mask."""
        if counts is None:
            new = self._inverted(jac, c)
            return torch.where(stale.view(-1, 1, 1), new, inverse)
        if not counts[1]:
            return inverse
        which = places(stale, counts[1])
        new = self._inverted(jac.index_select(0, which), c.index_select(0, which))
        return inverse.index_copy(0, which, new)

    def _inverted(self, jac: Tensor, c: Tensor) -> Tensor:
        return inverses(torch.addcmul(self.minus_eye, c.to(jac.dtype).view(-1, 1, 1), jac))

    def _iterated(
        self,
        field: RowField,
        tol: RowTolerance,
        state: BDFState,
        y: Tensor,
        clock: Clock,
        c: Tensor,
        active: Tensor,
    ) -> tuple[BDFState, Tensor, Tensor]:
        """(the rows in the mask after a correction, norms of y - prediction and of the correction,
        (m,))."""
        mask = active.unsqueeze(1)
        iterate, defect, _, reciprocal = state.parts.unbind(0)
        times = torch.where(active, clock.arrived, clock.t)
        slope = field(times, torch.where(mask, iterate, y))
        residual = torch.addcmul(defect, c.to(y.dtype).unsqueeze(1), slope, value=-1)
        change = torch.where(mask, applied(state.inverse, residual), 0.0)
        iterate, defect, moved = (state.parts[:3] + change).unbind(0)
        if tol.has_zero_atol:
            grown = 1 / tol.grow_scale(1 / reciprocal, iterate)
            reciprocal = torch.where(mask, grown, reciprocal)
        parts = torch.stack((iterate, defect, moved, reciprocal))
        distance, norm = tol.norms_there(torch.stack((moved, change)) * reciprocal).unbind(0)
        return state._replace(parts=parts), distance, norm

    def _judged(
        self,
        tol: RowTolerance,
        state: BDFState,
        y: Tensor,
        clock: Clock,
        active: Tensor,
        moved: Tensor,
        norm: Tensor,
        doubtful: Tensor | None,
    ) -> Outcome:
        """End the iteration of the rows that converged, and accept or reject their steps, as
        bdf.BDFRows._judge."""
        k = state.k
        iteration = state.iteration
        h = clock.h
        finite = torch.isfinite(norm)
        ratio = self.history.error_constants(state.past, k, h) * moved
        judged, rate = self._tested(tol, state, active, norm, finite, ratio)
        converged, accepted, lost, hopeless = judged
        refused = converged & ~accepted
        rejected = refused | hopeless
        safety = self.safety.index_select(0, iteration)
        shrink = safety * _growth(ratio, k)
        factor = torch.where(refused, shrink.clamp(0.2, 0.9), 1.0)
        factor = torch.where(hopeless, 0.5, factor)
        kept = torch.where(converged, remembered_rate(Tensors, rate, iteration > 1), state.rate)
        nothing = torch.zeros_like(active)
        z, past, upper = self.history.updated(
            state.z, state.past, accepted, k, h, state.parts[2], state.parts[0]
        )
        after = state._replace(
            z=z,
            past=past,
            work=state.work + torch.stack((active, nothing, nothing, hopeless)),
            read=torch.where(accepted, k, state.read),
            equal=(state.equal + accepted) * ~rejected,
            iteration=(iteration + active) * ~(converged | lost),
            has_jac=state.has_jac & ~lost,
            fresh=state.fresh & ~rejected & ~accepted,
            c_inverse=torch.where(lost, torch.nan, state.c_inverse),
            rate=kept,
            last=norm,
        )
        after, factor = self._ordered(tol, after, clock, accepted, ratio, safety, upper, factor)
        return Outcome(
            inner=after,
            accepted=accepted,
            rejected=rejected,
            broken=rejected & ~finite,
            unsolved=hopeless,
            factor=factor,
            y=torch.where(accepted.unsqueeze(1), after.z[0], y),
            doubtful=doubtful,
            polynomial=None,
        )

    @staticmethod
    def _tested(
        tol: RowTolerance,
        state: BDFState,
        active: Tensor,
        norm: Tensor,
        finite: Tensor,
        ratio: Tensor,
    ) -> tuple[_Judged, Tensor]:
        """(what became of the iterations, rates of convergence)."""
        converged, hopeless, rate = convergence_test(
            Tensors,
            norm,
            state.last,
            state.rate,
            state.iteration > 1,
            MAX_ITERATIONS - state.iteration,
            tol.newton_tol,
            tol.rounding_floor,
        )
        diverged = ~finite | hopeless | (~converged & (state.iteration == MAX_ITERATIONS))
        converged = converged & active & ~diverged
        lost = active & diverged
        iterate, defect, _, reciprocal = state.parts.unbind(0)
        # The last correction may be rounding.
        level = lost & finite & (norm <= tol.rounding_there(iterate, defect, reciprocal))
        converged = converged | level
        rate = torch.where(level, state.rate, rate)
        lost = lost & ~level
        judged = _Judged(converged, converged & (ratio <= 1), lost, lost & state.fresh)
        return judged, rate

    def _ordered(
        self,
        tol: RowTolerance,
        state: BDFState,
        clock: Clock,
        accepted: Tensor,
        ratio: Tensor,
        safety: Tensor,
        upper: Any,
        factor: Tensor,
    ) -> tuple[BDFState, Tensor]:
        """(the rows with new orders, factors of their next steps), as bdf.BDFRows._select."""
        k = state.k
        errors = self.history.neighbours(
            state.z, state.past, upper, k, clock.h, tol, state.parts[3]
        )
        lower = _growth(errors[0], k - 1)
        present = _growth(ratio, k) * PRESENT
        higher = _growth(errors[1], k + 1)
        lower = torch.where(k == 1, 0.0, lower)
        higher = torch.where(k == MAX_ORDER, 0.0, higher)
        down = (lower >= present) & (lower >= higher)
        up = ~down & (higher > present)
        growth = torch.maximum(torch.maximum(lower, present), higher)
        factors = (safety * growth).clamp_max(self.form.largest)
        change = down | up | (factors >= KEEP) | (factors <= 1 / KEEP)
        change = change & accepted & (state.equal > k)
        up = up & change
        down = down & change
        state = state._replace(
            z=self.history.raised(state.z, up, k),
            k=k + up.to(torch.int64) - down.to(torch.int64),
            equal=state.equal * ~change,
            reordered=torch.where(change, up | down, state.reordered),
        )
        return state, torch.where(change, factors, factor)

    def interpolant(self, inner: BDFState, size: Tensor) -> Interpolant:
        """Of the last accepted steps, by ``size``, (m,)."""
        return self.history.interpolant(inner.z, inner.past, inner.read, size)

    def taped(self, before: Tensor, inner: BDFState, y: Tensor) -> Tensor:
        """What the gradient needs of each step, (m, n): the state after it."""
        return y

    def order(self, inner: BDFState) -> Tensor:
        """The orders of the last steps, (m,)."""
        return inner.read

    def work(self, inner: BDFState) -> Tensor:
        """(4, m): what the rows counted."""
        return inner.work

    def count(self, stats: Any, attempts: int, work: Sequence[int], dense: int) -> None:
        """Add the sums of what the rows counted."""
        iterations, jacobians, factorisations, failures = work
        stats.nfe += iterations
        stats.nsolve += iterations
        stats.njac += jacobians
        stats.nlu += factorisations
        stats.newton_failures += failures


def _growth(error: Tensor, order: Tensor) -> Tensor:
    """The factors of steps at which scaled errors of these orders become 1, (m,), as
    methods/bdf/step.growth_allowed."""
    # A quotient of integers would have the precision of torch's default dtype.
    return error.clamp_min(SMALLEST_ERROR) ** (-1 / (order.to(error.dtype) + 1))
