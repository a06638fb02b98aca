"""The ignition delay of a reactor: the time of an event, with its gradient."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...backends.packages import missing_for_native
from ...core.events import Event
from ...integrate import solve

if TYPE_CHECKING:
    from .reactor import Reactor


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
    options = dict(options, args=(threshold,), events=event, backend=backend)
    if not batched:
        return _times([solve(reactor, y0, (0.0, end), **options).events], end)[0]
    rows = solve(reactor, y0, (0.0, end), batched=True, by_row=True, **options)
    return _times(rows.events, end)


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


def _times(records: Any, end: float) -> Tensor:
    """(B,) the times of the events of B rows."""
    late = [number for number, found in enumerate(records) if not found]
    if late:
        which = f"rows {late} do"
        if len(records) == 1:
            which = "the gas does"
        raise ValueError(
            f"{which} not ignite before end = {end:g} s: give a later end, a hotter start or"
            " another definition of ignition"
        )
    return torch.stack([found[0].t for found in records])
