"""Julia's time."""

from __future__ import annotations

from typing import NamedTuple


class Clock(NamedTuple):
    """Julia's time runs forward: t = origin + direction * s.

    It starts from 0 if the span is short compared with its start: there rounding takes from a time
    what the step to it was longer.
    """

    origin: float
    direction: float

    @classmethod
    def of(cls, start: float, end: float) -> Clock:
        """The clock of a solve from start to end."""
        direction = 1.0
        if end < start:
            direction = -1.0
        origin = 0.0
        if _near(start, end):
            origin = start
        return cls(origin, direction)

    def inner(self, t: float) -> float:
        """Julia's time at the time t of f."""
        return self.direction * (t - self.origin)

    def outer(self, s: float) -> float:
        """The time of f at Julia's time s."""
        return self.origin + self.direction * s


def _near(start: float, end: float) -> bool:
    """Whether all times between start and end are within a factor of two of start. Then their
    differences from it are exact.

    Sterbenz, Floating-point computation (1974).
    """
    low, high = sorted((abs(start), abs(end)))
    return start * end > 0 and high <= 2 * low
