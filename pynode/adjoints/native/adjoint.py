"""The discrete adjoint of a native solve, as ``solve`` calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...backends.native.checkpoints import Checkpoints
from ...backends.native.engine import NativeSegment
from ...translate import TranslationRefused
from ..discrete import second_order
from ..discrete.adjoint import DiscreteAdjoint
from ..short import CHANGED
from ..targets import of_parameters
from .prepared import prepared
from .pullback import NativeGradient, pullback, pullback_many
from .retake import retake

if TYPE_CHECKING:
    from ...core.norm import Tolerance
    from ...core.options import Options
    from ...core.stats import Stats
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Method
    from .forward.sensitivities import NativeSensitivities
    from .rows import RowGradients


class NativeDiscreteAdjoint(DiscreteAdjoint):
    """Differentiates the accepted steps of a native solve in reverse, in compiled code.

    It gives the exact gradient of these steps, as DiscreteAdjoint does for the torch engine. Many
    cotangents go back at once, on all cores that torch may use. Second derivatives run in torch.
    """

    takes_many = True

    def record(self, field: VectorField, method: Method, tol: Tolerance) -> Any:
        """The Checkpoints of the solve, or None for a record of all steps."""
        if self.checkpoints is None and self.max_memory is None:
            return None
        return Checkpoints(self.checkpoints, self.max_memory)

    def tape(self, field: VectorField, method: Method) -> None:
        """None: native code keeps no graphs."""

    def validate_trajectory(self, field: VectorField, trajectory: Any) -> None:
        """Make the native functions of the backward pass now: later f may hold copies of its
        tensors."""
        make_now(prepared, trajectory)

    def pullback(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        y0, targets, cotangents = self._pulled(pullback, field, trajectory, times, grads)
        return y0, of_parameters(field, targets, cotangents)

    def pullback_many(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        y0, targets, cotangents = self._pulled(pullback_many, field, trajectory, times, grads)
        return y0, of_parameters(field, targets, cotangents, (len(grads),))

    @staticmethod
    def _pulled(function, field, trajectory, times, grads):
        """(cotangent of the start, the targets, their cotangents) by one of the two functions."""
        if not isinstance(trajectory, NativeSegment):
            # The solve could not leave its start: its only output is y0.
            return grads.sum(-2), [], []
        bound = trajectory.bound
        if trajectory.solved.changed():
            raise RuntimeError(CHANGED)
        gradient = function(bound, trajectory.solved, times, grads.detach().numpy())
        add_backward_counts(field.stats, gradient)
        targets = [bound.targets[i] for i in bound.differentiable]
        cotangents = [torch.from_numpy(part) for part in gradient.targets]
        return torch.from_numpy(gradient.y0), targets, cotangents

    def second(
        self,
        field: VectorField,
        trajectory: Any,
        times: Sequence[float],
        grads: Tensor,
        vectors: Sequence[Tensor],
    ) -> list[Tensor]:
        """In torch: the recorded steps are taken again with a graph (retake.py)."""
        if not isinstance(trajectory, NativeSegment):
            # The solve could not leave its start, so its only output is y0.
            inputs = [trajectory.y0, *field.parameters]
            return [vectors[0].expand_as(grads), *map(torch.zeros_like, inputs)]
        if trajectory.solved.changed():
            raise RuntimeError(CHANGED)
        return second_order.pullback(field, trajectory, times, grads, vectors, retake)


def make_now(prepare: Callable[..., Any], trajectory: Any) -> None:
    """Make the native functions that a solve with a record needs for its derivatives."""
    solved = getattr(trajectory, "solved", None)  # none if f is not finite at the start
    if solved is None or solved.starts is None:
        return
    try:
        prepare(trajectory.bound, solved)
    except TranslationRefused:
        # The derivatives can be NaN where a solve fails. That error says more.
        if trajectory.status.success:
            raise


def add_backward_counts(
    stats: Stats, gradient: NativeGradient | NativeSensitivities | RowGradients
) -> None:
    """Count the work of a backward pass. A product with the Jacobian evaluates f, too."""
    stats.backward_nfe += gradient.counts["nvjp"]
    for name, count in gradient.counts.items():
        backward = f"backward_{name}"
        setattr(stats, backward, getattr(stats, backward) + count)
