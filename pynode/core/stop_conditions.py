"""Conditions besides the error test that stop a solve or reject a step: a clock, a callback, the
domain of the state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from .status import Exhausted, Status
from .vector_field import clamp_negative

if TYPE_CHECKING:
    from .layout import Layout
    from .stats import Stats

# As a fraction of atol. A state this little below zero counts as zero. If f takes a state to zero
# in finite time, as -sqrt(u) does, some step must end below zero, and a step that ends nearer to
# zero could be too short for floating point.
NOISE = 1e-9


# The flat indices of components; True for all.
Nonnegative: TypeAlias = bool | Sequence[int] | Tensor | None


class Limits:
    """The limits of one solve. All of its segments share them.

    callback(t, y, stats): called after every accepted step with t a float and y in the structure of
    y0. True stops the solve. seconds: limit of wall-clock time. nonnegative: True, or flat indices
    of components that must not be negative. domain(t, y) -> bool: whether a state is possible.
    """

    def __init__(
        self,
        layout: Layout,
        stats: Stats,
        callback: Callable | None = None,
        seconds: float | None = None,
        nonnegative: Nonnegative = None,
        domain: Callable | None = None,
    ) -> None:
        for name, value in (("callback", callback), ("domain", domain)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a function, not {type(value).__name__}")
        if seconds is not None and not seconds > 0:
            raise ValueError(f"max_seconds must be positive, not {seconds!r}")
        self.layout = layout
        self.stats = stats
        self.callback = callback
        self.domain = domain
        if seconds is None:
            self.deadline = None
        else:
            self.deadline = time.monotonic() + seconds
        self.signs: Any = _indices(nonnegative, layout)
        self.mask: Any = None
        self.floor: Any = None
        self.lowest: Any = None

    @classmethod
    def of(
        cls,
        layout: Layout,
        stats: Stats,
        callback: Callable | None,
        seconds: float | None,
        nonnegative: Nonnegative,
        domain: Callable | None,
    ) -> Limits | None:
        """The Limits, or None if there is no limit; a step then costs one ``if``."""
        if callback is None and seconds is None and nonnegative in (None, False) and domain is None:
            return None
        return cls(layout, stats, callback, seconds, nonnegative, domain)

    def nonnegative_mask(self, atol: Tensor) -> Tensor | None:
        """The mask, (n,), of the components that must not be negative. None if there are none.
        atol: 0-d or (n,)."""
        if self.signs is None:
            return None
        mask = torch.zeros(self.layout.size, dtype=torch.bool, device=self.layout.device)
        mask[self.signs] = True
        self.mask = mask
        self.lowest = torch.where(mask, -atol, -torch.inf)
        self.floor = NOISE * self.lowest
        return mask

    def expired(self) -> bool:
        """Whether the time limit has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def allow(self, t: float, y: Tensor, start: Tensor | None = None) -> bool:
        """Whether the state y, (n,), at t is possible after a step from start, (n,).

        Costs one synchronisation, or two with both checks.
        """
        if self.floor is not None:
            # A multistep method stays below zero for some steps. Without this allowance it would
            # take tiny steps.
            if start is None:
                floor = self.floor
            else:
                floor = torch.where(start < 0, self.lowest, self.floor)
            if bool((y < floor).any()):
                return False
        return self.domain is None or bool(self.domain(t, self._user_state(y)))

    def stop(self, t: float, y: Tensor) -> bool:
        """Whether the callback stops the solve after a step to the state y, (n,), at t."""
        return self.callback is not None and bool(self.callback(t, self._user_state(y), self.stats))

    def _user_state(self, y):
        """The state as the user sees it."""
        return self.layout.unravel(clamp_negative(y.detach(), self.mask))


class Guard:
    """The limits that also hold inside a step. A step of RKC can take thousands of evaluations.

    most: the limit of evaluations of f; math.inf for no limit. deadline: by time.monotonic(); None
    for no limit.
    """

    def __init__(self, most: float, deadline: float | None) -> None:
        self.most = most
        self.deadline = deadline

    def check(self, stats: Stats) -> None:
        """Raise Exhausted if the last counted evaluation exceeds the limit or comes too late."""
        if stats.nfe > self.most:
            stats.nfe -= 1  # this evaluation does not happen
            raise Exhausted(Status.MAX_EVALUATIONS)
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Exhausted(Status.MAX_SECONDS)


@contextmanager
def guarded(stats: Stats, most: float, limits: Limits | None) -> Iterator[None]:
    """A block in which every evaluation counted in stats checks the limits. limits: a Limits, or
    None."""
    if limits is None:
        deadline = None
    else:
        deadline = limits.deadline
    if deadline is None and most == math.inf:
        stats.guard = None
    else:
        stats.guard = Guard(most, deadline)  # type: ignore[assignment]
    try:
        yield
    finally:
        stats.guard = None


def _indices(nonnegative, layout):
    if nonnegative is None or nonnegative is False:
        return None
    if nonnegative is True:
        return slice(None)
    indices = torch.as_tensor(nonnegative, device=layout.device).reshape(-1)
    if indices.dtype.is_floating_point or indices.dtype == torch.bool or not len(indices):
        raise TypeError(
            f"nonnegative must be True or the flat indices of components, not {nonnegative!r}"
        )
    if int(indices.min()) < -layout.size or int(indices.max()) >= layout.size:
        raise ValueError(
            f"nonnegative names components {nonnegative!r}, but there are {layout.size} states"
        )
    return indices.long()
