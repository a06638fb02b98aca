"""The discrete adjoint of Radau IIA methods.

The stages M Y_i = M y + h sum_j a_ij f(t_j, Y_j) depend on one another, so that the cotangents l of
their equations solve one system a step: with g_i what Y_i receives from outside, M^T l_i = g_i +
J_i^T fbar_i and fbar_j = h sum_i a_ij l_i, that is (I x M - h a x J)^T l = g: the implicit function
theorem, exactly; y receives M^T l_i from every stage. The systems of all steps are factorised
together.
"""

from __future__ import annotations

import torch

from ...methods.radau import Radau
from ..field_products import jacobians, pull_parameters
from ..output_cotangents import powers
from .replay import REPLAYS, StepBatch


@REPLAYS.register(Radau)
class Replay(StepBatch):
    """All steps of a chunk; ys: (m, s, n) states of the stages."""

    @staticmethod
    def size(method):
        return method.tableau.stages**2

    def __init__(self, field, method, chunk, inside):
        super().__init__(chunk, inside)
        tb = method.tableau
        self.field = field
        ys = torch.stack([step.tape for step in chunk.steps])
        m, s, n = ys.shape
        self.a = torch.as_tensor(tb.a, dtype=ys.dtype, device=ys.device)
        nodes = torch.as_tensor(tb.c, dtype=ys.dtype, device=ys.device)
        self.t_points = (self.t.unsqueeze(1) + self.h.unsqueeze(1) * nodes).reshape(-1)
        self.y_points = ys.reshape(-1, n)
        blocks = jacobians(field, self.t_points, self.y_points).view(m, s, n, n)
        coupled = torch.einsum("ij,mjab->miajb", self.a, blocks).reshape(m, s * n, s * n)
        held = torch.eye(s * n, dtype=ys.dtype, device=ys.device)
        if field.mass is not None:
            held = torch.kron(torch.eye(s, dtype=ys.dtype, device=ys.device), field.mass.dense())
        self.lu = torch.linalg.lu_factor(held - self.h.view(-1, 1, 1) * coupled)
        field.stats.backward_nlu += m
        field.stats.backward_nsolve += m
        if self.inside:
            self.dense = self._dense(tb, m, s, n)
        else:
            self.dense = None

    def _dense(self, tb, m, s, n):
        """Cotangents of the stages, (m, s, n), and of the starts, (m, n), from the outputs inside
        the steps."""
        stages = self.y.new_zeros(m, s, n)
        start = self.y.new_zeros(m, n)
        basis = torch.as_tensor(tb.powers, dtype=self.y.dtype, device=self.y.device)
        for i, theta, cotangents in self.inside:
            stages[i] = (powers(theta, s, 1, self.y) @ basis).T @ cotangents
            start[i] = cotangents.sum(0) - stages[i].sum(0)
        return stages, start

    def stages(self, seed, outputs):
        """(cotangents of the starts (m, n, w), those of f at the stages (m, s, n, w)) for
        cotangents of the ends.

        outputs: whether the cotangents of the outputs inside the steps are added.
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
        if self.dense is not None and outputs:
            g = g + self.dense[0].unsqueeze(3)
            start = start + self.dense[1].unsqueeze(2)
        solved = torch.linalg.lu_solve(*self.lu, g.reshape(m, s * n, width), adjoint=True).view(
            m, s, n, width
        )
        slopes = self.h.view(-1, 1, 1, 1) * torch.einsum("ij,minw->mjnw", self.a, solved)
        held = solved.sum(1)
        mass = self.field.mass
        if mass is not None:
            held = mass.times_transposed(held.transpose(1, 2)).transpose(1, 2)
        return start + held, slopes

    def parameters(self, seed):
        """Cotangents of the parameters, summed over the steps, for cotangents (m, n, 1) of the
        ends."""
        if not self.field.parameters:
            return []
        slopes = self.stages(seed, True)[1]
        return pull_parameters(
            self.field, self.t_points, self.y_points, slopes.reshape(-1, self.y.shape[1])
        )
