"""Ordinary differential equations with an external input, the state equation of control theory:
dy/dt = f(t, y, u(t))."""

from __future__ import annotations

import torch

from .base import last
from .neural_ode import NeuralODE
from .path import Path, forwards


class ControlledODE(NeuralODE):
    """y(t) of dy/dt = field(t, y, u(t)), y(t_0) = input.

    field: nn.Module with forward(t, y, u), or forward(y, u).
    t, last_only, options: as for NeuralODE.

    Gradients reach the parameters of the field, y0, and the values of u where it is a path: a
    control to be found, or an unknown input to be identified; of a ZeroOrderHold the times too. The
    method starts anew where u jumps, and its steps end where u has a kink.
    """

    inputs = 2

    def forward(self, y0, u, t=None):
        """y0: the state at t[0], as for NeuralODE. Returns (T, *y0.shape), or (*y0.shape) with
        last_only.

        u: ZeroOrderHold, LinearPath(..., time=False) or CubicHermitePath(..., time=False) over the
            span of t, whose values are (channels,), or (batch, channels) for y0 (batch, ...); or a
            function or module u(t), smooth (times at which it is not belong to the options jumps
            and tstops), in which gradients reach the parameters of a module alone.
        """
        if self.regularisers:
            raise ValueError(
                "regularisers are not for a ControlledODE, whose field has an input: leave them"
                " away"
            )
        times, last_only = self.choose_times(t)
        args = ()
        more = {}
        if isinstance(u, Path):
            if not u.in_time:
                raise ValueError(
                    "an input is a function of time: make the path of one sequence of times for all"
                    " rows, (T,)"
                )
            u.check_span(times)
            args = (u.coefficients,)
            more = u.corners(0, self.options)
        elif not callable(u):
            raise TypeError(
                f"u must be a path or a function u(t), not {type(u).__name__}; hold values with"
                " ZeroOrderHold"
            )
        y = self._solved(_WithInput(self._timed, u, forwards(times)), y0, times, args, **more)
        if last_only:
            return last(y)
        return y


class _WithInput(torch.nn.Module):
    """field(t, y, u(t)), where coefficients are those of u if it is a path; right: see Path.at."""

    def __init__(self, field, u, right):
        super().__init__()
        self.field = field
        self.u = u
        self.right = right

    @property
    def pynode_lasting(self):
        return self.field  # see Autonomous

    def forward(self, t, y, coefficients=None):
        return self.field(
            t, y, self.u(t) if coefficients is None else self.u.at(t, coefficients, self.right)
        )
