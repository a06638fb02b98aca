"""The truth of all triggers of a model during a simulation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .conditions import crossing_time, differences, frozen, holds

if TYPE_CHECKING:
    from .model import ReactionModel


class Triggers:
    """The differences in a model's triggers, and their signs now.

    A difference that crosses zero has the sign 0 at that time, and the sign of its direction just
    after it. A trigger can therefore be true at a time, after it, or both.
    """

    def __init__(self, model: ReactionModel, p: Tensor) -> None:
        self.p = p
        network = model.network
        self.conditions = [event.trigger for event in network.events]
        self.differences = differences(self.conditions)
        still = frozen(network)
        times = [crossing_time(part, network, still) for part in self.differences]
        # Those whose crossings are known beforehand, and those that the solver watches.
        self.planned = [i for i, time in enumerate(times) if time is not None]
        self.watched = [i for i, time in enumerate(times) if time is None]
        self._values = model.quantities(self.differences)
        self._times = model.quantities([time for time in times if time is not None])
        self._watched = model.quantities([self.differences[i] for i in self.watched])
        self._model = model
        self.signs = [0] * len(self.differences)

    def condition(self, t: Tensor, y: Tensor, p: Tensor) -> Tensor:
        """The watched differences, for an event of ``solve``."""
        return self._watched(t, y, p)

    def planned_times(self, t: Tensor, y: Tensor) -> list[tuple[Tensor, int]]:
        """(time, difference) of the crossings that are known at t, later or earlier than t."""
        if not self.planned:
            return []
        return list(zip(self._times(t, y, self.p).unbind(), self.planned))

    def truths(self, signs: list[int]) -> list[bool]:
        """Whether each trigger is true."""
        named = dict(zip(self.differences, signs))
        return [holds(condition, named) for condition in self.conditions]

    def values(self, t: Tensor, y: Tensor) -> list[float]:
        """The differences now."""
        return self._values(t, y, self.p).detach().tolist()

    def slopes(self, t: Tensor, y: Tensor) -> list[float]:
        """The derivatives of the differences in time, along the solution."""
        with torch.no_grad():
            t = t.detach()
            y = y.detach()
            p = self.p.detach()
            rate = self._model(t, y, p)
        with torch.enable_grad():
            _, change = torch.func.jvp(
                lambda t, y: self._values(t, y, p), (t, y), (torch.ones_like(t), rate)
            )
        return change.detach().tolist()

    def crossed_now(
        self, t: Tensor, y: Tensor, span: float, known: Iterable[int]
    ) -> dict[int, int]:
        """Differences that cross zero at t: difference -> its sign just after.

        known: those found to cross. Others cross at the same time if they would in a time of span
        around t.
        """
        values = self.values(t, y)
        slopes = self.slopes(t, y)
        known = set(known)
        result = {}
        for i, (value, slope) in enumerate(zip(values, slopes)):
            near = abs(value) <= abs(slope) * span
            if i not in known and not near:
                continue
            after = _sign(slope)
            if after == 0:
                # At an extreme, or constant: the next step decides.
                after = _sign(value)
            result[i] = after
        return result


def signs_of(values: list[float]) -> list[int]:
    """-1, 0 or 1 for each value; NaN has no sign and counts as 0."""
    return [_sign(value) for value in values]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
