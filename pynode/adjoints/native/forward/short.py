"""Forward sensitivities of a native solve that took the short way (solve_short.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ...base import only_first
from ...forward import NATIVE_COLUMNS, ForwardSensitivity, check_columns
from ..adjoint import add_backward_counts
from ..pullback import NativeGradient
from ..short import NativeShortGradient
from .sensitivities import prepare, sensitivities, split_products

if TYPE_CHECKING:
    from ....backends.native.engine import NativeSegment
    from ....core.problem import ODEProblem
    from ....core.stats import Stats


class ShortSensitivities(NativeShortGradient):
    """The same gradient by the derivatives of all outputs, which the first call makes and later
    ones use again. Raise ValueError for very many inputs."""

    prepare = staticmethod(prepare)

    def __init__(
        self, problem: ODEProblem, path: NativeSegment, stats: Stats, inputs: Sequence[Tensor]
    ) -> None:
        super().__init__(problem, path, stats, inputs)
        bound = path.bound
        known = {id(x) for x in inputs}
        targets = [bound.targets[i] for i in bound.differentiable]
        self._kept = [id(x) in known for x in targets]
        self._shapes = [tuple(x.shape) for x in targets]
        check_columns(bound.n + sum(x.numel() for x in inputs), NATIVE_COLUMNS)
        self._of_start = problem.y0.requires_grad  # type: ignore[union-attr]  # a tensor
        self._matrix: np.ndarray | None = None

    def second(self, grads: Tensor, vectors: Sequence[Tensor]) -> Any:
        only_first(ForwardSensitivity.name)

    def gradient(self, function: Callable, grads: Tensor) -> NativeGradient:
        if self._matrix is None:
            times = self.path.queries[: grads.shape[-2]]
            made = sensitivities(
                self.path.bound, self.path.solved, times, self._kept, self._of_start
            )
            add_backward_counts(self.stats, made)
            self._matrix = made.matrix
        pulled = np.tensordot(grads.detach().numpy(), self._matrix, 2)
        return split_products(pulled, self.path.bound.n, self._shapes, self._kept, self._of_start)
