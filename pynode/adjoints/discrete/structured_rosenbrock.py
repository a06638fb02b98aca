"""The discrete adjoint of Rosenbrock methods, one step at a time, for sparse and banded Jacobians.

The recursion of rosenbrock.py on one cotangent instead of all unit vectors. It makes nothing of
size n x n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...algebra.combine import combine
from ...core.cotangents import add_grads, plus, zero_grads
from ...methods.rosenbrock import RosenbrockMethod
from ..field_products import second_order
from .replay import STEPWISE, RecordedSteps, StepBatch, indexed_outputs
from .structured import Stepwise, pull

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from ...methods.base import Step
    from ..output_cotangents import InsideStep


@STEPWISE.register(RosenbrockMethod)
def pullback(
    field: VectorField,
    method: RosenbrockMethod,
    steps: Sequence[Step],
    end_cotangents: Sequence[Tensor | None],
    inside: Sequence[InsideStep | None],
    ybar: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """The same as replay.pullback."""
    grads = zero_grads(field.parameters)
    stepwise = Stepwise(field)
    for k in range(len(steps) - 1, -1, -1):
        ybar = plus(ybar, end_cotangents[k])
        ybar, param_grads = _step(field, method, stepwise, steps[k], inside[k], ybar)
        grads = add_grads(grads, param_grads)
    return ybar, grads


def _step(field, method, stepwise, step, inside, ybar):
    """Take one step back. The cotangent of its end, (n,), goes in; the cotangents of its start and
    of the parameters come out."""
    tb = method.tableau
    us = step.tape
    h = step.h
    rows_a, rows_c, b, _ = method.rows
    gamma = float(tb.gamma)
    ubar = [torch.zeros_like(ybar) for _ in us]
    for i, weight in zip(b.indices, b.values, strict=True):
        ubar[i] = weight * ybar
    start = ybar
    dense = StepBatch(RecordedSteps([step]), indexed_outputs([inside])).interior_cotangents(
        tb.dense_weights, False
    )
    if dense is not None:
        ubar = [u + d[0] for u, d in zip(ubar, dense[0], strict=True)]
        start = start + dense[1][0]
    solver = stepwise.factorised(step.t, step.start, h * gamma)
    grads = zero_grads(field.parameters)
    vs = [None] * len(us)
    for i in range(len(us) - 1, -1, -1):
        vs[i] = v = solver.solve_transposed(gamma * h * ubar[i])
        back, param_grads = pull(
            field, step.t + float(tb.c[i]) * h, combine(step.start, 1.0, rows_a[i], us), v
        )
        grads = add_grads(grads, param_grads)
        start = plus(start, back)
        if back is not None:
            for j, a in zip(rows_a[i].indices, rows_a[i].values, strict=True):
                ubar[j] = ubar[j] + a * back
        if field.mass is None:
            mass_v = v
        else:
            mass_v = field.mass.times_transposed(v)
        for j, weight in zip(rows_c[i].indices, rows_c[i].values, strict=True):
            ubar[j] = ubar[j] + weight / h * mass_v
    field.stats.backward_nsolve += len(us)
    time = torch.tensor([step.t], dtype=ybar.dtype, device=ybar.device)
    slopes = torch.tensor([[h * float(d)] for d in tb.d], dtype=ybar.dtype, device=ybar.device)
    stacked = (torch.stack(us).unsqueeze(1), slopes, torch.stack(vs).unsqueeze(1))
    moved, second = second_order(field, time, step.start.unsqueeze(0), *stacked)
    return start + moved[0], add_grads(grads, second)
