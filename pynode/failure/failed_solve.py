"""A failed solve as it is examined: where it ended, and what can still be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field

import torch

from ..core.layout import Layout
from ..core.norm import Tolerance
from ..core.options import Options
from ..core.problem import ODEProblem
from ..core.protocols import Method
from ..core.status import Status
from ..core.stop_conditions import Limits
from ..core.trajectory import Attempt
from ..core.vector_field import VectorField


@dataclass
class Case:
    """The end of a failed solve, of one system.

    problem: ODEProblem; field: its VectorField, that of a row in a batch; layout: by which
    components are named; method: of the torch engine, the nearest there if another engine ran;
    name: what the user calls it; t, y: (n,) the last good state; start: (n,) that at the start;
    span: (t_0, t_1); atol: 0-d or (n,); outputs: (how many were reached, how many asked for);
    attempts: the last steps that were tried; steps: how many were tried in all; times: of the last
    segment, between resets and named jumps, beyond which nothing is asked of f; empty for the span;
    events: (name, time) of each in the order in which they occurred, the one that was one too many
    last; row: number of the row in a batch.
    """

    problem: ODEProblem
    field: VectorField
    layout: Layout
    method: Method
    name: str
    status: Status
    t: float
    y: torch.Tensor
    start: torch.Tensor
    span: tuple[float, float]
    options: Options
    atol: torch.Tensor
    outputs: tuple[int, int]
    attempts: list[Attempt]
    steps: int
    times: list = dataclass_field(default_factory=list)
    limits: Limits | None = None
    events: list = dataclass_field(default_factory=list)
    row: int | None = None

    def __post_init__(self):
        self.y, self.start = self.y.detach().clone(), self.start.detach().clone()
        if not (len(self.times) > 1):
            self.times = self.span

    @property
    def tolerance(self) -> Tolerance:
        return Tolerance(self.options.rtol, self.atol, len(self.y))

    @property
    def direction(self) -> float:
        if self.span[1] >= self.span[0]:
            return 1.0
        return -1.0

    @property
    def remaining(self) -> float:
        """Time left, not negative."""
        return abs(self.span[1] - self.t)

    @property
    def progress(self) -> float:
        """Part of the span that was solved."""
        whole = abs(self.span[1] - self.span[0])
        if whole:
            return 1.0 - self.remaining / whole
        return 1.0

    @property
    def size(self) -> float:
        """The typical size of the last accepted steps, or of those tried where none was
        accepted."""
        sizes = (
            [abs(a.h) for a in self.attempts if a.accepted]
            or [abs(a.h) for a in self.attempts]
            or [self.remaining]
        )
        return sorted(sizes)[len(sizes) // 2]

    def f(self, t: float, y):
        """f at (t, y), (n,), NaN where f raises whatever it likes: the solve itself may never have
        come there."""
        try:
            with torch.no_grad():
                return self.field(t, y)
        except Exception:
            return torch.full_like(y, torch.nan)

    def slope(self, t: float, y):
        """dy/dt, (n,): f itself without a mass matrix."""
        if self.field.mass is None:
            return self.f(t, y)
        return self.field.mass.rate(self.f(t, y))

    def component(self, i: int) -> str:
        """What component i of the flat state is called: 'y[2]', or "y['mass'][0, 1]" in a
        structure."""
        return self.layout.component(i)


def occurred(records, events, counts, t) -> list:
    """(name, time) of what occurred, in order; last, at t, the event that occurred more often than
    its max_events allows.

    records: list of EventRecord; events: list of Event, counts: how often each occurred.
    """
    found = [(record.name, float(record.t)) for record in records]
    over = [
        e.name
        for e, count in zip(events, counts, strict=True)
        if e.max_events is not None and count > e.max_events
    ]
    return found + [(name, t) for name in over]
