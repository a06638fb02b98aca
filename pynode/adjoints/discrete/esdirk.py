"""The discrete adjoint of diagonally implicit Runge-Kutta methods, including additive pairs.

It works as for explicit methods, but an implicit stage appears on both sides of its equation. Let
r_i be the cotangent that the slope k_i receives from elsewhere. Then M^T fbar_i = r_i + h gamma
jbar_i and jbar_i = J_i^T fbar_i, so (M - h gamma J_i)^T fbar_i = r_i. This is the implicit function
theorem, exactly; Newton's iteration does not run again. The slope that a step takes over from the
previous step has the derivative of f at its start (see methods/esdirk.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core import products
from ...core.cotangents import add_grads, plus, zero_grads
from ...methods.esdirk import DIRK
from ..field_products import jacobians, pull_parameters
from .replay import REPLAYS, StepBatch

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from .replay import InsideOutputs, RecordedSteps


class Stages(StepBatch):
    """The recursion over the stages of all steps of a chunk.

    A subclass defines ``solve`` and ``product``.
    """

    def __init__(
        self,
        field: VectorField,
        method: DIRK,
        chunk: RecordedSteps,
        inside: Sequence[InsideOutputs],
    ) -> None:
        super().__init__(chunk, inside)
        tb = method.tableau
        (m, n) = self.y.shape
        self.mass = field.mass
        self.fields: tuple[Any, ...] = (field,)
        tables: tuple[Any, ...] = (tb,)
        if method.splits(field):
            self.fields = field.parts
            tables = (tb, method.companion)
        self.weights = [(table.matrix(), [float(x) for x in table.b]) for table in tables]
        states = chunk.tape(lambda step: step.tape[1])
        self.implicit = [tb.a[i][i] != 0 if len(tb.a[i]) > i else False for i in range(tb.stages)]
        self.c = (method.gamma * self.h).view(-1, 1, 1)
        self.t_points = torch.cat([self.t + node * self.h for node in method.nodes])
        self.y_points = states.reshape(-1, n)
        field.stats.backward_nsolve += m * sum(self.implicit)
        self.interior = self.interior_cotangents(method.dense_weights(field.mass), True)

    def stages(self, seed: Tensor | None, outputs: bool) -> tuple[Tensor, list[list[Tensor]]]:
        """Return (cotangents of the starts, cotangents of the slopes of each part). seed:
        cotangents (m, n, w) of the ends; None for none. outputs: whether to add the cotangents of
        the outputs inside the steps."""
        if seed is None:
            width = 1
        else:
            width = seed.shape[2]
        m, n = self.y.shape
        h = self.h.view(-1, 1, 1)
        count = len(self.implicit)
        nothing = self.y.new_zeros(m, n, width)
        if seed is None:
            start = nothing
        else:
            start = seed
        slopes = [[nothing if seed is None else h * x * seed for x in b] for _, b in self.weights]
        if self.interior is not None and outputs:
            slopes = [
                [s + d.unsqueeze(2) for s, d in zip(part, self.interior[0])] for part in slopes
            ]
            start = start + self.interior[1].unsqueeze(2)
        for i in range(count - 1, -1, -1):
            if len(slopes) > 1:
                back = self.product(1, i, slopes[1][i])
            else:
                back = None
            incoming = slopes[0][i]
            if self.implicit[i]:
                if back is None:
                    rhs = incoming
                else:
                    rhs = incoming + self.c * back
                slopes[0][i] = self.solve(i, rhs)
                # c J^T fbar without the product, because a large J gives large rounding errors.
                back = (self._mass_transposed(slopes[0][i]) - incoming) / self.c
            else:
                if self.mass is not None:
                    slopes[0][i] = incoming = self.mass.pinv_apply_transposed(
                        incoming.transpose(1, 2)
                    ).transpose(1, 2)
                back = plus(self.product(0, i, incoming), back)
            start = start + back
            for (a, _), part in zip(self.weights, slopes):
                for j in range(i):
                    if a[i, j] != 0:
                        part[j] = part[j] + h * a[i, j] * back
        return start, slopes

    def solve(self, i: int, v: Tensor) -> Tensor:
        """(M - h gamma J_i)^-T v, for v (m, n, w)."""
        raise NotImplementedError

    def product(self, part: int, i: int, v: Tensor) -> Tensor:
        """J_i^T v, for v (m, n, w). part: 0 for the implicit part of f, 1 for the explicit one."""
        raise NotImplementedError

    def _mass_transposed(self, v):
        """M^T v for v (m, n, w)."""
        if self.mass is None:
            return v
        return self.mass.times_transposed(v.transpose(1, 2)).transpose(1, 2)

    def pull(self, slopes: Sequence[list[Tensor]]) -> list[Tensor]:
        """Cotangents of the parameters, summed over the steps. slopes: cotangents of the slopes of
        each part."""
        total = zero_grads(self.fields[0].parameters)
        for field, part in zip(self.fields, slopes):
            grads = pull_parameters(field, self.t_points, self.y_points, torch.cat(part).squeeze(2))
            total = add_grads(total, grads)
        return total


@REPLAYS.register(DIRK)
class Replay(Stages):
    """All steps at once, with the Jacobian of every stage and factorised M - h gamma J."""

    def __init__(
        self,
        field: VectorField,
        method: DIRK,
        chunk: RecordedSteps,
        inside: Sequence[InsideOutputs],
    ) -> None:
        super().__init__(field, method, chunk, inside)
        m, n = self.y.shape
        shape = (len(self.implicit), m, n, n)
        self.jacobians = [
            jacobians(f, self.t_points, self.y_points).view(shape) for f in self.fields
        ]
        if field.mass is None:
            mass_matrix = torch.eye(n, dtype=self.y.dtype, device=self.y.device)
        else:
            mass_matrix = field.mass.to_dense()
        self.lu: list[Any] = [
            products.lu_factor(mass_matrix - self.c * jac) if implicit else None
            for implicit, jac in zip(self.implicit, self.jacobians[0])
        ]
        field.stats.backward_nlu += m * sum(self.implicit)

    def solve(self, i: int, v: Tensor) -> Tensor:
        return products.lu_solve(*self.lu[i], v, adjoint=True)

    def product(self, part: int, i: int, v: Tensor) -> Tensor:
        return products.bmm(self.jacobians[part][i].transpose(1, 2), v)

    def parameters(self, seed: Tensor) -> list[Tensor]:
        """Cotangents of the parameters, summed over the steps. seed: cotangents (m, n, 1) of the
        ends."""
        if self.fields[0].parameters:
            return self.pull(self.stages(seed, True)[1])
        return []
