"""The gradient of a solve that took the short way (solve_short.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..core.module_state import HeldTensors
from .base import Rules

if TYPE_CHECKING:
    from ..core.problem import ODEProblem
    from ..core.stats import Stats

CHANGED = (
    "a tensor that f uses has changed in place since the solve, so pynode can no longer compute its"
    " gradient: call backward() before optimizer.step() and before other changes, or solve again"
)


class ShortGradient(ABC):
    """The gradient of the outputs of a solve in its start and in the inputs.

    problem, path: of the solve; path.bound is the field with its tensors, and path.changed() tells
    whether f is another now. inputs: tensors that f reads, in any order; others get zeros. Raise
    RuntimeError if a tensor that f reads has changed before the backward pass.
    """

    def __init__(
        self, problem: ODEProblem, path: Any, stats: Stats, inputs: Sequence[Tensor]
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

    @property
    @abstractmethod
    def rules(self) -> Rules:
        """What ``Integrate`` needs."""

    def of_inputs(self, cotangents: Sequence[Tensor], rows: tuple[int, ...] = ()) -> list[Tensor]:
        """The cotangents of the inputs from those of the targets. rows: (R,) if each has R rows."""
        found = []
        for x, places in zip(self.inputs, self._places, strict=True):
            if len(places) == 1:
                found.append(cotangents[places[0]])
                continue
            total = x.new_zeros((*rows, *x.shape))
            for place in places:
                total += cotangents[place]
            found.append(total)
        return found

    def check(self) -> None:
        """Raise RuntimeError if a tensor of f has changed since the solve."""
        moved = any(x._version != version for x, version in self._versions)
        if moved or self.path.changed():
            raise RuntimeError(CHANGED)
