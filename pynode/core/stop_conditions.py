"""Conditions besides the error test that stop a solve or reject a step: a clock, a callback, the
domain of the state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .status import Exhausted, Status
from .vector_field import clamp_negative

if TYPE_CHECKING:
    from .batched_field import RowField
    from .layout import Layout, State
    from .stats import Stats

# As a fraction of atol. A state this little below zero counts as zero. If f takes a state to zero
# in finite time, as -sqrt(u) does, some step must end below zero, and a step that ends nearer to
# zero could be too short for floating point.
NOISE = 1e-9

# The flat indices of components; True for all.
Nonnegative: TypeAlias = bool | Sequence[int] | Tensor | None


class StateBounds:
    """The components of a state that must not be negative.

    nonnegative: True, or flat indices of components. atol: 0-d, (n,), or (m, n) for rows of a
    batch. mask: (n,) bool, True for these components.
    """

    def __init__(self, layout: Layout, nonnegative: Nonnegative, atol: Tensor) -> None:
        self.mask = torch.zeros(layout.size, dtype=torch.bool, device=layout.device)
        self.mask[_indices(nonnegative, layout)] = True
        self.lowest = torch.where(self.mask, -atol, -torch.inf)
        self.floor = NOISE * self.lowest

    def crossed(self, y: Tensor, start: Tensor | None, which: Tensor | None = None) -> Tensor:
        """Where the state y, (..., n), is below its bound after a step from start, (..., n) or
        None: a bool tensor of the same shape. which: rows of the batch, (w,) indices.

        A multistep method stays below zero for some steps. Without this allowance it would take
        tiny steps.
        """
        lowest = self.lowest
        floor = self.floor
        if which is not None and lowest.dim() == 2:
            lowest = lowest[which]
            floor = floor[which]
        if start is not None:
            floor = torch.where(start < 0, lowest, floor)
        return y < floor


def _bounds(layout: Layout, nonnegative: Nonnegative, atol: Tensor) -> StateBounds | None:
    if nonnegative is None or nonnegative is False:
        return None
    return StateBounds(layout, nonnegative, atol)


class _Limits:
    """Limits that serve one system and a batch. None: no such limit.

    seconds: limit of wall-clock time. mask: (n,) bool, the components that must not be negative.
    """

    def __init__(
        self,
        layout: Layout,
        callback: Callable | None,
        seconds: float | None,
        bounds: StateBounds | None,
        domain: Callable | None,
    ) -> None:
        for name, value in (("callback", callback), ("domain", domain)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a function, not {type(value).__name__}")
        if seconds is not None and not seconds > 0:
            raise ValueError(f"max_seconds must be positive, not {seconds!r}")
        self.layout = layout
        self.callback = callback
        self.domain = domain
        self.bounds = bounds
        self.mask: Tensor | None = None
        if bounds is not None:
            self.mask = bounds.mask
        self.deadline: float | None = None
        if seconds is not None:
            self.deadline = time.monotonic() + seconds

    def expired(self) -> bool:
        """Whether the time limit has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def _user_state(self, y: Tensor) -> State:
        """The states, (..., n), as the user sees them."""
        return self.layout.unravel(clamp_negative(y.detach(), self.mask))


class Limits(_Limits):
    """The limits of one solve. All of its segments share them.

    callback(t, y, stats): called after every accepted step with t a float and y in the structure of
    y0. True stops the solve. domain(t, y) -> bool: whether a state is possible.
    """

    def __init__(
        self,
        layout: Layout,
        stats: Stats,
        callback: Callable | None = None,
        seconds: float | None = None,
        bounds: StateBounds | None = None,
        domain: Callable | None = None,
    ) -> None:
        super().__init__(layout, callback, seconds, bounds, domain)
        self.stats = stats

    @classmethod
    def of(
        cls,
        layout: Layout,
        stats: Stats,
        callback: Callable | None,
        seconds: float | None,
        nonnegative: Nonnegative,
        domain: Callable | None,
        atol: Tensor,
    ) -> Limits | None:
        """The Limits, or None if there is no limit; a step then costs one ``if``."""
        bounds = _bounds(layout, nonnegative, atol)
        if all(limit is None for limit in (callback, seconds, bounds, domain)):
            return None
        return cls(layout, stats, callback, seconds, bounds, domain)

    def allow(self, t: float, y: Tensor, start: Tensor | None = None) -> bool:
        """Whether the state y, (n,), at t is possible after a step from start, (n,).

        Costs one synchronisation, or two with both checks.
        """
        if self.bounds is not None and bool(self.bounds.crossed(y, start).any()):
            return False
        return self.in_domain(t, y)

    def in_domain(self, t: float, y: Tensor) -> bool:
        """Whether the user's domain has the state y, (n,), at t."""
        return self.domain is None or bool(self.domain(t, self._user_state(y)))

    def stop(self, t: float, y: Tensor) -> bool:
        """Whether the callback stops the solve after a step to the state y, (n,), at t."""
        return self.callback is not None and bool(self.callback(t, self._user_state(y), self.stats))


