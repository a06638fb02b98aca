"""Events at one time: which ones count as simultaneous, in which order they occur, and which ones a
reset fires.

If a change of the state moves a condition to the other side of zero, its event fires at that same
time. This event may change the state again. The rules come from SBML Level 3, sec. 4.11.6, but
the order is fixed, not random.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.status import Status

if TYPE_CHECKING:
    from ...core.events import Event

# How often a condition may fire at one time. A longer cascade counts as endless, because no time
# passes in it.
CASCADE = 100


class Signs(NamedTuple):
    """The sides of zero of conditions.

    known: (..., K), 1, -1, or 0 for a side that is not known yet; noise: (..., K): a condition
    smaller than this counts as zero. Both NumPy.
    """

    known: np.ndarray
    noise: np.ndarray

    def crossed(
        self, values: np.ndarray, noise: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, Signs]:
        """(mask of the conditions that a change of the state fires, their Signs after it).

        values: (..., K) after the change; noise: their rounding errors; directions: (K,), in which
        they fire.
        """
        noise = np.maximum(self.noise, noise)
        signs = np.sign(values)
        fires = (self.known != 0) & (signs != self.known) & (directions != self.known)
        stays = (np.abs(values) > noise) | (signs == self.known)
        return fires, Signs(np.where(stays, signs, 0.0), noise)


def signs_of(values: np.ndarray, noise: np.ndarray) -> Signs:
    """The Signs of conditions, from their values only."""
    return Signs(
        np.where(np.abs(values) <= noise, 0.0, np.sign(values)),
        np.broadcast_to(noise, values.shape).copy(),
    )


def resumed(before: Signs | None, values: np.ndarray, noise: np.ndarray) -> Signs:
    """The Signs of conditions with these values at the start of a segment. before: their Signs at
    the end of the segment before, or None."""
    if before is None:
        return signs_of(values, noise)
    signs = signs_of(values, np.maximum(before.noise, noise))
    agrees = (before.known != 0) & (before.known == np.sign(values))
    return signs._replace(known=np.where(agrees, before.known, signs.known))


def at_cut(
    values: np.ndarray, tracked: np.ndarray, triggered: np.ndarray, noise: np.ndarray
) -> Signs:
    """The Signs of conditions at an event that ends a segment. tracked: (..., K), their sides
    shortly before. triggered: mask of the conditions that fire there. These are zero up to
    rounding, and their own resets decide their sides."""
    near = np.abs(values) <= noise
    known = np.where(triggered, 0.0, np.where(near, tracked, np.sign(values)))
    return Signs(known, np.where(triggered, np.maximum(8 * np.abs(values), 64 * noise), noise))


def rounding(y: Tensor) -> np.ndarray:
    """The rounding error, (...), of a condition on states (..., n), if the condition is as large as
    the states."""
    return (
        4
        * torch.finfo(y.dtype).eps
        * y.detach().abs().amax(dim=-1).to("cpu", torch.float64).numpy()
    )


def instant(t: float, h: float, eps: float) -> float:
    """The largest distance between the times of simultaneous events in a step from t, of size h: 8
    times the accuracy of a root."""
    return 8 * max(eps * abs(h), math.ulp(max(abs(t), abs(t + h))))


def simultaneous(items: Iterable[tuple], apart: float) -> list[list]:
    """Groups of (t, ...), in the order of time. Each item is at most ``apart`` later than the first
    of its group."""
    groups: list[list] = []
    for item in items:
        if groups and abs(item[0] - groups[-1][0][0]) <= apart:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def occur_together(
    events: Sequence[Event], owners: Iterable[tuple[int, int]], counts: Any
) -> tuple[list[tuple[int, int]], Status | None, bool]:
    """(events that occur, status, whether one of them is terminal) for the conditions (event,
    index) that fire at one time.

    counts: how often each event has occurred; the function increases them. status: the status of
    the segment if it must stop here, otherwise None.
    """
    occurred: list[tuple[int, int]] = []
    resets = False
    terminal = False
    for e, index in sorted(owners, key=lambda owner: place(events, *owner)):
        event = events[e]
        counts[e] += 1
        if event.max_events is not None and counts[e] > event.max_events:
            return occurred, Status.MAX_EVENTS, False
        occurred.append((e, index))
        resets = resets or event.reset is not None
        terminal = terminal or (bool(event.terminal) and counts[e] >= event.terminal)
    if resets or terminal:
        return occurred, Status.EVENT, terminal
    return occurred, None, False


class Queue:
    """The events of one time, in the order in which they occur: first by higher priority, then by
    the time at which they became true, then by the order of the list. An item is (event, index,
    hit)."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self._items: list[tuple] = []
        self._turn = 0
        self._fired: Counter = Counter()

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, items: Iterable[tuple[int, int, Any]]) -> None:
        """Add items (event, index, hit) that became true together."""
        for number, (e, index, hit) in enumerate(items):
            self._items.append((*place(self.events, e, index, self._turn), number, hit))
        self._turn += 1

    def pop(self) -> tuple[int, int, Any]:
        """Remove the next item and return it."""
        first = min(self._items, key=lambda item: item[:-1])
        self._items.remove(first)
        _, _, e, index, _, hit = first
        self._fired[e, index] += 1
        return e, index, hit

    @property
    def endless(self) -> bool:
        """Whether some condition has fired too often."""
        return max(self._fired.values(), default=0) > CASCADE


def place(events: Sequence[Event], e: int, index: int, turn: int = 0) -> tuple:
    """The rank of a condition among those that occur at one time."""
    return -events[e].priority, turn, e, index
