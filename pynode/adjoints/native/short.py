"""The gradient of a native solve that took the short way (solve_short.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.leaves import Leaves
from ...core.vector_field import VectorField
from ..base import Rules
from ..discrete import second_order
from ..short import ShortGradient
from .adjoint import add_backward_counts
from .prepared import prepared
from .pullback import NativeGradient, pullback, pullback_many
from .retake import retake

if TYPE_CHECKING:
    from ...backends.native.engine import NativeSegment
    from ...core.problem import ODEProblem
    from ...core.stats import Stats


class NativeShortGradient(ShortGradient):
    """The discrete adjoint of the recorded steps. prepare: makes the native functions."""

    prepare: Callable[..., Any] = staticmethod(prepared)

    def __init__(
        self, problem: ODEProblem, path: NativeSegment, stats: Stats, inputs: Sequence[Tensor]
    ) -> None:
        super().__init__(problem, path, stats, inputs)
        # Made now: later f may be another.
        self.prepare(path.bound, path.solved)

    @property
    def rules(self) -> Rules:
        return Rules(self.pullback, self.second, self.pullback_many)

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(cotangent of the start (n,), those of the inputs). grads: (T, n)."""
        return self._pulled(pullback, grads, ())

    def pullback_many(self, grads: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The ``pullback`` of many cotangents, (R, T, n): (R, n), and (R, ...) for each input."""
        return self._pulled(pullback_many, grads, (len(grads),))

    def second(self, grads: Tensor, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The second derivative; see Adjoint.second."""
        self.check()
        times = self.path.queries[: grads.shape[0]]
        with self.held.restored():
            field = self._field()
            with field.module_state.restored(self.inputs):
                return tuple(second_order.pullback(field, self.path, times, grads, vectors, retake))

    def _field(self):
        """The field for torch, with the inputs as its parameters."""
        problem = self.problem
        # With ``direct`` it does not look for them.
        field = VectorField(problem, problem.layout(), self.path.t0, direct=True)
        inputs = list(self.inputs)
        field.leaves = Leaves(problem.args, inputs, inputs, [], True)
        field.stats = self.stats
        return field

    def _pulled(self, function: Callable, grads: Tensor, rows: tuple[int, ...]) -> Any:
        self.check()
        gradient = self.gradient(function, grads)
        add_backward_counts(self.stats, gradient)
        cotangents = [torch.from_numpy(part) for part in gradient.targets]
        return torch.from_numpy(gradient.y0), self.of_inputs(cotangents, rows)

    def gradient(self, function: Callable, grads: Tensor) -> NativeGradient:
        """The cotangents of the start and of all targets. function: pullback or pullback_many."""
        path = self.path
        times = path.queries if path.hits else None
        return function(path.bound, path.solved, times, grads.detach().numpy())
