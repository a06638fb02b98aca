"""What Python asks between the steps of a native solve: events, a domain, a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.status import Exhausted, Status
from ...methods.base import Step
from .hooks import Cut, NativeStep

if TYPE_CHECKING:
    from ...core.stop_conditions import Limits
    from ...core.vector_field import VectorField
    from .conditions import Watched


class Observer:
    """Sees the steps of a native solve, as hooks.py passes them.

    events: an EventDetector, or None. limits: Limits, or None. watched: the conditions in compiled
    code, which then shows only the steps in which an event may be found; None to see all steps.
    """

    watched: Watched | None = None

    def __init__(self, field: VectorField, events: Any, limits: Limits | None) -> None:
        self.field = field
        self.events = events
        self.limits = limits
        self._seen = 0  # accepted steps
        # Steps of earlier segments of the same solve.
        self._accepted = field.stats.accepted
        self._rejected = field.stats.rejected

    def allow(self, t: float, y: np.ndarray) -> bool:
        """Whether a step may end with the state y, (n,), at t."""
        return self.limits is None or self.limits.in_domain(t, torch.from_numpy(y))

    def watch(self, step: NativeStep) -> Cut | None:
        """The end of the solve inside an accepted step or at its end, or None."""
        stats = self.field.stats
        accepted, rejected, stats.nfe = step.counts
        stats.accepted = self._accepted + accepted
        stats.rejected = self._rejected + rejected
        try:
            return self._end(step)
        except Exhausted as limit:
            return Cut(step.t, step.start, limit.status)

    def _end(self, step):
        hit = None
        if self.events is not None:
            hit = self._hit(step)
            if self.watched is not None:
                self.watched.note(self.events.signs.known)
        t = step.t1
        y = step.y
        if hit is not None:
            t = hit.t
            y = hit.y.numpy()
        limits = self.limits
        if limits is not None and limits.stop(t, torch.from_numpy(y.copy())):
            return Cut(t, y, Status.CALLBACK)
        if hit is not None:
            return Cut(t, y, self.events.status)
        return None

    def _hit(self, step):
        """The event that ends the solve in a step, or None."""
        start = torch.from_numpy(step.start.copy())
        end = torch.from_numpy(step.y.copy())
        accepted = step.counts[0]
        if accepted != self._seen + 1:
            self.events.pass_over(step.t, start)
        self._seen = accepted
        torch_step = Step(step.t, step.h, start, end, 0.0, 1.0, None)
        polynomial = torch.from_numpy(step.polynomial())
        return self.events.check_step(torch_step, step.t1, polynomial)
