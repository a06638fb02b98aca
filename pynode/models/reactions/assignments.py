"""What an event of a model does to the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import sympy as sp
import torch
from torch import Tensor

from .records import ModelEvent
from .symbols import amount, symbol

if TYPE_CHECKING:
    from .model import ReactionModel


class Assignments:
    """The functions of one event: delay, priority, assigned values, and the new state."""

    def __init__(self, model: ReactionModel, event: ModelEvent) -> None:
        self.model = model
        self.event = event
        self._targets = [name for name, _ in event.assignments]
        self._values = model.quantities([value for _, value in event.assignments])
        self._delay = self._optional(event.delay)
        self._priority = self._optional(event.priority)
        self._volumes = self._affected_volumes()
        self._sizes = model.quantities(list(self._volumes.values()))
        self._places = {name: i for i, name in enumerate(model.states)}
        # Concentrations in a compartment whose size the event changes.
        self._rescaled = [name for name in self._volumes if name in model.network.species]

    def _optional(self, formula: sp.Expr | None) -> Callable[..., Tensor] | None:
        """The function of a formula, or None."""
        if formula is None:
            return None
        return self.model.quantities([formula])

    def _affected_volumes(self) -> dict[str, sp.Expr]:
        """State -> the volume that matters to it. An amount has one if the event assigns the
        concentration. A concentration has one if the event assigns the size of the compartment."""
        network = self.model.network
        found = {}
        for name, species in network.species.items():
            if species.is_amount:
                continue
            if amount(name) in network.states and name in self._targets:
                found[amount(name)] = symbol(species.compartment)
            elif name in network.states and species.compartment in self._targets:
                found[name] = symbol(species.compartment)
        return found

    def values(self, t: Tensor, y: Tensor, p: Tensor) -> Tensor:
        """What the event assigns, (k,)."""
        return self._values(t, y, p)

    def delay(self, t: Tensor, y: Tensor, p: Tensor) -> Tensor | None:
        """How long the event waits, or None."""
        if self._delay is None:
            return None
        return self._delay(t, y, p)[0]

    def priority(self, t: Tensor, y: Tensor, p: Tensor) -> float:
        """The priority now; events without one come last."""
        if self._priority is None:
            return -torch.inf
        return self._priority(t, y, p)[0].item()

    def applied(self, t: Tensor, y: Tensor, p: Tensor, values: Tensor) -> Tensor:
        """The state after the event. Concentrations are assigned in the volume before it, and
        amounts stay where a volume changes."""
        if not self.event.assignments:
            return y
        before = dict(zip(self._volumes, self._sizes(t, y, p).unbind()))
        given = dict(zip(self._targets, values.unbind()))
        parts = list(y.unbind())
        for state, place in self._places.items():
            quantity = self.model.network.states[state].quantity
            if quantity not in given:
                continue
            parts[place] = given[quantity]
            if state != quantity:
                parts[place] = parts[place] * before[state]
        new = torch.stack(parts)
        if not self._rescaled:
            return new
        after = dict(zip(self._volumes, self._sizes(t, new, p).unbind()))
        for state in self._rescaled:
            place = self._places[state]
            parts[place] = parts[place] * (before[state] / after[state])
        return torch.stack(parts)