class RowLimits(_Limits):
    """The limits of a batch. All rows, and all of their segments, share them.

    callback(t, y, stats): called after every pass in which a row completed a step, with t (B,)
    float64 and y (B, ...), the present times and states of all rows. True ends all rows. A bool
    tensor (B,) ends the rows where it is True. domain(t, y) -> (w,) bool: which states of w rows
    are possible, with t (w, 1, ...).
    """

    def __init__(
        self,
        field: RowField,
        t: Tensor,
        y: Tensor,
        callback: Callable | None,
        seconds: float | None,
        bounds: StateBounds | None,
        domain: Callable | None,
    ) -> None:
        super().__init__(field.layout, callback, seconds, bounds, domain)
        self.field = field
        self.t = t.clone()
        self.y = y.clone()

    @classmethod
    def of(
        cls,
        field: RowField,
        t: Tensor,
        y: Tensor,
        callback: Callable | None,
        seconds: float | None,
        nonnegative: Nonnegative,
        domain: Callable | None,
        atol: Tensor,
    ) -> RowLimits | None:
        """The RowLimits, or None if there is no limit. t: (B,); y: (B, n), the starts."""
        bounds = _bounds(field.layout, nonnegative, atol)
        if all(limit is None for limit in (callback, seconds, bounds, domain)):
            return None
        return cls(field, t, y, callback, seconds, bounds, domain)

    def refused(self, which: Tensor, t: Tensor, y: Tensor, start: Tensor | None) -> np.ndarray:
        """The mask, (w,), of the rows whose states y, (w, n), at t (w,) are not possible after a
        step from start, (w, n) or None. which: (w,) their numbers in the batch."""
        bad = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        if self.bounds is not None:
            bad = self.bounds.crossed(y, start, which).any(1)
        if self.domain is not None:
            bad = bad | ~self.in_domain(t, y)
        return bad.cpu().numpy()

    def in_domain(self, t: Tensor, y: Tensor) -> Tensor:
        """Which of the states y, (w, n), at t (w,) the user's domain has: (w,) bool."""
        assert self.domain is not None
        clock = self.field.clock(t, y)
        allowed = torch.as_tensor(self.domain(clock, self._user_state(y)), device=y.device)
        if allowed.shape != (len(y),) or allowed.dtype != torch.bool:
            raise ValueError(
                f"domain must return a bool for each of the {len(y)} rows that it is given, a"
                f" tensor of shape ({len(y)},), not {tuple(allowed.shape)} of {allowed.dtype}"
            )
        return allowed

    def ended(self, index: Tensor, t: Tensor, y: Tensor, stats: Stats) -> np.ndarray:
        """The mask, (m,), of the running rows that the callback ends. index: (m,) their numbers; t:
        (m,) and y: (m, n), their present times and states; stats: with the steps of these rows."""
        self.t[index] = t
        self.y[index] = y
        assert self.callback is not None
        # Copies, which the user may keep.
        answer = self.callback(self.t.clone(), self._user_state(self.y.clone()), stats)
        if not isinstance(answer, torch.Tensor) or answer.dim() == 0:
            return np.full(len(index), bool(answer))
        return answer.bool()[index].cpu().numpy()


class Guard:
    """The limits that also hold inside a step. A step of RKC can take thousands of evaluations.

    most: the limit of evaluations of f; math.inf for no limit. deadline: by time.monotonic(); None
    for no limit.
    """

    def __init__(self, most: float, deadline: float | None) -> None:
        self.most = most
        self.deadline = deadline

    def check(self, stats: Stats, count: int = 1) -> None:
        """Raise Exhausted if the evaluations just counted are too many, or too late. count: how
        many they are, one for each row."""
        if stats.nfe > self.most:
            stats.nfe -= count  # f is not called
            raise Exhausted(Status.MAX_EVALUATIONS)
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Exhausted(Status.MAX_SECONDS)


@contextmanager
def guarded(stats: Stats, most: float, limits: Limits | RowLimits | None) -> Iterator[None]:
    """A block in which every evaluation counted in stats checks the limits. limits: those of a
    system or of a batch, or None."""
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
