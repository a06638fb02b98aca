"""What Python asks between the steps of a native solve: events, a domain, a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.status import Status
from ...methods.base import Step

if TYPE_CHECKING:
    from ...core.stop_conditions import Limits
    from ...core.vector_field import VectorField


class Observer:
    """Sees every step of a native solve before and after it is accepted.

    watch: a StepObserver, or None. limits: Limits, or None. truncated: (end, state there) of a step
    that an event truncated, as it was before, or None.
    """

    def __init__(self, field: VectorField, watch: Any, limits: Limits | None) -> None:
        self.field = field
        self.watch = watch
        self.limits = limits
        self.truncated: tuple[float, np.ndarray] | None = None
        self._cut: Any = None
        # Steps of earlier segments of the same solve.
        self._before = {name: getattr(field.stats, name) for name in ("accepted", "rejected")}

    def begin(self, t: float, y: np.ndarray) -> Status | None:
        """The status that ends the solve at its start, or None."""
        limits = self.limits
        state = torch.from_numpy(y)
        if limits is not None and not self.field.stats.accepted and not limits.allow(t, state):
            return Status.DOMAIN
        if self.watch is not None:
            self.watch.begin(t, state.clone())
        return None

    def allows(self, t1: float, y1: np.ndarray, y: np.ndarray) -> bool:
        """Whether a step from y may end with y1 at t1."""
        limits = self.limits
        if limits is None or limits.domain is None:
            return True
        return limits.allow(t1, torch.from_numpy(y1), torch.from_numpy(y))

    def truncate(
        self, t: float, h: float, t1: float, y: np.ndarray, y1: np.ndarray, polynomial: np.ndarray
    ) -> tuple[float, np.ndarray] | None:
        """(time, state) at which an event ends the step from t to t1, or None."""
        if self.watch is None:
            return None
        start = torch.from_numpy(y.copy())
        step = Step(t, h, start, torch.from_numpy(y1.copy()), 0.0, 1.0, None)
        self._cut = self.watch.check_step(step, t1, torch.from_numpy(polynomial))
        if self._cut is None:
            return None
        self.truncated = t1, y1.copy()
        return self._cut.t, self._cut.y.numpy()

    def accepted(self, t: float, y: np.ndarray) -> Status | None:
        """The status that ends the solve after a step to y at t, or None."""
        limits = self.limits
        if limits is not None and limits.stop(t, torch.from_numpy(y.copy())):
            return Status.CALLBACK
        if self._cut is not None:
            return self.watch.status
        return None

    def counted(self, counts: dict[str, int]) -> None:
        """Tell the field what has been done so far."""
        for name, value in counts.items():
            setattr(self.field.stats, name, value + self._before.get(name, 0))

    def expired(self) -> bool:
        """Whether the time limit has passed."""
        return self.limits is not None and self.limits.expired()
