"""BDF on the rows of a batch, each with its own order, step, Newton iteration and Jacobian.

One pass is one Newton iteration of every row. A row that converges begins its next step in the next
pass. No row waits for another, and every evaluation of f serves all running rows. The formulas are
those of methods/bdf/step.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...algebra.newton import MAX_ITERATIONS, UNKNOWN, convergence_test
from ...algebra.row_matrices import applied
from ...core.arithmetic import Arrays
from ...core.transfer import tensor, to_device
from ..bdf.step import FBDF, MAX_ORDER, QNDF, SAFETY, SLOW
from ..jacobian_reuse import KEEP, remembered_rate
from .base import STEPPERS, PassResult, outside
from .bdf_formulas import HISTORIES
from .one_step import RowInverse

if TYPE_CHECKING:
    from ...core.batched_field import RowField
    from ...core.norm import RowTolerance


PATIENCE = 4  # the most passes that a row waits for the Jacobians of others
# Among equal values the present order wins.
PRESENT = 1 + 1e-12

_ORDERS = np.arange(3)[:, None]
_SAFETY = np.array(SAFETY)
_NUMBERS = (
    "k",
    "equal",
    "h",
    "iteration",
    "has_jac",
    "fresh",
    "reordered",
    "c_inverse",
    "rate",
    "last",
)


@STEPPERS.register(QNDF)
@STEPPERS.register(FBDF)
class BDFRows:
    """State of all running rows. methods/bdf/step.State explains the fields.

    parts, (5, m, n): the iterate y, the defect psi + (y - prediction) of the equation, y -
    prediction, the last change, and the reciprocal of the scale; inverse: -(I - c J)^-1; last: norm
    of the last change; reordered: the order has changed.
    """

    # A row that has ended would go on to iterate, and ask for Jacobians.
    carries_ended = False

    def __init__(
        self, method: Any, field: RowField, y: Tensor, f0: Tensor, h: np.ndarray, tol: RowTolerance
    ) -> None:
        self.field = field
        self.tol = tol
        self.refused: Any = None
        m, n = y.shape
        self.history = HISTORIES[type(method.history)](method.history, y, f0, h)
        self.form = method.history
        self.largest = method.history.largest
        self.k, self.equal, self.iteration = (np.full(m, value) for value in (1, 0, 0))
        self.has_jac, self.fresh, self.reordered = np.zeros((3, m), dtype=bool)
        self.h = h
        self.c_inverse = np.full(m, np.nan)
        self.rate = np.ones(m)
        self.last = np.ones(m)
        self.minus_eye = -torch.eye(n, dtype=y.dtype, device=y.device)
        self.jac = y.new_zeros(m, n, n)
        self.inverse = y.new_zeros(m, n, n)
        self.parts = y.new_zeros(5, m, n)
        # Time and h / leading coefficient of the current steps, (m,) and (m, 1).
        self.at = torch.zeros(m, dtype=torch.float64, device=y.device)
        self.c = y.new_zeros(m, 1)
        self.waited = 0

    def select(self, keep: np.ndarray) -> None:
        """Keep only these rows."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name)[keep])
        rows = tensor(keep, self.parts)
        self.field = self.field.select(rows)
        self.tol = self.tol.select(rows)
        self.history.select(rows)
        self.parts = self.parts.index_select(1, rows)
        self.at = self.at.index_select(0, rows)
        self.jac, self.inverse, self.c = (
            x.index_select(0, rows) for x in (self.jac, self.inverse, self.c)
        )

    def states(self, which: np.ndarray) -> Tensor:
        """(w, n): the current states of the rows in ``which``."""
        return self.history.z[0].index_select(0, tensor(which, self.parts))

    def advance(self, t: np.ndarray, h: np.ndarray) -> PassResult:
        """One Newton iteration of every row, in a step from t (m,) by h (m,). Rows without a
        current step begin it first."""
        with np.errstate(all="ignore"):
            begins = self.iteration == 0
            if np.count_nonzero(begins):
                self._begin(t + h, h, begins)
            y, defect, _, change, reciprocal = self.parts.unbind(0)
            residual = torch.addcmul(defect, self.c, self.field(self.at, y), value=-1)
            applied(self.inverse, residual, out=change)
            self.field.stats.nsolve += len(h)
            self.parts[:3].add_(change)
            if self.tol.has_zero_atol:
                reciprocal.copy_(1 / self.tol.grow_scale(1 / reciprocal, y))
            moved, norm = self.tol.norms(self.parts[2:4] * reciprocal)
            return self._judge(h, moved, norm)

    def _begin(self, at: np.ndarray, h: np.ndarray, begins: np.ndarray) -> None:
        """Begin the step of some rows, to the times ``at``: put the history on the grid of the
        step, and make the prediction, the Jacobian and the inverse."""
        if np.count_nonzero(begins & (np.abs(h) > self.largest * np.abs(self.h))):
            self.k = np.where(
                begins, self.form.trusted(self.k, h / self.h, self.tol.rounding_floor), self.k
            )
        c = h / self.history.alpha[self.k]
        stale = begins & (c != self.c_inverse)
        old = begins & (
            ~self.has_jac | (stale & (self.rate > SLOW) & (self.rate < UNKNOWN) & ~self.fresh)
        )
        begins = self._wait(begins, old)
        which = (begins & ((h != self.h) | self.reordered)).nonzero()[0]
        if len(which):
            self.history.rescale(which, self.k[which], h[which] / self.h[which])
            self.h = np.where(begins, h, self.h)
            self.equal[which], self.reordered[which] = 0, False
        parts = torch.empty_like(self.parts)
        self.history.predict(self.k, h, parts[:2])
        parts[2:4].zero_()
        torch.reciprocal(self.tol.scale(parts[0]), out=parts[4])
        self.parts = torch.where(tensor(begins, parts).unsqueeze(1), parts, self.parts)
        self.iteration[begins] = 1
        self.at = to_device(at, parts.device)
        self.c = tensor(c, parts).unsqueeze(1)
        which = (begins & old).nonzero()[0]
        if len(which):
            rows = tensor(which, parts)
            self.jac.index_copy_(0, rows, self.field.jacobian(self.at, self.parts[0], rows))
            self.has_jac[which], self.fresh[which], stale[which] = True, True, True
        which = (begins & stale).nonzero()[0]
        if len(which):
            rows = tensor(which, parts)
            jac = self.jac.index_select(0, rows)
            inverse = RowInverse(
                self.minus_eye, jac, tensor(-c[which], parts), self.field.stats
            ).inverse
            self.inverse.index_copy_(0, rows, inverse)
            self.c_inverse[which], self.rate[which] = c[which], UNKNOWN

    def _wait(self, begins: np.ndarray, old: np.ndarray) -> np.ndarray:
        """The rows that begin now. In a large batch the rows that need a Jacobian wait some passes
        for one another, because its cost hardly depends on the number of rows."""
        count = int(np.count_nonzero(old))
        if count:
            if worth_waiting(self.waited, count, len(old)):
                self.waited += 1
                return begins & ~old
            self.waited = 0
        return begins

    def _judge(self, h: np.ndarray, moved: np.ndarray, norm: np.ndarray) -> PassResult:
        """End the iteration of the rows that converged, and accept or reject their steps. For rows
        that diverged, renew the Jacobian or halve the step. moved, norm: the norm of y -
        prediction, and the norm of the last change."""
        k = self.k
        iteration = self.iteration
        repeated = iteration > 1
        finite = np.isfinite(norm)
        active = iteration > 0
        # These rows start from their history again. No value of this pass may reach the history.
        if np.count_nonzero(finite) < len(h):
            self.parts.index_fill_(1, tensor((~finite).nonzero()[0], self.parts), 0)
        converged, hopeless, rate = convergence_test(
            Arrays,
            norm,
            self.last,
            self.rate,
            repeated,
            MAX_ITERATIONS - iteration,
            self.tol.newton_tol,
            self.tol.rounding_floor,
        )
        self.last = norm
        diverged = ~finite | hopeless | (~converged & (iteration == MAX_ITERATIONS))
        converged &= active & ~diverged
        lost = (active & diverged).nonzero()[0]
        if len(lost):
            level = self._rounding(lost, norm)
            converged[level], rate[level] = True, self.rate[level]
            lost = lost[~converged[lost]]
        ratio = self.history.error_constants(k, h, self.equal) * moved
        accepted = converged & (ratio <= 1)
        left = outside(self.refused, np.arange(len(h)), accepted, self.parts[0], self.history.z[0])
        accepted = accepted & ~left
        rejected = converged ^ accepted
        factor = np.ones(len(h))
        which = rejected.nonzero()[0]
        if len(which):
            shrink = _SAFETY[iteration[which]] * np.maximum(ratio[which], 1e-10) ** (
                -1.0 / (k[which] + 1)
            )
            factor[which] = np.minimum(np.maximum(shrink, 0.2), 0.9)
            factor[left] = 0.5
        self.rate = np.where(converged, remembered_rate(Arrays, rate, repeated), self.rate)
        self.iteration = (iteration + active) * ~converged
        if len(lost):
            self._diverged(lost, rejected, factor)
        self.equal = (self.equal + accepted) * ~rejected
        self.fresh &= ~(accepted | rejected)  # a step of another size has another prediction
        if np.count_nonzero(accepted):
            self.history.update(accepted, k, h, self.parts[2], self.parts[0])
            self._select((accepted & (self.equal > k)).nonzero()[0], h, ratio, iteration, factor)
        polynomial = partial(self.history.polynomial, k, h)
        return PassResult(
            accepted=accepted,
            rejected=rejected,
            broken=rejected & ~finite,
            unsolved=rejected & ~converged,
            outside=left,
            factor=factor,
            polynomial=polynomial,
            tape=partial(_tape, k, self.parts[0]),
        )

    def _rounding(self, lost: np.ndarray, norm: np.ndarray) -> np.ndarray:
        """The rows of ``lost`` whose last correction is rounding."""
        rows = tensor(lost, self.parts)
        y, defect, _, _, reciprocal = self.parts.index_select(1, rows).unbind(0)
        return lost[norm[lost] <= self.tol.select(rows).rounding(y, defect, 1 / reciprocal)]

    def _diverged(self, lost: np.ndarray, rejected: np.ndarray, factor: np.ndarray) -> None:
        """Halve the steps of the lost rows with a Jacobian at this point itself, and renew the
        Jacobian of the others."""
        hopeless = lost[self.fresh[lost]]
        self.field.stats.newton_failures += len(hopeless)
        rejected[hopeless], factor[hopeless] = True, 0.5
        self.has_jac[lost] = False
        self.c_inverse[lost], self.iteration[lost] = np.nan, 0
        # While these rows wait, f is still evaluated for them, at their last accepted states.
        rows = tensor(lost, self.parts)
        self.parts.index_fill_(1, rows, 0)
        self.parts[0].index_copy_(0, rows, self.history.z[0].index_select(0, rows))

    def _select(
        self,
        which: np.ndarray,
        h: np.ndarray,
        ratio: np.ndarray,
        iteration: np.ndarray,
        factor: np.ndarray,
    ) -> None:
        """New orders and factors of the rows in ``which`` (methods/bdf/step.BDF._select)."""
        if not len(which):
            return
        k = self.k[which]
        lower, upper = self.history.neighbours(which, k, h, self.tol, self.parts[4])
        growth = np.maximum((lower, ratio[which], upper), 1e-10) ** (-1.0 / (k + _ORDERS))
        growth[0, k == 1] = growth[2, k == MAX_ORDER] = 0
        growth[1] *= PRESENT
        choice = growth.argmax(axis=0) - 1
        factors = np.minimum(_SAFETY[iteration[which]] * growth.max(axis=0), self.largest)
        change = (choice != 0) | (factors >= KEEP) | (factors <= 1 / KEEP)
        which = which[change]
        k = k[change]
        choice = choice[change]
        factor[which], self.equal[which], self.reordered[which] = factors[change], 0, choice != 0
        raised = choice == 1
        self.history.raise_order(which[raised], k[raised])
        self.k = self.k.copy()  # the polynomials of this step still need the old order
        self.k[which] = k + choice


def worth_waiting(waited: int, count: int, rows: int) -> bool:
    """Whether so many rows that need a Jacobian wait one pass more for others. waited: how many
    passes they have waited already."""
    return waited < min(PATIENCE, rows // 16) and 8 * count < rows


def _tape(k: np.ndarray, y: Tensor, which: np.ndarray) -> tuple[Tensor, Tensor]:
    """Orders and ends of the steps of the rows in ``which``."""
    return torch.from_numpy(k[which]), y.index_select(0, tensor(which, y))
