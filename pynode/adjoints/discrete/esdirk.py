"""The discrete adjoint of diagonally implicit Runge-Kutta methods, additive pairs included.

As for explicit methods, but that an implicit stage stands on both sides of its equation: with r_i
the cotangent that the slope k_i has from elsewhere, M^T fbar_i = r_i + h gamma jbar_i and jbar_i =
J_i^T fbar_i, so that (M - h gamma J_i)^T fbar_i = r_i: the implicit function theorem, exactly.
Newton's iteration is not repeated. The slope that a step takes over from the last one has the
derivative of f at its start (see methods/esdirk.py).
"""

from __future__ import annotations

import torch

from ...methods.esdirk import DIRK
from ..field_products import added, jacobians, pull_parameters
from .replay import REPLAYS, StepBatch


class Stages(StepBatch):
    """The recursion over the stages of all steps of a chunk.

    The subclass has ``solve(i, v)``: (M - h gamma J_i)^-T v, and ``product(part, i, v)``: J_i^T v
    with the Jacobian of the implicit (0) or the explicit (1) part of f; v: (m, n, w).
    """

    def __init__(self, field, method, chunk, inside):
        super().__init__(chunk, inside)
        tb = method.tableau
        (m, n) = self.y.shape
        split = method.splits(field)
        self.mass = field.mass
        if split:
            self.fields = field.parts
        else:
            self.fields = (field,)
        if split:
            tables = (tb, method.companion)
        else:
            tables = (tb,)
        self.weights = [(table.matrix(), [float(x) for x in table.b]) for table in tables]
        states = chunk.tape(lambda step: step.tape[1])
        self.implicit = [tb.a[i][i] != 0 if len(tb.a[i]) > i else False for i in range(tb.stages)]
        self.c = (method.gamma * self.h).view(-1, 1, 1)
        self.t_points = torch.cat([self.t + node * self.h for node in method.nodes])
        self.y_points = states.reshape(-1, n)
        field.stats.backward_nsolve += m * sum(self.implicit)
        self.dense = self.dense_cotangents(method.dense_weights(field.mass), True)

    def stages(self, seed, outputs):
        """(cotangents of the starts, those of the slopes of each part), for cotangents (m, n, w) of
        the ends (None: of the outputs inside alone). outputs: whether the cotangents of the outputs
        inside the steps are added."""
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
        if self.dense is not None and outputs:
            slopes = [[s + d.unsqueeze(2) for s, d in zip(part, self.dense[0])] for part in slopes]
            start = start + self.dense[1].unsqueeze(2)
        for i in range(count - 1, -1, -1):
            if len(slopes) > 1:
                back = self.product(1, i, slopes[1][i])
            else:
                back = None
            known = slopes[0][i]
            if self.implicit[i]:
                if back is None:
                    rhs = known
                else:
                    rhs = known + self.c * back
                slopes[0][i] = self.solve(i, rhs)
                # c J^T fbar without the product: where J is large, its rounding errors would be as
                # well.
                back = (self._held(slopes[0][i]) - known) / self.c
            else:
                if self.mass is not None:
                    slopes[0][i] = known = self.mass.pinv_apply_transposed(
                        known.transpose(1, 2)
                    ).transpose(1, 2)
                first = self.product(0, i, known)
                if back is None:
                    back = first
                else:
                    back = first + back
            start = start + back
            for (a, _), part in zip(self.weights, slopes):
                for j in range(i):
                    if a[i, j] != 0:
                        part[j] = part[j] + h * a[i, j] * back
        return start, slopes

    def _held(self, v):
        """M^T v for v (m, n, w)."""
        if self.mass is None:
            return v
        return self.mass.times_transposed(v.transpose(1, 2)).transpose(1, 2)

    def pull(self, slopes):
        """Cotangents of the parameters, summed over the steps, for those of the slopes of each
        part."""
        total = None
        for field, part in zip(self.fields, slopes):
            found = pull_parameters(field, self.t_points, self.y_points, torch.cat(part).squeeze(2))
            if total is None:
                total = found
            else:
                total = added(total, found)
        return total


@REPLAYS.register(DIRK)
class Replay(Stages):
    """All steps side by side, with the Jacobian of every stage and M - h gamma J factorised."""

    def __init__(self, field, method, chunk, inside):
        super().__init__(field, method, chunk, inside)
        m, n = self.y.shape
        shape = (len(self.implicit), m, n, n)
        self.jacobians = [
            jacobians(f, self.t_points, self.y_points).view(shape) for f in self.fields
        ]
        if field.mass is None:
            held = torch.eye(n, dtype=self.y.dtype, device=self.y.device)
        else:
            held = field.mass.dense()
        self.lu = [
            torch.linalg.lu_factor(held - self.c * jac) if implicit else None
            for implicit, jac in zip(self.implicit, self.jacobians[0])
        ]
        field.stats.backward_nlu += m * sum(self.implicit)

    def solve(self, i, v):
        return torch.linalg.lu_solve(*self.lu[i], v, adjoint=True)

    def product(self, part, i, v):
        return torch.bmm(self.jacobians[part][i].transpose(1, 2), v)

    def parameters(self, seed):
        """Cotangents of the parameters, summed over the steps, for cotangents (m, n, 1) of the
        ends."""
        if self.fields[0].parameters:
            return self.pull(self.stages(seed, True)[1])
        return []
