"""The ignition delay of a reactor: the time of an event, with its gradient."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ...backends.packages import missing_for_native
from ...core.events import Event
from ...core.status import SolveError, Status
from ...integrate import solve

if TYPE_CHECKING:
    from .reactor import Reactor

# An ignition takes some hundreds of steps.
MAX_STEPS = 20_000


class Threshold(nn.Module):
    """A component of the state minus the first of args."""

    def __init__(self, component: int) -> None:
        super().__init__()
        self.component = component

    def forward(self, t: Any, y: Tensor, threshold: Tensor) -> Tensor:
        return y[..., self.component] - threshold


class Slope(nn.Module):
    """dy/dt of a component of the state: it falls through zero at a maximum."""

    def __init__(self, reactor: Reactor, component: int) -> None:
        super().__init__()
        self.reactor = reactor
        self.component = component

    def forward(self, t: Any, y: Tensor, threshold: Tensor) -> Tensor:
        return self.reactor(t, y)[..., self.component]


@functools.cache
def _threshold_event(component: int) -> Event:
    """The same object in each solve, so that native code of the condition is found again."""
    return Event(Threshold(component), direction=1, terminal=True, name="ignition")


def ignition_delay(
    reactor: Reactor,
    y0: Tensor,
    *,
    temperature: float | Tensor | None,
    rise: float,
    peak: str | None,
    end: float,
    backend: Any,
    **options: Any,
) -> Tensor:
    """See Reactor.ignition_delay."""
    if peak is not None and temperature is not None:
        raise ValueError("peak and temperature are two definitions of ignition: leave out one")
    batched = y0.dim() == 2
    if y0.dim() not in (1, 2):
        raise ValueError(
            f"y0 must be one state (n,) or rows (B, n), not of the shape {tuple(y0.shape)}"
        )
    if peak is None:
        event = _threshold_event(_component(reactor, "T"))
        threshold = _threshold(y0, temperature, rise)
    else:
        condition = Slope(reactor, _component(reactor, peak))
        event = Event(condition, direction=-1, terminal=True, name="ignition")
        threshold = torch.zeros_like(y0[..., 0].detach())
    if backend == "auto" and not missing_for_native():
        backend = "native"
    options = {"max_steps": MAX_STEPS, **options, "args": (threshold,), "events": event}
    options |= {"backend": backend, "throw": False}
    if batched:
        options |= {"batched": True, "by_row": True}
    solution = solve(reactor, y0, (0.0, end), **options)
    last = _Last(reactor, y0.detach(), threshold, peak)
    if batched:
        return _times(solution, solution.events, solution.statuses, last, end)
    return _times(solution, [solution.events], [solution.status], last, end)[0]


def _component(reactor: Reactor, name: str) -> int:
    if name not in reactor.states:
        raise ValueError(
            f"{name} is no state of this reactor, which has {', '.join(reactor.states)}"
        )
    return reactor.states.index(name)


def _threshold(y0: Tensor, temperature: float | Tensor | None, rise: float) -> Tensor:
    """The temperature of ignition, () or (B,)."""
    start = y0.detach()[..., 0]
    if temperature is None:
        temperature = start + rise
    threshold = torch.as_tensor(temperature, dtype=y0.dtype, device=y0.device)
    if not bool((threshold > start).all()):
        raise ValueError(
            "the temperature of ignition must lie above the one at the start: give a higher"
            " temperature, or a positive rise"
        )
    return threshold.expand(start.shape)


class _Last(NamedTuple):
    """What was looked for. y0: (n,) or (B, n). threshold: (), or (B,)."""

    reactor: Reactor
    y0: Tensor
    threshold: Tensor
    peak: str | None

    def reached(self, y: Tensor, row: int) -> str:
        """What the gas of a row did, in words. y: the last states, in the shape of y0."""
        if self.peak is not None:
            return f"{self.peak} has no maximum until then"
        place = _component(self.reactor, "T")
        start = float(self.y0.reshape(-1, self.y0.shape[-1])[row, place])
        end = float(y.detach().reshape(-1, y.shape[-1])[row, place])
        wanted = float(self.threshold.reshape(-1)[row]) - start
        if not math.isfinite(end):
            return f"T must rise by {wanted:.4g} K, and did not"
        return f"T has risen by {end - start:.3g} K, and ignition is a rise of {wanted:.4g} K"


def _times(solution: Any, records: Any, statuses: Any, last: _Last, end: float) -> Tensor:
    """(B,) the times of the events of B rows."""
    late = [number for number, found in enumerate(records) if not found]
    if not late:
        return torch.stack([found[0].t for found in records])
    status = statuses[late[0]]
    if status not in (Status.SUCCESS, Status.MAX_STEPS):
        raise SolveError(solution)
    which = f"rows {late} do"
    whose = f" in row {late[0]}"
    if len(records) == 1:
        which = "the gas does"
        whose = ""
    when = f"before end = {end:g} s"
    if status is Status.MAX_STEPS:
        when = f"within the limit on the number of steps{whose} (max_steps)"
    raise ValueError(
        f"{which} not ignite {when}: {last.reached(solution.y[-1], late[0])}{whose}. Give a hotter"
        " start, a later end, or another definition of ignition (rise, temperature, peak)"
    )
