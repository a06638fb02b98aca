"""The discrete adjoint of diagonally implicit methods a step at a time, for sparse, banded and
matrix-free Jacobians.

The recursion of esdirk.py on one cotangent instead of all unit vectors: nothing of size n x n is
made.
"""

from __future__ import annotations

import torch

from ...methods.esdirk import DIRK
from ..field_products import added
from .esdirk import Stages
from .replay import STEPWISE, RecordedSteps, entries
from .structured import Stepwise, pull


@STEPWISE.register(DIRK)
def pullback(field, method, steps, ends, inside, ybar):
    """As replay.pullback."""
    grads = [torch.zeros_like(p) for p in field.parameters]
    stepwise = Stepwise(method.implicit_part(field))
    for k in range(len(steps) - 1, -1, -1):
        if ends[k] is not None:
            ybar = ybar + ends[k]
        one = _One(field, method, steps[k], inside[k], stepwise)
        start, slopes = one.stages(ybar.view(1, -1, 1), True)
        ybar = start.view(-1)
        if grads:
            grads = added(grads, one.pull(slopes))
    return ybar, grads


class _One(Stages):
    """One step: a factorisation for every stage when it is reached, and vector-Jacobian
    products."""

    def __init__(self, field, method, step, inside, stepwise):
        super().__init__(field, method, RecordedSteps([step]), entries([inside]))
        self.stepwise = stepwise

    def solve(self, i, v):
        t = float(self.t_points[i])
        y = self.y_points[i]
        return (
            self.stepwise.factorised(t, y, float(self.c)).solve_transposed(v.view(-1)).view(v.shape)
        )

    def product(self, part, i, v):
        back = pull(self.fields[part], float(self.t_points[i]), self.y_points[i], v.view(-1))[0]
        if back is None:
            return torch.zeros_like(v)
        return back.view(v.shape)
