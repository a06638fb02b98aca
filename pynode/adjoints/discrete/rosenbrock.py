"""The discrete adjoint of Rosenbrock methods. Sandu, Daescu & Carmichael, Atmos. Environ. 37
(2003), sec. 3.2.

With W = M - gamma h J and the cotangent of u_i, solve W^T v_i = gamma h ubar_i. v_i is the
cotangent of the stage's right-hand side. It goes back through f at the stage, through M and the
earlier u, and through J and df/dt. The last part is the derivative of sum_i v_i . (J u_i + h d_i
df/dt), a second derivative of f. The code computes it for all steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core import products
from ...core.cotangents import add_grads
from ...methods.rosenbrock import RosenbrockMethod
from ..field_products import jacobian_slopes, jacobians, pull_parameters, second_order
from .replay import REPLAYS, StepBatch

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from .replay import InsideOutputs, RecordedSteps


@REPLAYS.register(RosenbrockMethod)
class Replay(StepBatch):
    """All steps of a chunk, stage by stage, with the Jacobian of every stage and its change along
    every u."""

    def __init__(
        self,
        field: VectorField,
        method: RosenbrockMethod,
        chunk: RecordedSteps,
        inside: Sequence[InsideOutputs],
    ) -> None:
        super().__init__(chunk, inside)
        self.field = field
        self.tb = method.tableau
        tb = self.tb
        (m, n) = self.y.shape
        rows_a, rows_c, self.b, _ = method.rows
        self.gamma = float(tb.gamma)
        self.u = chunk.tape(lambda step: step.tape).unbind(0)
        self.points = []
        for i in range(tb.stages):
            y = self.y
            for j, a in zip(rows_a[i].indices, rows_a[i].values):
                y = y + a * self.u[j]
            self.points.append((self.t + float(tb.c[i]) * self.h, y))
        self.a = [dict(zip(row.indices, row.values)) for row in rows_a]
        self.c = [dict(zip(row.indices, row.values)) for row in rows_c]
        t, y = (torch.cat(x) for x in zip(*self.points))
        self.jacobians = jacobians(field, t, y).view(tb.stages, m, n, n)
        if field.mass is None:
            mass = torch.eye(n, dtype=y.dtype, device=y.device)
        else:
            mass = field.mass.to_dense()
        matrix = mass - (self.gamma * self.h).view(-1, 1, 1) * self.jacobians[0]
        self.lu = products.lu_factor(matrix)
        field.stats.backward_nlu += m
        field.stats.backward_nsolve += m * tb.stages
        self.slopes = [self.h * float(d) for d in tb.d]
        self.changes = [
            jacobian_slopes(field, self.t, self.y, u, s) for u, s in zip(self.u, self.slopes)
        ]
        self.interior = self.interior_cotangents(tb.dense_weights, False)

    def stages(self, seed: Tensor | None, outputs: bool) -> tuple[Tensor, list[Tensor]]:
        """Return (cotangents of the starts, list of v_i), (m, n, w) each. seed: cotangents of the
        ends.

        outputs: whether to add the cotangents of the outputs inside the steps.
        """
        m, n = self.y.shape
        if seed is None:
            width = 1
        else:
            width = seed.shape[2]
        if seed is None:
            start = self.y.new_zeros(m, n, width)
        else:
            start = seed
        ubar = [self.y.new_zeros(m, n, width) for _ in self.u]
        if seed is not None:
            for i, b in zip(self.b.indices, self.b.values):
                ubar[i] = b * seed
        if self.interior is not None and outputs:
            ubar = [s + d.unsqueeze(2) for s, d in zip(ubar, self.interior[0])]
            start = start + self.interior[1].unsqueeze(2)
        h = self.h.view(-1, 1, 1)
        vs: list[Any] = [None] * len(self.u)
        for i in range(len(self.u) - 1, -1, -1):
            vs[i] = v = products.lu_solve(*self.lu, self.gamma * h * ubar[i], adjoint=True)
            back = products.bmm(self.jacobians[i].transpose(1, 2), v)
            start = start + back + products.bmm(self.changes[i].transpose(1, 2), v)
            for j, a in self.a[i].items():
                ubar[j] = ubar[j] + a * back
            if self.field.mass is None:
                mass_v = v
            else:
                mass_v = self.field.mass.times_transposed(v.transpose(1, 2)).transpose(1, 2)
            for j, c in self.c[i].items():
                ubar[j] = ubar[j] + c / h * mass_v
        return start, vs

    def parameters(self, seed: Tensor) -> list[Tensor]:
        """Cotangents of the parameters, summed over the steps. seed: cotangents (m, n, 1) of the
        ends."""
        if not self.field.parameters:
            return []
        vs = torch.stack(self.stages(seed, True)[1]).squeeze(3)
        t, y = (torch.cat(x) for x in zip(*self.points))
        first = pull_parameters(self.field, t, y, vs.reshape(-1, y.shape[1]))
        second = second_order(
            self.field, self.t, self.y, torch.stack(self.u), torch.stack(self.slopes), vs
        )[1]
        return add_grads(first, second)
