"""The gradient of a native solve that took the short way (solve_short.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from ..base import Rules
from .adjoint import CHANGED, add_backward_counts, no_second
from .prepared import prepared
from .pullback import pullback, pullback_many

if TYPE_CHECKING:
    from ...backends.native.engine import NativeSegment
    from ...core.stats import Stats


class ShortGradient:
    """The gradient of the outputs of a solve in its start and in the inputs.

    path: of the solve. inputs: tensors that f reads, in any order; others get zeros. Raise
    RuntimeError if a tensor that f reads has changed before the backward pass.
    """

    def __init__(self, path: NativeSegment, stats: Stats, inputs: Sequence[Tensor]) -> None:
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
        prepared(path.bound, path.solved)

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

    def second(self, grads: Tensor, vectors: Sequence[Tensor | None]) -> NoReturn:
        """Second derivatives are refused."""
        no_second()

    def _pulled(self, function: Callable, grads: Tensor, rows: tuple[int, ...]) -> Any:
        solved = self.path.solved
        moved = any(x._version != version for x, version in self._versions)
        if moved or solved.changed():
            raise RuntimeError(CHANGED)
        gradient = function(self.path.bound, solved, None, grads.detach().numpy())
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
