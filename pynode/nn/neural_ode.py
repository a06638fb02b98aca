"""The neural ordinary differential equation. Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018, eq. (2)."""

from __future__ import annotations

from .base import DefaultTimes, SolveModule


class NeuralODE(DefaultTimes, SolveModule):
    """y(t) of dy/dt = field(t, y), y(t_0) = input.

    field: nn.Module with forward(t, y), or forward(y) for an autonomous field; y has the shape of the input.
    t: default times, at least two, kept as a buffer (float64); without ``t`` in the call these are used.
    last_only: return the state at the last time alone, shape of the input, so that the module fits in nn.Sequential;
        None (default): where the call gives no t.
    options: of ``solve`` (method, rtol, atol, adjoint, max_steps, ...).

    ``stats`` holds the counts of the last solve. Raises SolveError where a solve fails.
    """

    def __init__(self, field, t=(0.0, 1.0), *, method="auto", rtol=1e-6, atol=1e-9, last_only=None, **options):
        super().__init__(field, {"method": method, "rtol": rtol, "atol": atol, **options})
        self.keep_times(t, last_only)

    def forward(self, y0, t=None):
        """y0: the state at t[0], any shape. Returns (T, *y0.shape), or (*y0.shape) with last_only."""
        times, last_only = self.choose_times(t)
        y = self._solved(self._timed, y0, times)
        return y[-1] if last_only else y
