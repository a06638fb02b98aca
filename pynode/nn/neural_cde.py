"""The neural controlled differential equation. Kidger, Morrill, Foster & Lyons, NeurIPS 2020, eq.
(4), (5)."""

from __future__ import annotations

from typing import Any

import torch

from ..core.problem import checked_times
from ..core.protocols import Times
from ..methods.base import Method
from .base import SolveModule, as_field
from .path import Path, forwards


class NeuralCDE(SolveModule):
    """z(s) of dz/ds = field(z) dX/ds, z(s_0) = initial(X(s_0)): a hidden state that a path X
    through observations drives.

    It does for irregular and incomplete series what a recurrent network does for regular ones.

    field: nn.Module with forward(z) or forward(s, z). It maps z (batch, hidden) to (batch, hidden,
        channels), with the channels of the path, time included: end with nn.Unflatten(-1, (hidden,
        channels)). A bounded last layer (tanh) keeps z from growing without bound.
    initial: nn.Module that maps X(s_0), (batch, channels), to z(s_0), (batch, hidden). It need not
        be linear.
    options: as for NeuralODE. Where the derivative of the path jumps (LinearPath, RectilinearPath)
        the method starts anew, so that a one-step method is best. A CubicHermitePath has a
        derivative with kinks. The steps then end at the knots, which makes the result tens to
        hundreds of times more accurate for the same work.

    ``stats`` holds the counts of the last solve. Raises SolveError if a solve fails, ValueError for
    shapes that do not fit.
    """

    def __init__(
        self,
        field: torch.nn.Module,
        initial: torch.nn.Module,
        *,
        method: str | Method = "auto",
        rtol: float = 1e-6,
        atol: float | torch.Tensor = 1e-9,
        **options: Any,
    ) -> None:
        super().__init__(field, {"method": method, "rtol": rtol, "atol": atol, **options})
        self.initial = as_field(initial, "initial")

    def forward(self, path: Path, t: Times | None = None) -> torch.Tensor:
        """The hidden state at the end of the path, (batch, hidden), for a readout.

        path: LinearPath, CubicHermitePath or RectilinearPath.
        t: at least two times on the path (its knots, its ``observed``). Then the result is z at all
            of them, (T, batch, hidden).
        """
        if not isinstance(path, Path) or path.smooth < 0:
            raise TypeError(
                f"a CDE needs a path with a derivative, not {type(path).__name__}: make a"
                " CubicHermitePath, LinearPath or RectilinearPath of times and values"
            )
        if t is None:
            times = path.span
        else:
            times = checked_times(t)
        path.check_span(times)
        z0 = self.initial(path(times[0]))
        stops = path.stops(1, self.options)
        driven = self._wrapped(_Driven, self._timed, path, forwards(times))
        z = self._solved(driven, z0, times, (path.slopes(),), **stops)
        if t is None:
            return z[-1]
        return z


class _Driven(torch.nn.Module):
    """field(s, z) dX/ds. slopes: the coefficients of dX/ds; forward_in_time: see Path.at."""

    def __init__(self, field: torch.nn.Module, path: Any, forward_in_time: bool) -> None:
        super().__init__()
        self.field = field
        self.path = path
        self.forward_in_time = forward_in_time

    @property
    def pynode_lasting(self) -> torch.nn.Module:
        return self.field  # see Autonomous

    def forward(self, s: torch.Tensor, z: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        matrix = self.field(s, z)
        rate = self.path.at(s, slopes, self.forward_in_time)
        if matrix.shape != (*z.shape, rate.shape[-1]):
            raise ValueError(
                f"for z of shape {tuple(z.shape)} and a path of {rate.shape[-1]} channels the field"
                f" must return {(*z.shape, rate.shape[-1])}, not {tuple(matrix.shape)}; time is one"
                " of the channels, and nn.Unflatten(-1, (hidden, channels)) makes the matrix of a"
                " row"
            )
        return (matrix @ rate.unsqueeze(-1)).squeeze(-1)
