"""What happens at one time: which events count as simultaneous, in which order they occur, and
which of them a reset fires.

A change of the state that carries a condition to the other side of zero fires its event at that
very time. Such an event may change the state in turn. The rules are those of SBML Level 3, sec.
4.11.6, with a stated order in the place of a random one.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch

# One condition may fire so often at one time. A cascade that goes on is endless: no time passes in
# it.
CASCADE = 100


class Signs(NamedTuple):
    """On which side of zero conditions are.

    known: (..., K), 1, -1, or 0 where that is not known yet; noise: (..., K), how far from zero a
    condition counts as zero. Both NumPy.
    """

    known: np.ndarray
    noise: np.ndarray

    def crossed(self, values, noise, directions):
        """(mask of the conditions that a change of the state fires, their Signs after it).

        values: (..., K) after the change; noise: of them; directions: (K,), those in which they
        fire.
        """
        noise = np.maximum(self.noise, noise)
        signs = np.sign(values)
        fires = (self.known != 0) & (signs != self.known) & (directions != self.known)
        stays = (np.abs(values) > noise) | (signs == self.known)
        return fires, Signs(np.where(stays, signs, 0.0), noise)


def signs_of(values, noise) -> Signs:
    """Those of conditions of which nothing else is known than their values."""
    return Signs(
        np.where(np.abs(values) <= noise, 0.0, np.sign(values)),
        np.broadcast_to(noise, values.shape).copy(),
    )


def resumed(given, values, noise) -> Signs:
    """Where conditions with these values begin a segment; given: their Signs at the end of the one
    before, or None."""
    if given is None:
        return signs_of(values, noise)
    found = signs_of(values, np.maximum(given.noise, noise))
    agrees = (given.known != 0) & (given.known == np.sign(values))
    return found._replace(known=np.where(agrees, given.known, found.known))


def at_cut(values, tracked, triggered, noise) -> Signs:
    """Where conditions are at an event that ends a segment. tracked: (..., K), their sides a little
    before; fired: mask of those that fire there, and are as near to zero as rounding allows: their
    own resets decide."""
    near = np.abs(values) <= noise
    known = np.where(triggered, 0.0, np.where(near, tracked, np.sign(values)))
    return Signs(known, np.where(triggered, np.maximum(8 * np.abs(values), 64 * noise), noise))


def rounding(y):
    """How far from zero a condition on states (..., n) may be by rounding, (...): conditions are
    taken to be of their size."""
    return (
        4
        * torch.finfo(y.dtype).eps
        * y.detach().abs().amax(dim=-1).to("cpu", torch.float64).numpy()
    )


def instant(t: float, h: float, eps: float) -> float:
    """How far apart the times of simultaneous events in a step from t, of size h, may be: 8 times
    what a root is found to."""
    return 8 * max(eps * abs(h), math.ulp(max(abs(t), abs(t + h))))


def simultaneous(found, apart: float):
    """Groups of (t, ...), in the order of time, of which none is further than ``apart`` behind the
    first of its group."""
    groups: list[list] = []
    for item in found:
        if groups and abs(item[0] - groups[-1][0][0]) <= apart:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


class Queue:
    """The events of one time, in the order in which they occur: those of higher priority first,
    then those that became true earlier, then as they stand in the list. What is kept of each:
    (event, index, found)."""

    def __init__(self, events):
        self.events = events
        self._items = []
        self._turn = 0
        self._fired = Counter()

    def __bool__(self):
        return bool(self._items)

    def add(self, items):
        """Those (event, index, found) that became true together."""
        for number, (e, index, found) in enumerate(items):
            self._items.append((*place(self.events, e, index, self._turn), number, found))
        self._turn += 1

    def pop(self):
        """The next one."""
        first = min(self._items, key=lambda item: item[:-1])
        self._items.remove(first)
        _, _, e, index, _, found = first
        self._fired[e, index] += 1
        return e, index, found

    @property
    def endless(self) -> bool:
        """Whether some condition has fired too often."""
        return max(self._fired.values(), default=0) > CASCADE


def place(events, e, index, turn=0):
    """The rank of a condition among those that occur at one time."""
    return -events[e].priority, turn, e, index
