"""The discrete adjoint of diagonally implicit methods, one step at a time, for sparse, banded and
matrix-free Jacobians.

The recursion of esdirk.py on one cotangent instead of all unit vectors. It makes nothing of size n
x n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.cotangents import add_grads, plus, zero_grads
from ...methods.esdirk import DIRK
from .esdirk import Stages
from .replay import STEPWISE, RecordedSteps, indexed_outputs
from .structured import Stepwise, pull

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from ...methods.base import Step
    from ..output_cotangents import InsideStep


@STEPWISE.register(DIRK)
def pullback(
    field: VectorField,
    method: DIRK,
    steps: Sequence[Step],
    end_cotangents: Sequence[Tensor | None],
    inside: Sequence[InsideStep | None],
    ybar: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """The same as replay.pullback."""
    grads = zero_grads(field.parameters)
    stepwise = Stepwise(method.implicit_part(field))
    for k in range(len(steps) - 1, -1, -1):
        ybar = plus(ybar, end_cotangents[k])
        one = _One(field, method, steps[k], inside[k], stepwise)
        start, slopes = one.stages(ybar.view(1, -1, 1), True)
        ybar = start.view(-1)
        if grads:
            grads = add_grads(grads, one.pull(slopes))
    return ybar, grads


class _One(Stages):
    """One step: factorises each stage when it reaches it, and uses vector-Jacobian products."""

    def __init__(self, field, method, step, inside, stepwise):
        super().__init__(field, method, RecordedSteps([step]), indexed_outputs([inside]))
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
