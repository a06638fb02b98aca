"""The ignition delay of a reactor: the time of an event, with its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...core.events import Event
from ...solve import solve

if TYPE_CHECKING:
    from .reactor import Reactor

RISE = 400.0  # K
END = 100.0  # s


class Threshold(nn.Module):
    """A component of the state minus a value: a number, or one for each row."""

    value: Tensor

    def __init__(self, component: int, value: Tensor) -> None:
        super().__init__()
        self.component = component
        self.register_buffer("value", value)

    def forward(self, t: Any, y: Tensor) -> Tensor:
        return y[..., self.component] - self.value


class Slope(nn.Module):
    """dy/dt of a component of the state, which is zero at its peak."""

    def __init__(self, reactor: Reactor, component: int) -> None:
        super().__init__()
        self.reactor = reactor
        self.component = component

    def forward(self, t: Any, y: Tensor) -> Tensor:
        return self.reactor(t, y)[..., self.component]
