"""The discrete adjoint of any method: repeat every accepted step with a graph, one by one, and pull
the cotangents back.

It serves methods whose recursion has no parallel form here. A step needs y and the tensors of its
state that have derivatives (``Method.state_tensors``). The rest of the state is numbers, which are
equal in the repetition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.cotangents import add_grads, plus, zero_grads
from ...core.trajectory import evaluate
from ...methods.adams import AdamsPECE
from ..field_products import pull_back
from .stability import AdamsWatch

if TYPE_CHECKING:
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Method, Step
    from ..output_cotangents import InsideStep


class Sweep:
    """Goes back over pieces of the steps, the last piece first, with the cotangents of y and of the
    state tensors."""

    def __init__(self, field: VectorField, method: Method, trajectory: Trajectory) -> None:
        self.field = field
        self.trajectory = trajectory
        self.ybar = torch.zeros_like(trajectory.y0)
        self.state_cotangents: dict[str, Tensor] = {}
        self.grads = zero_grads(field.parameters)
        self.watch: AdamsWatch | None = None
        if isinstance(method, AdamsPECE):
            self.watch = AdamsWatch(method, len(trajectory.recording.starts))

    def back(
        self,
        steps: Sequence[Step],
        end_cotangents: Sequence[Tensor | None],
        inside: Sequence[InsideStep | None],
    ) -> None:
        """end_cotangents, inside: of the outputs (OutputCotangents.of_steps)."""
        with self.field.stats.of_gradient():
            for k in range(len(steps) - 1, -1, -1):
                self.ybar = plus(self.ybar, end_cotangents[k])
                self._step(steps[k], inside[k])

    def _step(self, step, inside):
        method, state, tol = step.before
        y = _leaf(step.start)
        leaves = _leaves(method, state)
        with torch.enable_grad():
            retaken = method.step(self.field, step.t, y, step.h, state._replace(**leaves), tol)
            pairs = [(retaken.y, self.ybar)]
            pairs += [
                (getattr(retaken.state, name), cotangent)
                for name, cotangent in self.state_cotangents.items()
            ]
            if inside is not None:
                theta, cotangents = inside
                pairs.append((evaluate(method.polynomial(self.field, retaken), theta), cotangents))
        self.field.stats.backward_steps += 1
        if self.watch is not None:
            self.watch.look(retaken, state.order)
        self._pull(pairs, y, leaves)

    def finish(self) -> tuple[Tensor, list[Tensor]]:
        """Return (cotangent of y0 (n,), cotangents of the parameters)."""
        path = self.trajectory
        recording = self.trajectory.recording
        if self.watch is not None:
            self.watch.finish()
        if self.state_cotangents:
            ybar = self.ybar
            cotangents = self.state_cotangents
            with torch.enable_grad(), self.field.stats.of_gradient():
                y0 = _leaf(path.y0)
                f0 = self.field(path.t0, y0)
                first = recording.method.init(self.field, path.t0, y0, f0, path.h0, recording.tol)
                self._pull(
                    [(getattr(first, name), cotangent) for name, cotangent in cotangents.items()],
                    y0,
                    {},
                )
            self.ybar = ybar + self.ybar
        return self.ybar, self.grads

    def _pull(self, pairs, y, leaves):
        """Pull back pairs (tensor, cotangent). Sets the cotangents of y and of the leaves, and adds
        up the cotangents of the parameters."""
        pairs = [
            (tensor, cotangent)
            for tensor, cotangent in pairs
            if tensor is not None and tensor.requires_grad
        ]
        self.ybar = torch.zeros_like(y)
        self.state_cotangents = {}
        if not pairs:
            return
        tensors, cotangents = zip(*pairs)
        (ybar, *state_grads), param_grads = pull_back(
            self.field, tensors, (y, *leaves.values()), cotangents
        )
        self.field.stats.backward_nvjp += 1
        if ybar is not None:
            self.ybar = ybar
        self.state_cotangents = {
            name: value for name, value in zip(leaves, state_grads) if value is not None
        }
        self.grads = add_grads(self.grads, param_grads)


def _leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def _leaves(method, state):
    """Leaves of the state tensors that have derivatives. Tensors that the state does not have are
    left out."""
    tensors = {name: getattr(state, name) for name in method.state_tensors}
    return {name: _leaf(value) for name, value in tensors.items() if value is not None}
