"""The course of a model in time, by the names of its quantities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sympy as sp
from torch import Tensor

if TYPE_CHECKING:
    from .model import ReactionModel


@dataclass(frozen=True)
class Occurrence:
    """An event of the model that happened.

    t: its time, 0-d. before, after: the states, (n,). All are differentiable.
    """

    name: str
    t: Tensor
    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class Simulation:
    """A model's course: ``simulation["S1"]`` is the quantity S1 at all times, (T,).

    t: (T,) times. y: (T, n) states; at the time of an event, the state after it. p: the constants.
    events: what happened, in order.
    """

    model: ReactionModel
    t: Tensor
    y: Tensor
    p: Tensor
    events: list[Occurrence] = field(default_factory=list)

    def __getitem__(self, formula: str | sp.Basic) -> Tensor:
        """A quantity or formula at all times, (T,)."""
        return self.quantities([formula])[:, 0]

    def quantities(self, formulas: Sequence[str | sp.Basic]) -> Tensor:
        """Quantities or formulas at all times, (T, len(formulas))."""
        return self.model.quantities(formulas)(self.t.unsqueeze(-1), self.y, self.p)
