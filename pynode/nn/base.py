"""What the modules over ``solve`` share: a vector field, options of the solver, default times, the counts of the last solve."""

from __future__ import annotations

import inspect

import torch

from ..solve import solve


class SolveModule(torch.nn.Module):
    """field: nn.Module, called with the time and ``inputs`` further arguments, or without the time; options: of ``solve``."""

    inputs = 1

    def __init__(self, field, options):
        super().__init__()
        self.field = as_field(field, "field")
        self.options = options
        self.stats = None

    @property
    def _timed(self):
        """The field as a module that is called with the time first."""
        return timed(self.field, self.inputs)

    def _solved(self, field, y0, times, args=(), **more):
        """y at the times, by ``solve`` with the options and more of them; its counts go to ``stats``."""
        solution = solve(field, y0, times, args=args, **{**self.options, **more})
        self.stats = solution.stats
        return solution.y

    def extra_repr(self):
        return ", ".join(f"{key}={value}" for key, value in self.options.items())


class DefaultTimes(torch.nn.Module):
    """t: times for calls that give none, a buffer (float64); last_only: whether the last state alone is returned, None for:
    where the call gives no times."""

    def keep_times(self, t, last_only):
        self.register_buffer("t", torch.as_tensor(t, dtype=torch.float64), persistent=False)
        self.last_only = last_only

    def _apply(self, fn, recurse=True):
        """.to(device) moves the times, but .float() leaves them in float64: time is never rounded to the state's dtype."""
        times = self.t
        super()._apply(fn, recurse)
        self.t = times.to(device=self.t.device)
        return self

    def choose_times(self, t):
        """(times, whether the last state alone is wanted) of a call with times t, or None."""
        return self.t if t is None else t, t is None if self.last_only is None else self.last_only


def as_field(field, name):
    """field, or TypeError where it is no module."""
    if not isinstance(field, torch.nn.Module):
        raise TypeError(f"{name} must be an nn.Module, so that its parameters are found, not {type(field).__name__}")
    return field


def timed(field, inputs=1):
    """A module that is called with the time and so many further arguments; field may leave the time away."""
    return _Autonomous(field) if len(inspect.signature(field.forward).parameters) == inputs else field


class _Autonomous(torch.nn.Module):
    """field(y, ...) called as field(t, y, ...)."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t, *inputs):
        return self.field(*inputs)
