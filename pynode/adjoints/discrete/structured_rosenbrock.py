"""The discrete adjoint of Rosenbrock methods a step at a time, for sparse and banded Jacobians.

The recursion of rosenbrock.py on one cotangent instead of all unit vectors: nothing of size n x n
is made.
"""

from __future__ import annotations

import torch

from ...algebra.combine import combine
from ...methods.rosenbrock import RosenbrockMethod
from ..field_products import added, second_order
from .replay import STEPWISE, RecordedSteps, StepBatch
from .structured import Stepwise, pull


@STEPWISE.register(RosenbrockMethod)
def pullback(field, method, steps, ends, inside, ybar):
    """As replay.pullback."""
    grads = [torch.zeros_like(p) for p in field.parameters]
    stepwise = Stepwise(field)
    for k in range(len(steps) - 1, -1, -1):
        if ends[k] is not None:
            ybar = ybar + ends[k]
        ybar, found = _step(field, method, stepwise, steps[k], inside[k], ybar)
        grads = added(grads, found)
    return ybar, grads


def _step(field, method, stepwise, step, inside, ybar):
    """One step back: from the cotangent of its end, (n,), to that of its start and of the
    parameters."""
    tb = method.tableau
    us = step.tape
    h = step.h
    rows_a, rows_c, b, _ = method.rows
    gamma = float(tb.gamma)
    ubar = [torch.zeros_like(ybar) for _ in us]
    for i, weight in zip(b.indices, b.values, strict=True):
        ubar[i] = weight * ybar
    start = ybar
    if inside is None:
        inside = []
    else:
        inside = [(0, *inside)]
    dense = StepBatch(RecordedSteps([step]), inside).dense_cotangents(tb.dense_weights, False)
    if dense is not None:
        ubar = [u + d[0] for u, d in zip(ubar, dense[0], strict=True)]
        start = start + dense[1][0]
    solver = stepwise.factorised(step.t, step.start, h * gamma)
    grads = [torch.zeros_like(p) for p in field.parameters]
    vs = [None] * len(us)
    for i in range(len(us) - 1, -1, -1):
        vs[i] = v = solver.solve_transposed(gamma * h * ubar[i])
        back, found = pull(
            field, step.t + float(tb.c[i]) * h, combine(step.start, 1.0, rows_a[i], us), v
        )
        grads = added(grads, found)
        if back is not None:
            start = start + back
            for j, a in zip(rows_a[i].indices, rows_a[i].values, strict=True):
                ubar[j] = ubar[j] + a * back
        if field.mass is None:
            held = v
        else:
            held = field.mass.times_transposed(v)
        for j, weight in zip(rows_c[i].indices, rows_c[i].values, strict=True):
            ubar[j] = ubar[j] + weight / h * held
    field.stats.backward_nsolve += len(us)
    time = torch.tensor([step.t], dtype=ybar.dtype, device=ybar.device)
    slopes = torch.tensor([[h * float(d)] for d in tb.d], dtype=ybar.dtype, device=ybar.device)
    stacked = (torch.stack(us).unsqueeze(1), slopes, torch.stack(vs).unsqueeze(1))
    moved, second = second_order(field, time, step.start.unsqueeze(0), *stacked)
    return start + moved[0], added(grads, second)
