"""Forward sensitivities of a native solve, as ``solve`` calls them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ....backends.native.engine import NativeSegment
from ...forward import NATIVE_COLUMNS, ForwardSensitivity, check_columns
from ...short import CHANGED
from ...targets import of_parameters
from ..adjoint import add_backward_counts, make_now
from .sensitivities import prepare, sensitivities

if TYPE_CHECKING:
    from ....core.batched_field import RowField
    from ....core.norm import Tolerance
    from ....core.trajectory import Trajectory
    from ....core.vector_field import VectorField
    from ....methods.base import Method


class NativeForwardSensitivity(ForwardSensitivity):
    """Carries the derivatives of all outputs through the steps of a native solve, in compiled code.

    It differentiates the same steps as NativeDiscreteAdjoint, and is its transpose.
    """

    def check(self, field: VectorField, method: Method) -> None:
        check_columns(field.size + sum(p.numel() for p in field.parameters), NATIVE_COLUMNS)

    def record(self, field: VectorField, method: Method, tol: Tolerance) -> Any:
        """None: the solve keeps all steps."""
        return None

    def validate_trajectory(self, field: VectorField, trajectory: Any) -> None:
        """Make the native functions now: later f may hold copies of its tensors."""
        make_now(prepare, trajectory)

    def propagate(
        self, field: VectorField, method: Method, trajectory: Trajectory, times: Sequence[float]
    ) -> Tensor:
        if not isinstance(trajectory, NativeSegment):
            # The solve could not leave its start: its only output is y0.
            return torch.eye(field.size).to(trajectory.y0).expand(len(times), -1, -1)
        solved = trajectory.solved
        if solved.changed():
            raise RuntimeError(CHANGED)
        wanted = kept(field, _targets(trajectory))
        found = sensitivities(trajectory.bound, solved, times, wanted)
        add_backward_counts(field.stats, found)
        return torch.from_numpy(found.matrix)

    def split(
        self, field: VectorField, trajectory: Trajectory, pulled: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        rows = tuple(pulled.shape[:-1])
        if not isinstance(trajectory, NativeSegment):
            return pulled, [p.new_zeros((*rows, *p.shape)) for p in field.parameters]
        targets = _targets(trajectory)
        targets = list(itertools.compress(targets, kept(field, targets)))
        ybar, *parts = pulled.split([field.size, *(x.numel() for x in targets)], -1)
        shaped = [g.reshape((*rows, *x.shape)) for g, x in zip(parts, targets, strict=True)]
        return ybar, of_parameters(field, targets, shaped, rows)


def _targets(trajectory):
    """The tensors that native code reads and torch can differentiate."""
    bound = trajectory.bound
    return [bound.targets[i] for i in bound.differentiable]


def kept(field: VectorField | RowField, targets: Sequence[Tensor]) -> list[bool]:
    """For each target whether it is a parameter of the field, or computed from parameters."""
    known = {id(p) for p in field.parameters}
    inside = [field.module_state.inside(target) for target in targets]
    return [id(x) in known or x.grad_fn is not None for x in inside]
