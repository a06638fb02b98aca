"""BDF of variable order 1 to 5 and variable step, in two forms that differ only in their history.

QNDF: numerical differentiation formulas on a quasi-constant step, Shampine & Reichelt, "The MATLAB
ODE suite" (1997). FBDF: fixed leading coefficient, Jackson & Sacks-Davis (1980), as in Brenan,
Campbell & Petzold (1996), sec. 5.2.

Both keep a history z, (rows, n). It gives a predicted value p z and a sum q z. The step solves
    M d = c f(t + h, p z + d) - M q z,   c = h / alpha_k,
with the mass matrix M or the identity. The new history is A z + b d. In QNDF the rows of z are
backward differences, in FBDF past values. The small matrices p, q, A, b therefore differ. They
define a form completely, and the gradient needs nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...algebra.newton import MAX_ITERATIONS, UNKNOWN, implicit_diff, simplified_newton
from ...algebra.structure import linearise
from ...core import products
from ...core.arithmetic import Floats
from ...core.status import Status
from ...core.transfer import constant
from ..base import Method, Step
from ..jacobian_reuse import (
    KEEP,
    ReusesJacobian,
    converges_slowly,
    graph_disabled,
    newton_safety,
    remembered_rate,
)
from .formulas import DifferenceHistory, ValueHistory

if TYPE_CHECKING:
    import numpy as np

    from ...algebra.newton import Newton
    from ...core.norm import Tolerance
    from ...core.vector_field import VectorField


MAX_ORDER = 5
# If Newton's iteration converges more slowly than this, a new factorisation uses a new Jacobian.
SLOW = 0.1
# Consecutive rejections after which a DAE continues at order 1, with the error that its steps can
# reduce. If y violates the algebraic equations by more than the tolerance, every step contains the
# way back to them, however short the step is.
FAILURES = 6
# A smaller scaled error counts as this one.
SMALLEST_ERROR = 1e-10
# The fraction of the step allowed by the error estimate, by the number of Newton iterations (Hairer
# & Wanner II, sec. IV.8). 0.9 suits methods that iterate at least twice. Here one iteration is the
# rule, and 0.7 makes it more frequent: half the error for 4 to 7 % more work at the same rtol, and
# 3 to 5 % less work at the same error. At order 4 this aims at a sixth of the allowed error, as
# CVODE does at every order.
SAFETY = tuple(0.7 * newton_safety(i, MAX_ITERATIONS) for i in range(MAX_ITERATIONS + 1))


class State(NamedTuple):
    """z: history, past: its times (see bdf_history); order, h: of the last step; equal: steps taken
    with both unchanged.

    jacobian: the linearisation of f (algebra/structure.py); jac: Jacobian in use, None if there is
    none, and solver: M - c jac factorised; fresh: whether jac belongs to this point; origin: (t, y)
    at which jac was made, and the scale with which solver was; rate: of Newton's convergence with
    this solver; failures: rejections by the error since the last step.
    """

    z: torch.Tensor
    past: tuple
    order: int
    equal: int
    h: float
    jacobian: Any
    jac: Any
    origin: tuple | None
    fresh: bool
    solver: Any
    c: float
    rate: float
    failures: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class BDF(ReusesJacobian, Method):
    """Backward differentiation with a history of the given form. jacobian: 'dense', 'sparse',
    'krylov' or a structure."""

    history: ClassVar[Any]
    jacobian: object = "dense"
    order = MAX_ORDER
    family = "backward differentiation"
    implicit = True
    taped = False
    memory = (MAX_ORDER + 6, 2)
    structures = ("dense", "sparse", "banded", "krylov")
    takes_mass = True

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor, h: float, tol: Tolerance
    ) -> State:
        z, past = self.history.start(y, f0, h)
        return State(z, past, 1, 0, h, linearise(field), None, None, False, None, 0.0, UNKNOWN)

    def trim_tape(self, tape: Any) -> tuple:
        """The tape without the history, which only the dense output needs."""
        k, c, change, pq, _, nodes = tape
        return k, c, change, pq, None, nodes

    @property
    def error_order(self) -> int:
        """The value for the first step, which has order 1."""
        return 2

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: State, tol: Tolerance
    ) -> Step:
        """One step; y: (n,). Each Newton iteration synchronises once. With one iteration nothing
        else does."""
        form = self.history
        z, past, k, equal, change = self._history(state, h, tol)
        t1 = t + h
        c = h / form.leading(past, k, h)
        pq, nodes = form.predictor(z, past, k, h, equal)
        predicted, history_term = start, start_history_term = products.mm(pq, z).unbind(0)
        differentiable = torch.is_grad_enabled()
        if differentiable:
            start = predicted.detach()
            start_history_term = history_term.detach()
        scale = tol.scale(start)
        newton = partial(
            simplified_newton, field, t1, start, start_history_term, c, scale, tol, tol.newton_tol
        )
        with graph_disabled():
            result, used = self.converged(_for_c(state, c), t1, start, scale, newton)
        if result is None or result.y is None:
            return self._newton_failed(field, t, h, state._replace(origin=used.origin), result)
        y1 = result.y
        rate = remembered_rate(Floats, result.rate, result.iterations > 1)
        d = result.change
        norm = result.norm
        if result.iterations > 1:
            d = y1 - start
            norm = tol.rms(d, scale)
        if field.mass is not None and field.mass.singular:
            rate, norm = _algebraic(field, used, rate, d, norm, scale, tol)
        ratio = form.error_constant(past, k, h, equal) * norm
        safety = SAFETY[result.iterations]
        if not ratio <= 1.0:
            factor = shrunk(ratio, k, safety)
            return Step(t, h, y, None, ratio, factor, _after_rejection(field, used, rate))
        if differentiable:
            exact = used.jacobian.factorised(used.jacobian(t1, y1), c)
            y1 = implicit_diff(field, t1, predicted, history_term, c, exact, y1)
            moved = y1 - predicted
            # The value is that of a step without a graph, in every digit.
            d = d + (moved - moved.detach())
        z, past = form.update(z, past, k, h, d, y1)
        order = k
        equal = equal + 1
        factor = 1.0
        if equal > k:
            order, factor = self._select(z.detach(), past, k, h, ratio, safety, scale)
            if order != k or factor != 1.0:
                equal = 0
        jac = used.jac
        solver = used.solver
        origin = used.origin
        ended = State(z, past, order, equal, h, used.jacobian, jac, origin, False, solver, c, rate)
        return Step(t, h, y, y1, ratio, factor, ended, (k, c, change, pq, z, nodes))

    def _history(
        self, state: State, h: float, tol: Tolerance
    ) -> tuple[Tensor, tuple, int, int, np.ndarray | None]:
        """(z, past, order, equal, change): the history and the order for a step of h. change: the
        matrix (rows, rows) that rescaled z, or None."""
        order = state.order
        if h == state.h:
            return state.z, state.past, order, state.equal, None
        if abs(h) > self.history.largest * abs(state.h):
            order = int(self.history.trusted(order, h / state.h, tol.rounding_floor))
        z, past, change = self.history.rescale(state.z, state.past, order, h / state.h)
        return z, past, order, 0, change

    @staticmethod
    def _newton_failed(
        field: VectorField, t: float, h: float, state: State, result: Newton | None
    ) -> Step:
        """Newton's iteration failed with a Jacobian at the prediction itself. Halve the step: it
        then has another prediction."""
        field.stats.newton_failures += 1
        broken = result is not None and not math.isfinite(result.norm)
        next_state = state._replace(jac=None, solver=None, equal=0)
        return Step.failed(t, h, 0.5, next_state, Status.NONFINITE if broken else Status.NEWTON)

    def _select(
        self, z: Tensor, past: tuple, k: int, h: float, ratio: float, safety: float, scale: Tensor
    ) -> tuple[int, float]:
        """(order, factor) of the next step, from the errors of this order and of its neighbours."""
        lower, upper = self.history.neighbours(z, past, k, h, scale)
        if lower is None:
            lower = math.inf
        if upper is None:
            upper = math.inf
        return best_order(k, ratio, lower, upper, safety, self.history.largest)

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        """(degree + 1, n) coefficients of the powers of theta: the interpolant of the formula's own
        values."""
        weights = self.history.dense_weights(step.tape[0], step.tape[5])
        z = step.tape[4]
        return products.mm(constant(weights, z), z)


def shrunk(ratio: float, k: int, safety: float) -> float:
    """The factor of the next step after a step of order k with this scaled error, above 1 or
    NaN."""
    return max(0.2, safety * ratio ** (-1 / (k + 1)))


def growth_allowed(error: float, order: int) -> float:
    """The factor of the step at which a scaled error of this order becomes 1. It is NaN for NaN."""
    if error < SMALLEST_ERROR:
        error = SMALLEST_ERROR
    return error ** (-1 / (order + 1))


def best_order(
    k: int, ratio: float, lower: float, upper: float, safety: float, largest: float
) -> tuple[int, float]:
    """(order, factor) of the next step after an accepted one of order k.

    ratio, lower, upper: scaled errors of orders k, k - 1 and k + 1, infinite for an order that does
    not exist, NaN if unknown. largest: the largest factor.
    """
    best = k
    growth = growth_allowed(ratio, k)
    for order, error in ((k - 1, lower), (k + 1, upper)):
        allowed = growth_allowed(error, order)
        if allowed > growth:
            best = order
            growth = allowed
    factor = min(largest, safety * growth)
    if best == k and 1 / KEEP < factor < KEEP:
        return k, 1.0
    return best, factor


def _for_c(state: State, c: float) -> State:
    """The state for a step with M - c J. It drops a factorisation for another c, and a Jacobian
    that made Newton's iteration converge slowly."""
    if c == state.c:
        return state
    if converges_slowly(state.rate, SLOW) and not state.fresh:
        jac = None
    else:
        jac = state.jac
    return state._replace(c=c, jac=jac, solver=None)


