"""A field with doses: the rates of its infusions, and what changes its state."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core.events import PresetTimes, as_events
from ..core.switches import Switches, switches_of
from ..nn.path import Path


class DosedField(torch.nn.Module):
    """f with the rates of infusion. The last ``own`` arguments are the tensors of the doses, and f
    does not get them. infused: whether two of them are a table of rates of infusion."""

    def __init__(self, f: Callable, own: int, infused: bool) -> None:
        super().__init__()
        self.f = f
        self.own = own
        self.infused = infused

    @property
    def pynode_lasting(self) -> Callable:
        return self.f  # see nn.base.Autonomous

    @property
    def pynode_switches(self) -> Switches | None:
        """Where f jumps."""
        found = switches_of(self.f)
        if found is None:
            return None

        def changed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda *args: function(*args[: len(args) - self.own])

        inner = found.within(changed)

        def rate(t: Tensor, y: Tensor, sides: Tensor, *args: Tensor) -> Tensor:
            return self._with_infusions(t, inner.rate(t, y, sides, *args), args)

        return replace(inner, rate=rate)

    def forward(self, t: Tensor, y: Tensor, *args: Tensor) -> Tensor:
        slope = self.f(t, y, *args[: len(args) - self.own])
        return self._with_infusions(t, slope, args)

    def _with_infusions(self, t: Tensor, slope: Tensor, args: tuple[Tensor, ...]) -> Tensor:
        """dy/dt with the rates of infusion."""
        if not self.infused:
            return slope
        knots, rates = args[-2:]
        table = rates.unsqueeze(-2)
        if not t.dim():
            table = table.unsqueeze(0)
        path = Path(knots, table, smooth=-1, in_time=True, observed=knots, batched=False)
        return slope + path.at(t, table, knots=knots)


@functools.lru_cache(maxsize=8)
def kept_field(f: torch.nn.Module, own: int, infused: bool) -> DosedField:
    """The object of earlier calls with this f: the engines keep its native code with it."""
    return DosedField(f, own, infused)


class Load:
    """The reset of dose ``number``: y plus what enters. place: of the tensor of loads among the
    ``own`` tensors of the doses, from 1. These are the last arguments."""

    def __init__(self, number: int, place: int, own: int = 0) -> None:
        self.number = number
        self.place = place
        self.own = own

    def among(self, own: int) -> Load:
        """The same reset where there are ``own`` tensors of doses."""
        return Load(self.number, self.place, own)

    def __call__(self, t: Tensor, y: Tensor, *args: Tensor) -> Tensor:
        loads = args[len(args) - self.own + self.place - 1]
        return y + loads[..., self.number, :].to(y)


class _Trimmed:
    """A function of an event of the user, called without the tensors of the doses."""

    def __init__(self, function: Callable, own: int) -> None:
        self.function = function
        self.own = own

    def __call__(self, t: Tensor, y: Tensor, *args: Any) -> Any:
        return self.function(t, y, *args[: len(args) - self.own])


def trimmed(events: Any, own: int) -> list[Any]:
    """The user's events, as Events whose functions do not see the tensors of the doses."""
    conditions, presets = as_events(events)
    made = []
    for _, event in sorted([*conditions, *presets], key=lambda pair: pair[0]):
        changes = {}
        for name in ("condition", "reset"):
            function = getattr(event, name, None)
            if function is not None:
                changes[name] = _Trimmed(function, own)
        made.append(replace(event, **changes))
    return made


def presets(times: Tensor, place: int, name: str) -> list[PresetTimes]:
    """PresetTimes for each of times, (E,) or (B, E). place: of the tensor of loads among the
    tensors of the doses, from 1."""
    made = []
    for number in range(times.shape[-1]):
        own = times[..., number : number + 1]
        if bool((~own.detach().isnan()).any()):
            if own.dim() == 1:
                own = own[~own.detach().isnan()]
            made.append(PresetTimes(own, Load(number, place), name))
    return made
