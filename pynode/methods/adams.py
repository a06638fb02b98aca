"""Adams methods of variable order 1 to 12 and variable step, in PECE mode: predict, evaluate,
correct, evaluate.

Hairer, Norsett & Wanner I, sec. III.5; Shampine & Gordon, Computer Solution of Ordinary
Differential Equations (1975): two evaluations of f in each step at any order, for nonstiff
problems with an expensive f.

With d_i = (t - t_i) / h for the last times, the interpolant of f is sum_j c_j(theta) phi*_j, where
c_j(theta) = prod_(i<j) (theta + d_i) / (1 + d_i) and phi*_j are modified divided differences; its
integrals are the formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..core import products
from ..core.transfer import constant
from .base import Method, Step

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField


MAX_ORDER = 12
# The highest order while the step doubles. On such a grid higher differences magnify rounding by
# thousands.
START_ORDER = 4


class State(NamedTuple):
    """phi: (rows, n) modified divided differences phi_0 = f(t, y), phi_1, ... (III.5.8); past: t -
    t_i, signed by h, of the times they come from; order: of the predictor; equal: steps taken with
    h and order unchanged; starting: whether order and step still grow at every step; failures: in a
    row."""

    phi: torch.Tensor
    past: tuple
    order: int
    equal: int
    h: float
    starting: bool
    failures: int


def basis(past: tuple, h: float, count: int) -> tuple[list[list[float]], list[float], list[float]]:
    """(coefficients of the powers of theta of c_0, ..., c_count, their integrals g over [0, 1],
    betas (III.5.7))."""
    rows = [[1.0]]
    betas = [1.0]
    for j in range(count):
        d = past[j] / h
        last = rows[-1]
        scale = 1 / (1 + d)
        rows.append([scale * (d * a + b) for a, b in zip([*last, 0.0], [0.0, *last])])
        if j + 1 < len(past):
            betas.append(betas[-1] * (1 + d) / (past[j + 1] / h))
    return rows, [sum(a / (m + 1) for m, a in enumerate(row)) for row in rows], betas


@dataclass(frozen=True, repr=False)
class AdamsPECE(Method):
    """Predictor of order k, corrector of order k + 1 (local extrapolation). The errors of the
    neighbouring orders determine k."""

    name = "AdamsPECE"
    order = MAX_ORDER
    reference = (
        "Shampine & Gordon, Computer Solution of Ordinary Differential Equations (1975);"
        " Hairer, Norsett & Wanner I, sec. III.5"
    )
    family = "Adams"
    state_tensors = ("phi",)
    memory = (MAX_ORDER + 3, MAX_ORDER + 4)

    @property
    def error_order(self) -> int:
        """The value for the first step, which has order 1."""
        return 2

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor, h: float, tol: Tolerance
    ) -> State:
        return State(f0.unsqueeze(0), (0.0,), 1, 0, h, True, 0)

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: State, tol: Tolerance
    ) -> Step:
        """One step; y: (n,). One synchronisation, at the norms of the errors."""
        phi, past, k, equal, old_h, starting, _ = state
        before = self, state, tol
        if h != old_h:
            equal = 0
        rows = min(len(phi), k + 1)
        polynomials, g, betas = basis(past, h, min(k + 1, len(past)))
        weights = constant(betas[:rows], y).unsqueeze(1)
        star = phi[:rows] * weights
        sums = torch.cumsum(star, 0)
        # Predicted with phi*_0 .. phi*_(k-1); the difference of order k at the prediction corrects
        # it.
        used = constant(g[:k], y)
        predicted = torch.addmv(y, star[:k].t(), used, alpha=h)
        defect = field(t + h, predicted) - sums[k - 1]
        y1 = torch.add(predicted, defect, alpha=h * g[k])
        with torch.no_grad():
            size, lower = self._errors(y, y1, h, k, g, defect, star, tol)
        if not size <= 1.0:
            return self._rejected(t, h, y, size, state, lower)
        f1 = field(t + h, y1)
        new = torch.cat((f1.unsqueeze(0), f1 - sums))
        equal += 1
        order = k
        upper = None
        # The start raises order and step together as long as the error at the present order lets
        # the step double.
        starting = starting and k < START_ORDER and size * 2 ** (k + 1) < 0.5
        if starting and not lower:
            order = k + 1
        elif lower:
            order = k - 1
            starting = False
        elif equal > k and k < MAX_ORDER and len(new) > k + 1:
            with torch.no_grad():
                upper = tol.rms(new[k + 1], tol.scale(y1)) * abs(h * (g[k + 1] - g[k]))
            if upper < (0.5 if k == 1 else 1.0) * size:
                order = k + 1
        if upper is not None and order == k + 1:
            error = upper
        else:
            error = size
        factor = self._factor(error, order, starting)
        if order != k:
            equal = 0
        moved = (0.0, *(p + h for p in past[: MAX_ORDER + 1]))
        next_state = State(new, moved, order, equal, h, starting, 0)
        step = Step(t, h, y, y1, size, factor, next_state, (polynomials[: k + 1], star[:k], defect))
        step.before = before
        return step

    @staticmethod
    def _errors(
        y: Tensor,
        y1: Tensor,
        h: float,
        k: int,
        g: list[float],
        defect: Tensor,
        star: Tensor,
        tol: Tolerance,
    ) -> tuple[float, bool]:
        """(scaled error of the step, whether the errors of lower orders are no larger). Shampine &
        Gordon, chapter 5."""
        rows = [defect * (h * (g[k] - g[k - 1]))]
        difference = defect
        for j in range(k - 1, max(0, k - 3), -1):
            difference = difference + star[j]
            rows.append(difference * (h * (g[j] - g[j - 1])))
        scaled = torch.stack(rows) / torch.add(
            tol.atol, torch.maximum(y.abs(), y1.abs()), alpha=tol.rtol
        )
        size, *others = (scaled * scaled).mean(1).sqrt().tolist()
        if not others:
            return size, False
        return size, max(others) <= (0.5 if k == 2 else 1.0) * size

    @staticmethod
    def _factor(error: float, order: int, starting: bool) -> float:
        """The step is doubled, kept or cut. Other changes would make the grid uneven."""
        growth = (0.5 / max(error, 1e-16)) ** (1 / (order + 1))
        if starting or growth >= 2:
            return 2.0
        if growth >= 1:
            return 1.0
        return max(0.5, min(0.9, growth))

    @staticmethod
    def _rejected(t: float, h: float, y: Tensor, size: float, state: State, lower: bool) -> Step:
        failures = state.failures + 1
        if failures > 2:
            order = 1
        else:
            order = state.order - lower
        next_state = state._replace(order=order, equal=0, starting=False, failures=failures)
        if not math.isfinite(size):
            return Step.failed(t, h, 0.25, next_state)
        if failures < 3:
            factor = 0.5
        else:
            factor = 0.25
        return Step(t, h, y, None, size, factor, next_state)

    @staticmethod
    def stiffness(step: Step, order: int) -> float:
        """h times a Lipschitz constant of f, from the two values of f at the end of a step of this
        order."""
        rows, star, defect = step.tape
        weight = sum(a / (m + 1) for m, a in enumerate(rows[order]))
        with torch.no_grad():
            rise = (step.state.phi[0] - defect - star[:order].sum(0)).norm()
            return float(rise / (abs(weight) * defect.norm()))

    def trim_tape(self, tape: Any) -> None:
        return None

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        """(k + 2, n) coefficients of the powers of theta: the integral of the step's
        interpolant."""
        rows, star, defect = step.tape
        weights = torch.zeros(len(rows) + 1, len(rows), dtype=defect.dtype, device=defect.device)
        for j, row in enumerate(rows):
            for m, a in enumerate(row):
                weights[m + 1, j] = step.h * a / (m + 1)
        rise = products.mm(weights, torch.cat((star, defect.unsqueeze(0))))
        return torch.cat((step.start.unsqueeze(0), rise[1:]))
