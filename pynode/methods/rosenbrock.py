"""Rosenbrock methods: each step makes one Jacobian and one factorisation, and iterates nothing.
Hairer & Wanner II, sec. IV.7."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..algebra.combine import CoefficientRow, as_stage_tensor, broadcast_step, combine
from ..algebra.structure import linearise
from ..core import products
from ..core.transfer import constant
from .base import Controlled, OneStep, Step

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField


@dataclass(frozen=True, kw_only=True, repr=False)
class RosenbrockMethod(Controlled, OneStep):
    """Runs a Rosenbrock tableau. Its df/dt term keeps the order for a non-autonomous f.

    jacobian: 'dense', 'sparse' or a structure; compile: True, or a backend of torch.compile,
    compiles whole steps. State: (linearisation of f, (df/dy, df/dt) at the start of the step or
    None, ratios of the last two steps).
    """

    jacobian: object = "dense"
    compile: bool | str = False
    family = "Rosenbrock"
    implicit = True
    structures = ("dense", "sparse", "banded")
    takes_mass = True

    @cached_property
    def rows(
        self,
    ) -> tuple[list[CoefficientRow], list[CoefficientRow], CoefficientRow, CoefficientRow]:
        tb = self.tableau
        return (
            [CoefficientRow(r) for r in tb.a],
            [CoefficientRow(r) for r in tb.C],
            CoefficientRow(tb.b),
            CoefficientRow(tb.b_err),
        )

    @cached_property
    def numbers(self) -> tuple[float, list[float], list[float]]:
        """gamma, and the c and d of all stages, as floats."""
        tb = self.tableau
        return float(tb.gamma), [float(c) for c in tb.c], [float(d) for d in tb.d]

    @cached_property
    def algebraic(self) -> float:
        """The local error of the algebraic components of a DAE, divided by its estimate. It differs
        from 1 only for a method of local order 2 in these components, sum b w alpha^2 != 1 (Hairer
        & Wanner II, VI.4.19): then both go like h^2."""
        tb = self.tableau
        gamma, alpha = tb.original()
        response = np.linalg.solve(alpha + gamma, alpha.sum(1) ** 2)
        error = 1 - tb.weights(tb.b) @ response
        estimate = tb.weights(tb.b_err) @ response
        if abs(error) > 1e-6 < abs(estimate):
            return abs(float(error / estimate))
        return 1.0

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor | None, h: float, tol: Tolerance
    ) -> tuple:
        return linearise(field), None, (1.0, 1.0)

    def linearised(
        self, field: VectorField, t: float, y: Tensor, state: tuple
    ) -> tuple[Any, tuple]:
        """(Jacobian at the start of the step, state that holds it)."""
        jacobian, linear, past = state
        if linear is None:
            linear = jacobian.with_time(t, y, graph=torch.is_grad_enabled())
        return linear[0], (jacobian, linear, past)

    def attempt(
        self,
        field: Any,
        t: float | Tensor,
        y: Tensor,
        h: float | Tensor,
        slope: Tensor | None,
        solver: Any,
    ) -> tuple[Tensor, Any, list[Tensor]]:
        """(y1, error, stages u) of a step. h is a float and y (n,); for rows of a batch h and t are
        (m,) and y is (m, n).

        slope: df/dt or None; solver: the factorisation of M - gamma h J.
        """
        tb = self.tableau
        mass = field.mass
        rows, rows_c, b, b_err = self.rows
        gamma, nodes, drifts = self.numbers
        us: list = []
        size: float | Tensor
        if isinstance(h, torch.Tensor):
            size = broadcast_step(h).to(y.dtype)
        else:
            size = h
        for i in range(tb.stages):
            f = field(t + nodes[i] * h, combine(y, 1.0, rows[i], us))
            if mass is None or not rows_c[i].indices:
                rhs = combine(f, 1 / h, rows_c[i], us)
            else:
                rhs = f + mass.times(combine(None, 1 / h, rows_c[i], us))
            if slope is not None and drifts[i] != 0:
                rhs = rhs + (size * drifts[i]) * slope
            # (M/(gamma h) - J) u = rhs, scaled by gamma h so that the matrix is M - gamma h J.
            us.append(solver.solve(rhs, h * gamma))
            field.stats.nsolve += 1
        y1 = combine(y, 1.0, b, us)
        return y1, combine(None, 1.0, b_err, us), us

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: tuple, tol: Tolerance
    ) -> Step:
        """One step; y: (n,)."""
        if field.compiled is not None and not torch.is_grad_enabled():
            jacobian, linear, past = state
            y1, ratio, us = field.compiled.rosenbrock(t, y, h, past, tol)
        else:
            _, (jacobian, linear, past) = self.linearised(field, t, y, state)
            solver = jacobian.factorised(linear[0], h * self.numbers[0])
            if not solver.ok:
                return Step.failed(t, h, 0.25, (jacobian, linear, past))
            y1, error, us = self.attempt(field, t, y, h, linear[1], solver)
            if field.mass is not None and field.mass.singular and self.algebraic != 1.0:
                error = error - (1.0 - self.algebraic) * field.mass.right_null(error)
            if self.adaptive:
                ratio = tol.ratio(error, y, y1)
            else:
                ratio = 0.0
        if not self.adaptive:
            return Step(t, h, y, y1, 0.0, 1.0, (jacobian, None, past), us)
        factor, new_past = self.next_factor(ratio, past)
        if ratio <= 1.0:
            return Step(t, h, y, y1, ratio, factor, (jacobian, None, new_past), us)
        return Step.refused(t, h, y, y1, ratio, factor, (jacobian, linear, past))

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        """(degree + 1, n) coefficients of the powers of theta on the step."""
        us = as_stage_tensor(step.tape)
        weights = constant(self.tableau.dense_weights.T.copy(), us)
        return torch.cat((step.start.unsqueeze(0), products.mm(weights, us)))
