"""Which events of a model happen next: the rules of SBML Level 3, sec. 4.11.6."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(order=True)
class Pending:
    """An event that was triggered and has not happened yet.

    time: when it is due, a float. order: how many were triggered before it. event: the number in
    the model. due: the time as a tensor, 0-d, with a gradient. values: what it will assign, or None
    if it evaluates them later.
    """

    time: float
    order: int
    event: int = field(compare=False)
    due: Tensor = field(compare=False)
    values: Any = field(default=None, compare=False)


class EventQueue:
    """Pending events, the earliest first."""

    def __init__(self) -> None:
        self._heap: list[Pending] = []
        self._count = itertools.count()

    def add(self, event: int, due: Tensor, values: Any) -> None:
        """Let an event happen at the time due. values: None if it evaluates them then."""
        item = Pending(due.item(), next(self._count), event, due, values)
        heapq.heappush(self._heap, item)

    def next_due(self) -> Tensor | None:
        """The time of the earliest event, or None."""
        if not self._heap:
            return None
        return self._heap[0].due

    def due(self, time: float) -> list[Pending]:
        """All events that are due at a time, in the order in which they were triggered."""
        found = [item for item in self._heap if item.time <= time]
        return sorted(found, key=lambda item: item.order)

    def remove(self, item: Pending) -> None:
        """Take out one event."""
        self._heap = [other for other in self._heap if other is not item]
        heapq.heapify(self._heap)

    def withdraw(self, event: int) -> None:
        """Take out an event whose trigger has become false."""
        self._heap = [item for item in self._heap if item.event != event]
        heapq.heapify(self._heap)
