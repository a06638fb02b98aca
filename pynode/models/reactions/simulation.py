"""The course of a model in time, by the names of its quantities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sympy as sp
from torch import Tensor

from ...core.formatting import counted
from ...core.layout import Layout
from ...core.stats import Stats
from ...core.status import Status
from ...core.views.viewable import Viewable

if TYPE_CHECKING:
    from .model import ReactionModel


@dataclass(frozen=True)
class Occurrence:
    """An event of the model that happened.

    t: its time, 0-d. before, after: the states, (n,). All are differentiable. event: its number
    among the events of the model.
    """

    name: str
    t: Tensor
    before: Tensor
    after: Tensor
    event: int = 0
    index: int = 0  # of a condition, for those who read EventRecords

    @property
    def y(self) -> Tensor:
        """The state before the event, (n,), under the name that an EventRecord gives it."""
        return self.before


@dataclass(frozen=True)
class Simulation(Viewable):
    """A model's course: ``simulation["S1"]`` is the quantity S1 at all times, (T,).

    t: (T,) times. y: (T, n) states; at the time of an event, the state after it. p: the constants.
    events: what happened, in order. triggers: which triggers of events are true at the end. stats:
    the counts of all solves together. method, backend: of the solves.

    Like a Solution it has ``plot``, ``to_numpy``, ``to_pandas``, ``to_xarray`` and ``save``, all of
    them for the states. What ``save`` writes as .npz, ``pynode.load`` reads as a Solution.
    """

    model: ReactionModel
    t: Tensor
    y: Tensor
    p: Tensor
    events: list[Occurrence] = field(default_factory=list)
    triggers: tuple[bool, ...] = ()
    stats: Stats = field(default_factory=Stats)
    method: str = ""
    backend: str = ""
    status: Status = Status.SUCCESS

    def __getitem__(self, formula: str | sp.Basic) -> Tensor:
        """A quantity or formula at all times, (T,)."""
        return self.quantities([formula])[:, 0]

    def quantities(self, formulas: Sequence[str | sp.Basic]) -> Tensor:
        """Quantities or formulas at all times, (T, len(formulas))."""
        return self.model.quantities(formulas)(self.t.unsqueeze(-1), self.y, self.p)

    @property
    def message(self) -> str:
        """How the simulation ended, in a sentence."""
        return f"{self.status.sentence}, with {counted(len(self.events), 'event')}."

    @property
    def success(self) -> bool:
        """Always True: a simulation that fails raises SolveError."""
        return self.status.success

    @property
    def reached(self) -> float:
        """The last time."""
        return float(self.t[-1])

    @property
    def _layout(self) -> Layout:  # type: ignore[override]
        layout = Layout(self.y[0].detach(), self.model.states)
        layout.time_unit = self.model.time_unit
        return layout
