"""The neural controlled differential equation. Kidger, Morrill, Foster & Lyons, NeurIPS 2020, eq.
(4), (5)."""

from __future__ import annotations

import torch

from ..core.problem import checked_times
from .base import SolveModule, as_field
from .path import Path, forwards


class NeuralCDE(SolveModule):
    """z(s) of dz/ds = field(z) dX/ds, z(s_0) = initial(X(s_0)): a hidden state driven by a path X
    through observations.

    What a recurrent network is for regular series, this is for irregular and incomplete ones.

    field: nn.Module with forward(z) or forward(s, z); of z (batch, hidden) it makes (batch, hidden,
        channels), channels those of the path, the time among them: end with nn.Unflatten(-1,
        (hidden, channels)). A bounded last layer (tanh) keeps z from running away.
    initial: nn.Module that makes z(s_0), (batch, hidden), of X(s_0), (batch, channels); it need not
    be linear.
    options: as for NeuralODE. Where the derivative of the path jumps (LinearPath, RectilinearPath)
        the method starts anew, so that a one-step method serves best; on a CubicHermitePath, whose
        derivative has kinks, its steps end at the knots, which makes the result tens to hundreds of
        times more accurate for the same work.

    ``stats`` holds the counts of the last solve. SolveError where one fails, ValueError for shapes
    that do not fit.
    """

    def __init__(self, field, initial, *, method="auto", rtol=1e-6, atol=1e-9, **options):
        super().__init__(field, {"method": method, "rtol": rtol, "atol": atol, **options})
        self.initial = as_field(initial, "initial")

    def forward(self, path, t=None):
        """path: LinearPath, CubicHermitePath or RectilinearPath. Returns z at its end, (batch,
        hidden), for a readout.

        t: at least two times on the path (its knots, its ``observed``); then z at all of them, (T,
        batch, hidden).
        """
        if not isinstance(path, Path) or path.smooth < 0:
            raise TypeError(
                f"a CDE is driven by a path with a derivative, not by {type(path).__name__}: make a"
                " CubicHermitePath, LinearPath or RectilinearPath of times and values"
            )
        if t is None:
            times = path.ends
        else:
            times = checked_times(t)
        path.check_span(times)
        z0 = self.initial(path(times[0]))
        more = path.corners(1, self.options)
        z = self._solved(
            _Driven(self._timed, path, forwards(times)), z0, times, (path.slopes(),), **more
        )
        if t is None:
            return z[-1]
        return z


class _Driven(torch.nn.Module):
    """field(s, z) dX/ds, where slopes are the coefficients of dX/ds; right: see Path.at."""

    def __init__(self, field, path, right):
        super().__init__()
        self.field = field
        self.path = path
        self.right = right

    @property
    def pynode_lasting(self):
        return self.field  # see Autonomous

    def forward(self, s, z, slopes):
        matrix = self.field(s, z)
        rate = self.path.at(s, slopes, self.right)
        if matrix.shape != (*z.shape, rate.shape[-1]):
            raise ValueError(
                f"for z of shape {tuple(z.shape)} and a path of {rate.shape[-1]} channels the field"
                f" must return {(*z.shape, rate.shape[-1])}, not {tuple(matrix.shape)}; the time is"
                " one of the channels, and nn.Unflatten(-1, (hidden, channels)) makes the matrix"
                " of a row"
            )
        return (matrix @ rate.unsqueeze(-1)).squeeze(-1)
