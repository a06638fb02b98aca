"""The truth of all triggers of a model during a simulation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.events import Event
from .conditions import crossing_time, differences, frozen, moves, truth
from .consistent import consistent
from .symbols import TIME, expanded

if TYPE_CHECKING:
    from .model import ReactionModel


class Triggers:
    """The differences in a model's triggers, and their signs now.

    A difference that crosses zero has the sign 0 at that time. Just after it the difference has the
    sign of the direction. A trigger can therefore be true at a time, after it, or both.
    """

    def __init__(self, model: ReactionModel, p: Tensor, longest: float) -> None:
        """longest: the largest time of the simulation."""
        self.p = p
        self.step = 1e-7 * max(1.0, longest)
        network = model.network
        conditions = [event.trigger for event in network.events]
        self.differences = differences(conditions)
        learned = sorted(network.needed(self.differences) & set(model.terms))
        if learned:
            raise ValueError(
                f"triggers of events depend on {', '.join(learned)}, and the solver cannot watch a"
                " learned rate: write the triggers in states, constants and the time"
            )
        places = {part: i for i, part in enumerate(self.differences)}
        self._truths = [truth(condition, places) for condition in conditions]
        still = frozen(network)
        times = [crossing_time(part, network, still) for part in self.differences]
        # The crossings of planned differences are known beforehand. The solver watches others. The
        # rest change only at events.
        self.planned = [i for i, time in enumerate(times) if time is not None]
        self.watched = [
            i
            for i, (part, time) in enumerate(zip(self.differences, times))
            if time is None and moves(part, network, still)
        ]
        self._values = model.quantities(self.differences)
        self._times = model.quantities([time for time in times if time is not None])
        self._watch = model.watch([self.differences[i] for i in self.watched])
        self._model = model
        # Such a difference moves with the time while the states may rest. Steps must be short.
        self.need_short_steps = any(
            TIME in expanded(self.differences[i], network.definitions).free_symbols
            for i in self.watched
        )
        self._still = still == set(network.states)
        self._last: Any = None

    def event(self) -> Event:
        """An event of ``solve`` where a watched difference leaves the side on which it is.

        Only this direction: a difference that has just crossed zero can be on the old side for a
        moment, by rounding.
        """
        return Event(self._watch, direction=-1, terminal=True, name="trigger")

    def constants(self, signs: list[int]) -> Tensor:
        """p with the sides of the watched differences, the argument of ``event``."""
        sides = [signs[i] or 1 for i in self.watched]
        return torch.cat((self.p, self.p.new_tensor(sides)))

    def planned_times(self, t: Tensor, y: Tensor) -> list[tuple[Tensor, int]]:
        """(time, difference) of the crossings that are known at t, later or earlier than t."""
        if not self.planned:
            return []
        return list(zip(self._times(t, y, self.p).unbind(), self.planned))

    def truths(self, signs: list[int]) -> list[bool]:
        """Whether each trigger is true."""
        return [holds(signs) for holds in self._truths]

    def values(self, t: Tensor, y: Tensor) -> list[float]:
        """The differences now."""
        return self._looked(t, y)[0]

    def _looked(self, t, y):
        """(the differences now, the differences a little later along the solution)."""
        if self._last is None or self._last[0] is not t or self._last[1] is not y:
            self._last = (t, y, self._look(t.detach(), y.detach()))
        return self._last[2]

    @torch.no_grad()
    def _look(self, t, y):
        p = self.p.detach()
        step = self.step
        times = torch.stack((t, t + step)).to(y.dtype).unsqueeze(-1)
        next_state = y
        if not self._still:
            next_state = self._moved(t, y, p)
        now, later = self._values(times, torch.stack((y, next_state)), p).tolist()
        if not self._still and any(a == b == 0 for a, b in zip(now, later)):
            # What begins to grow with a higher derivative: S in A -> B -> S.
            next_state = self._moved_precisely(t, y, p)
            later = self._values(times[1], next_state, p).tolist()
        return now, later

    def _moved(self, t, y, p):
        """The state a little later."""
        mass = self._model.mass
        change = self.step * self._model(t, y, p)
        if mass is None:
            return y + change
        return consistent(self._model, t + self.step, y + mass * change, p)

    def _moved_precisely(self, t, y, p):
        """The state a little later by the classical Runge-Kutta method, order 4."""
        if self._model.mass is not None:
            return self._moved(t, y, p)
        half = 0.5 * self.step
        first = self._model(t, y, p)
        second = self._model(t + half, y + half * first, p)
        third = self._model(t + half, y + half * second, p)
        fourth = self._model(t + self.step, y + self.step * third, p)
        return y + self.step / 6 * (first + 2 * second + 2 * third + fourth)

    def crossed_now(
        self, t: Tensor, y: Tensor, span: float, known: Iterable[int]
    ) -> dict[int, int]:
        """Differences that cross zero at t: difference -> its sign just after.

        known: differences that cross for sure. Another one crosses at the same time if it would
        do so within span around t.
        """
        now, later = self._looked(t, y)
        known = set(known)
        result = {}
        for i, (value, next_value) in enumerate(zip(now, later)):
            change = next_value - value
            if i not in known and not abs(value) * self.step <= abs(change) * span:
                continue
            # A difference that does not move keeps its sign.
            result[i] = _sign(change) or _sign(value)
        return result


def signs_of(values: list[float]) -> list[int]:
    """-1, 0 or 1 for each value; NaN has no sign and counts as 0."""
    return [_sign(value) for value in values]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
