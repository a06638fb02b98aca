"""Ordinary differential equations with an external input, the state equation of control theory:
dy/dt = f(t, y, u(t))."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..core.protocols import Times
from .base import last
from .neural_ode import NeuralODE, State
from .path import Path, forwards


class ControlledODE(NeuralODE):
    """y(t) of dy/dt = field(t, y, u(t)), y(t_0) = input.

    field: nn.Module with forward(t, y, u), or forward(y, u).
    t, last_only, options: as for NeuralODE.

    Gradients reach the parameters of the field and y0. If u is a path they reach its values: a
    control to optimise, or an unknown input to identify. For a ZeroOrderHold they also reach its
    times. The method starts anew where u jumps, and its steps end where u has a kink.
    """

    inputs = 2

    def forward(  # type: ignore[override]
        self,
        y0: State,
        u: Path | Callable[[torch.Tensor], torch.Tensor],
        t: Times | None = None,
    ) -> State:
        """The states at the times.

        y0: the state at t[0], as for NeuralODE.
        u: ZeroOrderHold, LinearPath(..., time=False) or CubicHermitePath(..., time=False) over the
            span of t. Its values are (channels,), or (batch, channels) for y0 (batch, ...). Or a
            smooth function or module u(t): gradients then reach only the parameters of a module.
            Pass the times at which it is not smooth as the options jumps and tstops.

        Returns (T, *y0.shape), or (*y0.shape) with last_only.
        """
        if self.regularisers:
            raise ValueError(
                "a ControlledODE takes no regularisers, because its field has an input: remove them"
            )
        times, last_only = self.choose_times(t)
        args: tuple[torch.Tensor, ...] = ()
        stops: dict[str, torch.Tensor] = {}
        if isinstance(u, Path):
            if not u.in_time:
                raise ValueError(
                    "an input is a function of time: give the path one sequence of times for all"
                    " rows, (T,)"
                )
            u.check_span(times)
            args = (u.coefficients,)
            stops = u.stops(0, self.options)
        elif not callable(u):
            raise TypeError(
                f"u must be a path or a function u(t), not {type(u).__name__}; hold values with"
                " ZeroOrderHold"
            )
        field = self._wrapped(_WithInput, self._timed, u, forwards(times))
        y = self._solved(field, y0, times, args, **stops)
        if last_only:
            return last(y)
        return y


class _WithInput(torch.nn.Module):
    """field(t, y, u(t)). coefficients: those of u if it is a path; forward_in_time: see Path.at."""

    def __init__(self, field: torch.nn.Module, u: Any, forward_in_time: bool) -> None:
        super().__init__()
        self.field = field
        self.u = u
        self.forward_in_time = forward_in_time

    @property
    def pynode_lasting(self) -> torch.nn.Module:
        return self.field  # see Autonomous

    def forward(
        self, t: torch.Tensor, y: torch.Tensor, coefficients: torch.Tensor | None = None
    ) -> torch.Tensor:
        if coefficients is None:
            return self.field(t, y, self.u(t))
        return self.field(t, y, self.u.at(t, coefficients, self.forward_in_time))
