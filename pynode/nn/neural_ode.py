"""The neural ordinary differential equation. Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018, eq. (2)."""

from __future__ import annotations

import inspect

import torch

from ..solve import solve


class NeuralODE(torch.nn.Module):
    """y(t) of dy/dt = field(t, y), y(t_0) = input.

    field: nn.Module with forward(t, y), or forward(y) for an autonomous field; y has the shape of the input.
    t: default times, at least two, kept as a buffer (float64); without ``t`` in the call these are used.
    last_only: return the state at the last time alone, shape of the input, so that the module fits in nn.Sequential;
        None (default): where the call gives no t.
    options: of ``solve`` (method, rtol, atol, adjoint, max_steps, ...).

    With t = (0, N), method="euler" and step_size=1.0 it is a residual network of N blocks y + field(t, y) (ibid., sec. 1), with
    the weights of the field in each block where it does not depend on t (examples/digits.py).

    ``stats`` holds the counts of the last solve. Raises SolveError where a solve fails.
    """

    def __init__(self, field, t=(0.0, 1.0), *, method="auto", rtol=1e-6, atol=1e-9, last_only=None, **options):
        super().__init__()
        if not isinstance(field, torch.nn.Module):
            raise TypeError(f"field must be an nn.Module, so that its parameters are found, not {type(field).__name__}")
        self.field = field
        self.register_buffer("t", torch.as_tensor(t, dtype=torch.float64), persistent=False)
        self.last_only = last_only
        self.options = {"method": method, "rtol": rtol, "atol": atol, **options}
        self.stats = None
        self._takes_time = len(inspect.signature(field.forward).parameters) != 1

    def _apply(self, fn, recurse=True):
        """.to(device) moves the times, but .float() leaves them in float64: time is never rounded to the state's dtype."""
        times = self.t
        super()._apply(fn, recurse)
        self.t = times.to(device=self.t.device)
        return self

    def forward(self, y0, t=None):
        """y0: the state at t[0], any shape. Returns (T, *y0.shape), or (*y0.shape) with last_only."""
        times = self.t if t is None else t
        last_only = t is None if self.last_only is None else self.last_only
        y = self._solved(self._timed, y0, times)
        return y[-1] if last_only else y

    @property
    def _timed(self):
        """The field as a module that is called with (t, y)."""
        return self.field if self._takes_time else _Autonomous(self.field)

    def _solved(self, field, y0, times, args=()):
        """y at the times, by ``solve`` with the options; its counts go to ``stats``."""
        solution = solve(field, y0, times, args=args, **self.options)
        self.stats = solution.stats
        return solution.y

    def extra_repr(self):
        return ", ".join(f"{key}={value}" for key, value in self.options.items())


class _Autonomous(torch.nn.Module):
    """field(y) called as field(t, y)."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t, y):
        return self.field(y)
