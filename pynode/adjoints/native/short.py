"""The gradient of a native solve that took the short way (solve_short.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.leaves import Leaves
from ...core.module_state import HeldTensors
from ...core.vector_field import VectorField
from ..base import Rules
from ..discrete import second_order
from .adjoint import CHANGED, add_backward_counts
from .prepared import prepared
from .pullback import NativeGradient, pullback, pullback_many
from .retake import retake

if TYPE_CHECKING:
    from ...backends.native.engine import NativeSegment
    from ...core.problem import ODEProblem
    from ...core.stats import Stats


class ShortGradient:
    """The gradient of the outputs of a solve in its start and in the inputs.

    problem, path: of the solve. inputs: tensors that f reads, in any order; others get zeros. Raise
    RuntimeError if a tensor that f reads has changed before the backward pass. prepare: makes the
    native functions.
    """

    prepare: Callable[..., Any] = staticmethod(prepared)

    def __init__(
        self, problem: ODEProblem, path: NativeSegment, stats: Stats, inputs: Sequence[Tensor]
    ) -> None:
        self.problem = problem
        self.held = HeldTensors(problem.f)
        self.path = path
        self.stats = stats
        self.inputs = inputs
        targets = path.bound.targets
        # The same tensor can be an argument and a tensor that f holds.
        self._places = [
            [k for k, i in enumerate(path.bound.differentiable) if targets[i] is x] for x in inputs
        ]
        self._versions = [(x, x._version) for x in targets if not x.is_inference()]
        # Made now: later f may be another.
        self.prepare(path.bound, path.solved)

    @property
    def rules(self) -> Rules:
        """What ``Integrate`` needs."""
        return Rules(self.pullback, self.second, self.pullback_many)

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(cotangent of the start (n,), those of the inputs). grads: (T, n)."""
        return self._pulled(pullback, grads, ())

    def pullback_many(self, grads: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The ``pullback`` of many cotangents, (R, T, n): (R, n), and (R, ...) for each input."""
        return self._pulled(pullback_many, grads, (len(grads),))

    def second(self, grads: Tensor, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The second derivative; see Adjoint.second."""
        self._check()
        times = self.path.times[: grads.shape[0]]
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
        self._check()
        gradient = self.gradient(function, grads)
        add_backward_counts(self.stats, gradient)
        cotangents = []
        for x, places in zip(self.inputs, self._places, strict=True):
            if len(places) == 1:
                cotangents.append(torch.from_numpy(gradient.targets[places[0]]))
                continue
            total = x.new_zeros((*rows, *x.shape))
            for place in places:
                total += torch.from_numpy(gradient.targets[place])
            cotangents.append(total)
        return torch.from_numpy(gradient.y0), cotangents

    def gradient(self, function: Callable, grads: Tensor) -> NativeGradient:
        """The cotangents of the start and of all targets. function: pullback or pullback_many."""
        return function(self.path.bound, self.path.solved, None, grads.detach().numpy())

    def _check(self) -> None:
        moved = any(x._version != version for x, version in self._versions)
        if moved or self.path.solved.changed():
            raise RuntimeError(CHANGED)
