"""The discrete adjoint of Radau IIA methods.

The stages M Y_i = M y + h sum_j a_ij f(t_j, Y_j) depend on one another, so the cotangents l of
their equations solve one system in each step. Let g_i be what Y_i receives from outside. Then M^T
l_i = g_i + J_i^T fbar_i and fbar_j = h sum_i a_ij l_i, so (I x M - h a x J)^T l = g. This is the
implicit function theorem, exactly. y receives M^T l_i from every stage. The code factorises the
systems of all steps together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core import products
from ...core.transfer import constant
from ...methods.radau import Radau
from ..field_products import jacobians, pull_parameters
from ..output_cotangents import powers
from .replay import REPLAYS, StepBatch

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from ...methods.base import OneStep
    from .replay import InsideOutputs, RecordedSteps


@REPLAYS.register(Radau)
class Replay(StepBatch):
    """All steps of a chunk. ys: (m, s, n) states of the stages."""

    @staticmethod
    def size(method: OneStep) -> int:
        """Matrices, (n, n), that one step needs."""
        return method.tableau.stages**2

    def __init__(
        self,
        field: VectorField,
        method: Radau,
        chunk: RecordedSteps,
        inside: Sequence[InsideOutputs],
    ) -> None:
        super().__init__(chunk, inside)
        tb = method.tableau
        self.field = field
        ys = torch.stack([step.tape for step in chunk.steps])
        m, s, n = ys.shape
        self.a = constant(tb.a, ys)
        nodes = constant(tb.c, ys)
        self.t_points = (self.t.unsqueeze(1) + self.h.unsqueeze(1) * nodes).reshape(-1)
        self.y_points = ys.reshape(-1, n)
        blocks = jacobians(field, self.t_points, self.y_points).view(m, s, n, n)
        coupled = self.a.view(s, 1, s, 1) * blocks.transpose(1, 2).unsqueeze(1)
        coupled = coupled.reshape(m, s * n, s * n)
        mass_matrix = torch.eye(s * n, dtype=ys.dtype, device=ys.device)
        if field.mass is not None:
            mass_matrix = torch.kron(
                torch.eye(s, dtype=ys.dtype, device=ys.device), field.mass.to_dense()
            )
        self.matrices = mass_matrix - self.h.view(-1, 1, 1) * coupled
        self.lu = products.lu_factor(self.matrices)
        field.stats.backward_nlu += m
        field.stats.backward_nsolve += m
        if self.inside:
            self.interior = self._dense(tb, m, s, n)
        else:
            self.interior = None

    def _dense(self, tb, m, s, n):
        """Cotangents of the stages, (m, s, n), and of the starts, (m, n), from the outputs inside
        the steps."""
        stages = self.y.new_zeros(m, s, n)
        start = self.y.new_zeros(m, n)
        basis = constant(tb.powers, self.y)
        for i, theta, cotangents in self.inside:
            weights = products.mm(powers(theta, s, 1, self.y), basis)
            stages[i] = products.mm(weights.T, cotangents)
            start[i] = cotangents.sum(0) - stages[i].sum(0)
        return stages, start

    def stages(self, seed: Tensor | None, outputs: bool) -> tuple[Tensor, Tensor]:
        """Return (cotangents of the starts (m, n, w), cotangents of f at the stages (m, s, n, w)).
        seed: cotangents of the ends.

        outputs: whether to add the cotangents of the outputs inside the steps.
        """
        (m, n), s = self.y.shape, len(self.a)
        if seed is None:
            width = 1
        else:
            width = seed.shape[2]
        g = self.y.new_zeros(m, s, n, width)
        start = self.y.new_zeros(m, n, width)
        if seed is not None:
            g[:, -1] = seed
        if self.interior is not None and outputs:
            g = g + self.interior[0].unsqueeze(3)
            start = start + self.interior[1].unsqueeze(2)
        right = g.reshape(m, s * n, width)
        solved = products.lu_solve(*self.lu, right, adjoint=True)
        # Elimination loses digits in a stiff step, and a refinement gives them back
        # (adjoints/native/radau.py).
        rest = right - products.bmm(self.matrices.transpose(1, 2), solved)
        solved = solved + products.lu_solve(*self.lu, rest, adjoint=True)
        solved = solved.view(m, s, n, width)
        weights = self.a.t().expand(m, s, s)
        slopes = products.bmm(weights, solved.reshape(m, s, n * width)).view(m, s, n, width)
        slopes = self.h.view(-1, 1, 1, 1) * slopes
        start_part = solved.sum(1)
        mass = self.field.mass
        if mass is not None:
            start_part = mass.times_transposed(start_part.transpose(1, 2)).transpose(1, 2)
        return start + start_part, slopes

    def parameters(self, seed: Tensor) -> list[Tensor]:
        """Cotangents of the parameters, summed over the steps. seed: cotangents (m, n, 1) of the
        ends."""
        if not self.field.parameters:
            return []
        slopes = self.stages(seed, True)[1]
        return pull_parameters(
            self.field, self.t_points, self.y_points, slopes.reshape(-1, self.y.shape[1])
        )