def _algebraic(
    field: VectorField,
    used: State,
    rate: float,
    d: Tensor,
    norm: float,
    scale: Tensor,
    tol: Tolerance,
) -> tuple[float, float]:
    """(rate, norm) of a step if some of the equations have no derivative.

    rate: Newton's convergence rate with which the next step begins; d: the end of the step minus
    its prediction, (n,); norm: the error estimate is proportional to it.
    """
    if used.fresh:
        # A rate measured at the point of the Jacobian says little about the next point. No later
        # step, however short, reduces the error in the algebraic equations that one correction with
        # this rate leaves.
        rate = UNKNOWN
    if used.failures >= FAILURES:
        norm = tol.rms(used.solver.solve(field.mass.times(d)), scale)
    return rate, norm


def _after_rejection(field: VectorField, used: State, rate: float) -> State:
    """The state for another attempt, after the error was too large."""
    failures = used.failures + 1
    if failures >= FAILURES and field.mass is not None and field.mass.singular:
        order = 1
    else:
        order = used.order
    return used._replace(order=order, equal=0, failures=failures, fresh=False, rate=rate)


class QNDF(BDF):
    """Numerical differentiation formulas of order 1 to 5 on a quasi-constant step."""

    name = "QNDF"
    reference = "Shampine & Reichelt, The MATLAB ODE suite, SIAM J. Sci. Comput. 18 (1997)"
    history = DifferenceHistory()


class FBDF(BDF):
    """Backward differentiation formulas of order 1 to 5 with a fixed leading coefficient."""

    name = "FBDF"
    reference = (
        "Jackson & Sacks-Davis, An alternative implementation of variable step-size multistep"
        " formulas for stiff ODEs, ACM Trans. Math. Softw. 6 (1980)"
    )
    history = ValueHistory()
