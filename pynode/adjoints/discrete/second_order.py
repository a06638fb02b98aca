"""Second derivatives of a recorded solve: repeat its steps with a graph, and differentiate this
graph twice.

The code repeats the recorded steps and never chooses new ones. This takes the memory of the whole
graph, for any number of checkpoints, and several times the time of adjoint="direct".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

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


# For each step its end, (n,), and the state at a fraction of it, in order.
Steps: TypeAlias = Iterator[tuple[Tensor, Callable[[float], Tensor]]]


def replay(
    field: VectorField,
    trajectory: Any,
    y0: Tensor,
    times: Sequence[float],
    steps: Callable[[VectorField, Any, Tensor], Steps],
) -> Tensor:
    """The states at times (floats of the span), (T, n), as a differentiable function of y0 and the
    parameters.

    y0: (n,), equal to the y0 of the trajectory. steps: see ``pullback``.
    """
    by_step: dict[int, list[tuple[int, float | None]]] = {}
    for i, (k, theta) in enumerate(locate_outputs(trajectory, times)):
        by_step.setdefault(-1 if k is None else k, []).append((i, theta))
    rows = [y0] * len(times)
    with torch.enable_grad(), field.stats.of_gradient():
        for k, (y, inside) in enumerate(steps(field, trajectory, y0)):
            for i, theta in by_step.get(k, ()):
                if theta is None:
                    rows[i] = y
                else:
                    rows[i] = inside(theta)
        return torch.stack(rows)


def retake(field: VectorField, trajectory: Trajectory, y0: Tensor) -> Steps:
    """The recorded steps again, with a graph."""
    recording = trajectory.recording
    method = recording.method
    if field.structure is not None and isinstance(method, RosenbrockMethod):
        # The code also differentiates the Jacobian. Only a dense Jacobian allows this.
        field = copy.copy(field)
        field.structure = None
    y = y0
    first = field.initial_slope(trajectory.t0, y)
    state = method.init(field, trajectory.t0, y, first, trajectory.h0, recording.tol)
    for k in range(len(recording.starts)):
        step = recording.replay_step(field, k, y, state)
        y = step.y
        state = step.state
        yield y, partial(_inside, field, method, step)


def _inside(field, method, step, theta):
    """The state at the fraction theta of a step, (n,)."""
    curve = method.polynomial(field, step)
    return evaluate(curve, torch.tensor([theta], dtype=torch.float64, device=curve.device))[0]


@with_double_backward
def pullback(
    field: VectorField,
    trajectory: Any,
    times: Sequence[float],
    grads: Tensor,
    vectors: Sequence[Tensor],
    steps: Callable[[VectorField, Any, Tensor], Steps] = retake,
) -> list[Tensor]:
    """Cotangents of grads (T, n), of y0 (n,) and of the parameters, for the cotangents ``vectors``
    of the results of the pullback of grads.

    This is the derivative of <vectors, pullback(grads)>, exact in every order. steps: takes the
    recorded steps of a trajectory from a y0 again, with a graph.
    """
    with torch.enable_grad():
        y0, grads = (x.detach().clone().requires_grad_() for x in (trajectory.y0, grads))
        inputs = [y0, *field.parameters]
        ys = replay(field, trajectory, y0, times, steps)
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
