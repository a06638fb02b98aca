"""Explicit Runge-Kutta methods. Hairer, Norsett & Wanner I, chapter II."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..algebra.combine import CoefficientRow, combine
from .base import Controlled, OneStep, Step

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField


@dataclass(frozen=True, kw_only=True, repr=False)
class ExplicitRungeKutta(Controlled, OneStep):
    """Runs an explicit tableau. compile: True, or a backend of torch.compile, compiles whole steps.
    State: (f at the start of the step or None, ratios of the last two
    steps)."""

    compile: bool | str = False
    family = "explicit Runge-Kutta"
    taped = False
    memory = (2, 2)

    @cached_property
    def rows(
        self,
    ) -> tuple[list[CoefficientRow], CoefficientRow, CoefficientRow, list[CoefficientRow]]:
        """Rows of a, b and b_err, and of the further stages for the dense output."""
        tb = self.tableau
        return (
            [CoefficientRow(r) for r in tb.a],
            CoefficientRow(tb.b),
            CoefficientRow(tb.b_err),
            [CoefficientRow(r) for r in tb.a_dense],
        )

    @cached_property
    def nodes(self) -> list[float]:
        return [float(c) for c in self.tableau.c + self.tableau.c_dense]

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor | None, h: float, tol: Tolerance
    ) -> tuple:
        return f0, (1.0, 1.0)

    def trim_tape(self, tape: Any) -> None:
        return None

    def attempt(
        self, field: Any, t: float | Tensor, y: Tensor, h: float | Tensor, first: Tensor | None
    ) -> tuple[Tensor, Any, list[Tensor]]:
        """(y1, error, stages) of a step. h is a float and y (n,); for rows of a batch h and t are
        (m,) and y is (m, n).

        first: f(t, y) if it is known.
        """
        rows, b, b_err, _ = self.rows
        tb = self.tableau
        nodes = self.nodes
        ks = [field(t, y) if first is None else first]
        y1 = y
        for i in range(1, tb.stages):
            y1 = combine(y, h, rows[i], ks)
            ks.append(field(t + nodes[i] * h, y1))
        if not tb.fsal:
            y1 = combine(y, h, b, ks)
        return y1, combine(None, h, b_err, ks) if self.adaptive else None, ks

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: tuple, tol: Tolerance
    ) -> Step:
        """One step; y: (n,). One synchronisation, at the norm of the error."""
        first, past = state
        if field.compiled is not None and not torch.is_grad_enabled():
            y1, ratio, ks = field.compiled.explicit(t, y, h, first, past, tol)
        else:
            y1, error, ks = self.attempt(field, t, y, h, first)
            if self.adaptive:
                ratio = tol.ratio(error, y, y1)
            else:
                ratio = 0.0
        if self.tableau.fsal:
            last = ks[-1]
        else:
            last = None
        if not self.adaptive:
            return Step(t, h, y, y1, 0.0, 1.0, (last, past), ks)
        factor, new_past = self.next_factor(ratio, past)
        if ratio <= 1.0:
            return Step(t, h, y, y1, ratio, factor, (last, new_past), ks)
        return Step.refused(t, h, y, y1, ratio, factor, (ks[0], past))

    def all_stages(
        self, field: Any, t: float | Tensor, y: Tensor, h: float | Tensor, ks: Any
    ) -> list[Tensor]:
        """The stages ks of a step, and the stages that only the dense output needs: list of (n,),
        or (m, n) for rows."""
        ks = list(ks)
        for i, row in enumerate(self.rows[3]):
            ks.append(field(t + self.nodes[self.tableau.stages + i] * h, combine(y, h, row, ks)))
        return ks

    def stages(self, field: VectorField, step: Step) -> Tensor | list[Tensor]:
        if len(step.tape) == self.tableau.stages:
            step.tape = self.all_stages(field, step.t, step.start, step.h, step.tape)
        return step.tape
