"""BDF of variable order 1 to 5 and variable step, in two forms that share all but their history.

QNDF: numerical differentiation formulas on a quasi-constant step, Shampine & Reichelt, "The MATLAB ODE suite" (1997).
FBDF: fixed leading coefficient, Jackson & Sacks-Davis (1980), as in Brenan, Campbell & Petzold (1996), sec. 5.2.

Both keep a history z, (rows, n). From it come a predicted value p z and a sum q z; the step solves
    d = c f(t + h, p z + d) - q z,   c = h / alpha_k,
and the new history is A z + b d. What differs is the meaning of the rows (backward differences in QNDF, past values in
FBDF), and so the small matrices p, q, A, b: they are the whole of a form, and all that the gradient needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from ..algebra.jacobian import Jacobian
from ..algebra.linear import Factorised
from ..algebra.newton import MAX_ITERATIONS, attach, simplified_newton
from ..status import Status
from .base import Method, Step
from .bdf_history import DifferenceHistory, ValueHistory

MAX_ORDER = 5


@dataclass(frozen=True)
class State:
    """z: history; order; equal: steps taken with this order and step; rate: of Newton's convergence; h: of the last step."""

    z: torch.Tensor
    past: tuple
    order: int
    equal: int
    h: float
    jacobian: Jacobian
    jac: torch.Tensor | None
    fresh: bool
    solver: Factorised | None
    c: float
    rate: float


@dataclass(frozen=True)
class BDF(Method):
    """Backward differentiation with a history of the given form."""

    history: object = None
    implicit = True

    def init(self, field, t, y, f0, h, tol):
        z, past = self.history.start(y, f0, h)
        return State(z, past, 1, 0, h, Jacobian(field), None, False, None, 0.0, 1.0)

    def step(self, field, t, y, h, state, tol):
        """One step; y: (n,). Newton's iterations synchronise once each; with one iteration that is all."""
        form, k = self.history, state.order
        change, before = None, state
        if h != state.h:
            z, past, change = form.rescale(state.z, state.past, k, h / state.h)
            state = replace(state, z=z, past=past, h=h, equal=0)
        pq, tape = form.predictor(state.z, state.past, k, h)
        predicted, psi = torch.mm(pq, state.z).unbind(0)
        t1, c = t + h, h / form.alpha[k]
        inverse_scale = tol.scale(predicted.detach()).reciprocal()
        kappa = max(2e-15 / max(tol.rtol, 1e-14), min(KAPPA, math.sqrt(tol.rtol)))
        jac, fresh, solver, rate = state.jac, state.fresh, state.solver, state.rate
        while True:
            if jac is None:
                jac, fresh, solver = state.jacobian(t1, predicted.detach()), True, None
            if solver is None or c != state.c:
                solver, rate = Factorised(form.eye(y), jac, c, field.stats), 1.0
                state = replace(state, solver=solver, c=c)
            found = None
            if solver.ok:
                with torch.no_grad():
                    found = simplified_newton(
                        field, t1, predicted.detach(), psi.detach(), c, solver, inverse_scale, tol, kappa, rate
                    )
                if found.converged:
                    break
            if fresh:
                field.stats.newton_failures += 1
                bad = found is not None and not math.isfinite(found.norm)
                kept = replace(before, jac=jac if not bad else None, fresh=not bad, solver=None, rate=1.0, equal=0)
                return Step.failed(t, h, 0.5, kept, Status.NONFINITE if bad else Status.NEWTON)
            jac = None
        d, rate = found.d, found.rate
        safety = 0.9 * (2 * MAX_ITERATIONS + 1) / (2 * MAX_ITERATIONS + found.iterations)
        constant = form.error_constant(state.past, k, h)
        ratio = constant * (found.norm if found.norm is not None else tol.rms(d, inverse_scale))
        if not ratio <= 1.0:
            factor = max(0.2, safety * ratio ** (-1 / (k + 1)))
            kept = replace(before, jac=jac, fresh=fresh, solver=solver, c=c, rate=rate, equal=0)
            return Step(t, h, y, None, ratio, factor, kept)
        state = replace(state, jac=jac, fresh=False, solver=solver, c=c, rate=rate)
        if torch.is_grad_enabled() and (predicted.requires_grad or field.parameters):
            exact = state.jacobian(t1, predicted + d)
            d = attach(field, t1, predicted, psi, c, Factorised(form.eye(y), exact, c, field.stats), d)
        y1 = predicted + d
        z, past = form.update(state.z, state.past, k, h, d, y1)
        state = replace(state, z=z, past=past, equal=state.equal + 1)
        factor, state = self._select(state, ratio, safety, inverse_scale)
        return Step(t, h, y, y1, ratio, factor, state, (k, c, change, pq, z, tape))

    def _select(self, state, ratio, safety, inverse_scale):
        """The order and step of the next step, by the errors that the neighbouring orders would have made."""
        k = state.order
        if state.equal < k + 1:
            return 1.0, state
        lower, upper = self.history.neighbours(state.z.detach(), state.past, k, state.h, inverse_scale)
        growth = {k: ratio, k - 1: lower, k + 1: upper}
        growth = {order: max(r, 1e-10) ** (-1 / (order + 1)) for order, r in growth.items() if r is not None}
        best = max(growth, key=growth.get)
        factor = min(10.0, safety * growth[best])
        if best == k and 1 / KEEP < factor < KEEP:
            return 1.0, state
        return factor, replace(state, order=best, equal=0)

    def polynomial(self, field, step):
        """(degree + 1, n) coefficients of the powers of theta: the interpolant of the formula's own values."""
        weights = self.history.dense_weights(step.tape[0], step.tape[5])
        z = step.tape[4]
        return torch.as_tensor(weights, dtype=z.dtype, device=z.device) @ z


KAPPA = 1e-2
KEEP = 1.2

QNDF = BDF(
    "QNDF", MAX_ORDER, "Shampine & Reichelt, The MATLAB ODE suite, SIAM J. Sci. Comput. 18 (1997)", DifferenceHistory()
)
FBDF = BDF(
    "FBDF", MAX_ORDER, "Jackson & Sacks-Davis, An alternative implementation of variable step-size multistep formulas "
    "for stiff ODEs, ACM Trans. Math. Softw. 6 (1980)", ValueHistory()
)
