"""Second derivatives of a recorded solve: repeat its steps with a graph, and differentiate this
graph twice.

The code repeats the recorded steps and never chooses new ones. This takes the memory of the whole
graph, for any number of checkpoints, and several times the time of adjoint="direct".
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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

    y0: (n,), equal to the y0 of the trajectory.
    """
    recording = trajectory.recording
    method = trajectory.recording.method
    if field.structure is not None and isinstance(method, RosenbrockMethod):
        # The code also differentiates the Jacobian. Only a dense Jacobian allows this.
        field = copy.copy(field)
        field.structure = None
    by_step: dict[int, list[tuple[int, float | None]]] = {}
    for i, (k, theta) in enumerate(locate_outputs(trajectory, times)):
        by_step.setdefault(-1 if k is None else k, []).append((i, theta))
    rows = [y0] * len(times)
    with torch.enable_grad(), field.stats.of_gradient():
        first = field.initial_slope(trajectory.t0, y0)
        y = y0
        state = method.init(field, trajectory.t0, y0, first, trajectory.h0, recording.tol)
        for k in range(len(recording.starts)):
            step = recording.replay_step(field, k, y, state)
            y = step.y
            state = step.state
            members = by_step.get(k, ())
            if any(theta is not None for _, theta in members):
                curve = method.polynomial(field, step)
            else:
                curve = None
            for i, theta in members:
                if theta is None:
                    thetas = None
                else:
                    thetas = torch.tensor([theta], dtype=torch.float64, device=y.device)
                if thetas is None:
                    rows[i] = y
                else:
                    rows[i] = evaluate(curve, thetas)[0]
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
    of the results of the pullback of grads.

    This is the derivative of <vectors, pullback(grads)>, exact in every order.
    """
    with torch.enable_grad():
        y0, grads = (x.detach().clone().requires_grad_() for x in (trajectory.y0, grads))
        inputs = [y0, *field.parameters]
        ys = replay(field, trajectory, y0, times)
        field.leaves.check(ys, (y0,))
        pulled = pull(ys, inputs, grads)
        total: Any = sum(
            (v * g).sum() for v, g in zip(vectors, pulled, strict=True) if g is not None
        )
        inputs = [grads, *inputs]
        second_grads = torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True)
    field.stats.backward_steps += len(trajectory.recording.starts)
    field.stats.backward_nvjp += 2 * len(trajectory.recording.starts)
    return none_to_zeros(grads=second_grads, tensors=inputs)
