"""A failed solve for the rules: where it ended, and evaluations of its f."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import torch

from ..core.events import Event, EventRecord
from ..core.layout import Layout
from ..core.memory import raise_if_exhausted
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
    """The end of the failed solve of one system.

    problem: the ODEProblem.
    field: its VectorField; in a batch, that of the row.
    layout: names the components.
    method: of the torch engine, the nearest one if another engine ran.
    name: the user's name of the method.
    t, y: the last good state, (n,), and its time.
    start: the state at the start, (n,).
    span: (t_0, t_1).
    atol: 0-d or (n,).
    outputs: (number reached, number requested).
    attempts: the last attempted steps.
    steps: the number of attempted steps.
    times: of the last segment, between resets and declared jumps. The rules do not evaluate f
        beyond them. Empty means the span.
    events: (name, time) of each event, in order; the one that occurred too often comes last.
    row: the number of the row in a batch.
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
    times: Sequence[float] = ()
    limits: Limits | None = None
    events: list[tuple[str, float]] = dataclass_field(default_factory=list)
    row: int | None = None

    def __post_init__(self) -> None:
        self.y = self.y.detach().clone()
        self.start = self.start.detach().clone()
        if len(self.times) < 2:
            self.times = self.span

    @property
    def tolerance(self) -> Tolerance:
        return Tolerance(self.options.rtol, self.atol, len(self.y))

    @property
    def direction(self) -> float:
        """1 for a solve forward in time, -1 for one backward."""
        if self.span[1] >= self.span[0]:
            return 1.0
        return -1.0

    @property
    def remaining(self) -> float:
        """The time that is left, not negative."""
        return abs(self.span[1] - self.t)

    @property
    def progress(self) -> float:
        """The solved fraction of the span."""
        whole = abs(self.span[1] - self.span[0])
        if whole:
            return 1.0 - self.remaining / whole
        return 1.0

    @property
    def size(self) -> float:
        """The typical size of the last accepted steps; of the attempted ones if none was
        accepted."""
        sizes = (
            [abs(a.h) for a in self.attempts if a.accepted]
            or [abs(a.h) for a in self.attempts]
            or [self.remaining]
        )
        return sorted(sizes)[len(sizes) // 2]

    def f(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """f(t, y), (n,). NaN if f raises any exception, because the solve itself may never have
        reached this point."""
        try:
            with torch.no_grad():
                return self.field(t, y)
        except Exception as error:
            raise_if_exhausted(error)
            return torch.full_like(y, torch.nan)

    def slope(self, t: float, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, (n,): f itself without a mass matrix."""
        if self.field.mass is None:
            return self.f(t, y)
        return self.field.mass.pinv_apply(self.f(t, y))

    def component(self, i: int) -> str:
        """The name of component i of the flat state: 'y[2]', or "y['mass'][0, 1]" in a
        structure."""
        return self.layout.component(i)


def occurred(
    records: Sequence[EventRecord], events: Sequence[Event], counts: Sequence[int], t: float
) -> list[tuple[str, float]]:
    """(name, time) of what occurred, in order. Events that occurred more often than max_events
    allows come last, with time t.

    records: of the events that occurred.
    counts: how often each of the events occurred.
    """
    past = [(record.name, float(record.t)) for record in records]
    too_often = [
        str(e.name)
        for e, count in zip(events, counts, strict=True)
        if e.max_events is not None and count > e.max_events
    ]
    return past + [(name, t) for name in too_often]
