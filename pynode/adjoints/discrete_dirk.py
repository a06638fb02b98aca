"""The discrete adjoint of diagonally implicit Runge-Kutta methods, additive pairs included.

As for explicit methods, but that an implicit stage stands on both sides of its equation: with r_i the cotangent that
the slope k_i has from elsewhere, fbar_i = r_i + h gamma jbar_i and jbar_i = J_i^T fbar_i, so that
(I - h gamma J_i)^T fbar_i = r_i: the implicit function theorem, exactly. Newton's iteration is not repeated.
The slope that a step takes over from the last one has the derivative of f at its start (see methods/dirk.py).
"""

from __future__ import annotations

import torch

from .onestep import Start
from .points import jacobians, pull_parameters


class Replay(Start):
    """All steps of a chunk, stage by stage, with the Jacobian of every stage and I - h gamma J factorised."""

    def __init__(self, field, method, chunk, inside):
        super().__init__(chunk, inside)
        tb, (m, n) = method.tableau, self.y.shape
        split = method.companion is not None and field.parts is not None
        self.fields = field.parts if split else (field,)
        tables = (tb, method.companion) if split else (tb,)
        self.weights = [(table.matrix(), [float(x) for x in table.b]) for table in tables]
        states = chunk.tape(lambda step: step.tape[1])
        self.implicit = [tb.a[i][i] != 0 if len(tb.a[i]) > i else False for i in range(tb.stages)]
        self.c = (method.gamma * self.h).view(-1, 1, 1)
        self.t_points = torch.cat([self.t + node * self.h for node in method.nodes])
        self.y_points = states.reshape(-1, n)
        self.jacobians = [jacobians(f, self.t_points, self.y_points).view(tb.stages, m, n, n) for f in self.fields]
        eye = torch.eye(n, dtype=states.dtype, device=states.device)
        self.lu = [
            torch.linalg.lu_factor(eye - self.c * jac) if implicit else None
            for implicit, jac in zip(self.implicit, self.jacobians[0])
        ]
        field.stats.backward_nlu += m * sum(self.implicit)
        field.stats.backward_nsolve += m * sum(self.implicit)
        self.dense = self.dense_cotangents(tb.dense_weights, True)

    def _stages(self, seed, outputs):
        """(cotangents of the starts, those of the slopes of each part), for cotangents (m, n, w) of the ends (None: of
        the outputs inside alone). outputs: whether the cotangents of the outputs inside the steps are added."""
        width = 1 if seed is None else seed.shape[2]
        m, n = self.y.shape
        h, count = self.h.view(-1, 1, 1), len(self.implicit)
        nothing = self.y.new_zeros(m, n, width)
        start = nothing if seed is None else seed
        slopes = [[nothing if seed is None else h * x * seed for x in b] for _, b in self.weights]
        if self.dense is not None and outputs:
            slopes = [[s + d.unsqueeze(2) for s, d in zip(part, self.dense[0])] for part in slopes]
            start = start + self.dense[1].unsqueeze(2)
        for i in range(count - 1, -1, -1):
            back = torch.bmm(self.jacobians[1][i].transpose(1, 2), slopes[1][i]) if len(slopes) > 1 else None
            known = slopes[0][i]
            if self.implicit[i]:
                rhs = known if back is None else known + self.c * back
                slopes[0][i] = torch.linalg.lu_solve(*self.lu[i], rhs, adjoint=True)
                # c J^T fbar without the product: where J is large, its rounding errors would be as well.
                back = (slopes[0][i] - known) / self.c
            else:
                first = torch.bmm(self.jacobians[0][i].transpose(1, 2), known)
                back = first if back is None else first + back
            start = start + back
            for (a, _), part in zip(self.weights, slopes):
                for j in range(i):
                    if a[i, j] != 0:
                        part[j] = part[j] + h * a[i, j] * back
        return start, slopes

    def sweep(self, seed):
        """Cotangents of the starts, (m, n, w); None where seed is None and there are no outputs inside."""
        if seed is None and self.dense is None:
            return None
        return self._stages(seed, seed is None)[0]

    def parameters(self, seed):
        """Cotangents of the parameters, summed over the steps, for cotangents (m, n, 1) of the ends."""
        if not self.fields[0].parameters:
            return []
        total = None
        for field, part in zip(self.fields, self._stages(seed, True)[1]):
            found = pull_parameters(field, self.t_points, self.y_points, torch.cat(part).squeeze(2))
            total = found if total is None else [a + b for a, b in zip(total, found)]
        return total
