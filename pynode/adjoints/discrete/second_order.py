"""Second derivatives of a recorded solve: its steps are taken again with a graph, and that graph is
differentiated twice.

The steps are those that were recorded, never chosen anew. This costs the memory of the whole graph,
whatever the checkpoints, and several times the time of adjoint="direct".
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.cotangents import none_to_zeros
from ...core.double_backward import pull, with_double_backward
from ...core.trajectory import evaluate
from ...methods.rosenbrock import RosenbrockMethod
from ..output_cotangents import locate_outputs

if TYPE_CHECKING:
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField


def replay(
    field: VectorField, trajectory: Trajectory, y0: Tensor, times: Sequence[float]
) -> Tensor:
    """The states at times (floats of the span), (T, n), as a differentiable function of y0 and the
    parameters.

    y0: (n,), with the numbers of the trajectory's own.
    """
    recording = trajectory.recording
    method = trajectory.recording.method
    if field.structure is not None and isinstance(method, RosenbrockMethod):
        # Its Jacobian is differentiated as well, which only the dense one allows.
        field = copy.copy(field)
        field.structure = None
    wanted = {}
    for i, (k, theta) in enumerate(locate_outputs(trajectory, times)):
        wanted.setdefault(-1 if k is None else k, []).append((i, theta))
    rows = [y0] * len(times)
    with torch.enable_grad(), field.stats.of_gradient():
        first = field.initial_slope(trajectory.t0, y0)
        y = y0
        state = method.init(field, trajectory.t0, y0, first, trajectory.h0, recording.tol)
        for k in range(len(recording.starts)):
            step = recording.again(field, k, y, state)
            y = step.y
            state = step.state
            found = wanted.get(k, ())
            if any(theta is not None for _, theta in found):
                curve = method.polynomial(field, step)
            else:
                curve = None
            for i, theta in found:
                if theta is None:
                    at = None
                else:
                    at = torch.tensor([theta], dtype=torch.float64, device=y.device)
                if at is None:
                    rows[i] = y
                else:
                    rows[i] = evaluate(curve, at)[0]
        return torch.stack(rows)


@with_double_backward
def pullback(
    field: VectorField,
    trajectory: Trajectory,
    times: Sequence[float],
    grads: Tensor,
    vectors: Sequence[Tensor],
) -> list[Tensor]:
    """Cotangents of grads (T, n), of y0 (n,) and of the parameters, for the cotangents ``vectors``
    of what the pullback of grads returns: the derivative of <vectors, pullback(grads)>, in which
    every order is differentiated exactly."""
    with torch.enable_grad():
        y0, grads = (x.detach().clone().requires_grad_() for x in (trajectory.y0, grads))
        inputs = [y0, *field.parameters]
        ys = replay(field, trajectory, y0, times)
        field.leaves.check(ys, (y0,))
        pulled = pull(ys, inputs, grads)
        total = sum((v * g).sum() for v, g in zip(vectors, pulled, strict=True) if g is not None)
        inputs = [grads, *inputs]
        found = torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True)
    field.stats.backward_steps += len(trajectory.recording.starts)
    field.stats.backward_nvjp += 2 * len(trajectory.recording.starts)
    return none_to_zeros(grads=found, tensors=inputs)
