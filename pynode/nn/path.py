"""A piecewise polynomial path: it drives a controlled differential equation, or is the input of a
system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..core.events import as_times
from ..core.protocols import Times


class Path:
    """X(s), (channels,) or (batch, channels): on each piece a polynomial in the distance from the
    first knot of the piece.

    knots: (K,) float64, increasing, the same for all rows; or (rows, K). Piece i goes from knot i
        to the next one. The last piece has no end.
    coefficients: (rows, pieces, degree + 1, channels), the constant first.
    smooth: how many derivatives are continuous, -1 if X itself is not.
    in_time: whether s is the time.
    observed: (T,) the s of the observations.
    batched: whether the values have a batch dimension.
    """

    def __init__(
        self,
        knots: torch.Tensor,
        coefficients: torch.Tensor,
        *,
        smooth: int,
        in_time: bool,
        observed: torch.Tensor,
        batched: bool,
    ) -> None:
        self.knots = knots
        self.coefficients = coefficients
        self.smooth = smooth
        self.in_time = in_time
        self.observed = observed
        self.batched = batched
        self.pieces = coefficients.shape[1]

    @property
    def span(self) -> torch.Tensor:
        """(first, last) knot, (2,)."""
        return self.knots[[0, -1]]

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.coefficients.shape[-1]

    def __call__(self, s: float | torch.Tensor) -> torch.Tensor:
        """X at s, a number or (m,): (..., channels), with a leading dimension m for several s."""
        return self._evaluate(s, self.coefficients)

    def derivative(self, s: float | torch.Tensor) -> torch.Tensor:
        """dX/ds at s, in the shapes of a call. Where it jumps, the result is the value after the
        jump."""
        return self._evaluate(s, self.slopes())

    def slopes(self) -> torch.Tensor:
        """The coefficients of dX/ds, (rows, pieces, max(degree, 1), channels)."""
        degree = self.coefficients.shape[2] - 1
        if degree == 0:
            return torch.zeros_like(self.coefficients)
        powers = (
            torch.arange(1, degree + 1, device=self.coefficients.device)
            .to(self.coefficients)
            .unsqueeze(-1)
        )
        return self.coefficients[:, :, 1:] * powers

    def at(
        self,
        s: torch.Tensor,
        coefficients: torch.Tensor,
        forward_in_time: bool = True,
        knots: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The value at s, as a field asks for it, of the piecewise polynomial that has these
        coefficients on the knots of the path.

        forward_in_time: True takes the piece after a knot, False the piece before it.
        knots: (K,), or (rows, K) of the rows of s, with gradients; None for those of the path
            without gradients.
        s: 0-d, also under vmap; the result is (rows, channels), or (channels,) if the path has no
            batch. With batched=True it is one s for each row, (rows, 1, ...), and the coefficients
            belong to these rows; the result is (rows, channels).
        """
        piece, distance = self._located(s, forward_in_time, knots)
        if s.dim() and len(coefficients) == len(piece):
            pieces = torch.take_along_dim(coefficients, piece.view(-1, 1, 1, 1), 1).squeeze(1)
            return _polynomial(pieces, distance.reshape(-1, 1))
        if s.dim():
            pieces = coefficients[0].index_select(0, piece)
            return _polynomial(pieces, distance.reshape(-1, 1))
        out = _polynomial(coefficients.index_select(1, piece).squeeze(1), distance)
        if self.batched:
            return out
        return out.squeeze(0)

    def stops(self, order: int, options: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Options of ``solve`` for a field that contains this derivative of the path: its jumps as
        ``jumps``, its kinks as ``tstops``, added to those in options. Empty if it is smoother."""
        name = {-1: "jumps", 0: "tstops"}.get(self.smooth - order)
        if name is None:
            return {}
        own = self.knots[1 : self.pieces]
        return {name: torch.cat((as_times(options.get(name, ()), name).to(own.device), own))}

    def check_span(self, times: Times) -> None:
        """Raises ValueError if one of the times, (T,), lies outside of the path. A held input has
        no end."""
        low, high = self.span.detach().tolist()
        asked = torch.as_tensor(times, dtype=torch.float64).reshape(-1).tolist()
        outside = [s for s in asked if s < low or (s > high and self.smooth >= 0)]
        if outside:
            raise ValueError(
                f"the path runs from {low:.6g} to {high:.6g}, and {outside[0]:.6g} lies outside of"
                " it; solve between these, or add observations"
            )

    def _located(self, s, forward_in_time=True, knots=None):
        """(number of the piece, flat; distance from its first knot, in the shape of s). Knots are
        rounded to the dtype of s."""
        if knots is None:
            knots = self.knots.detach()
        knots = knots.to(s)
        inner = knots.detach()[..., 1 : self.pieces].contiguous()
        if knots.dim() == 1:
            piece = torch.bucketize(s.detach().contiguous(), inner, right=forward_in_time)
            start = knots.index_select(0, piece.reshape(-1))
        else:
            at = s.detach().reshape(-1, 1).contiguous()
            piece = torch.searchsorted(inner, at, right=forward_in_time)
            start = knots.gather(1, piece)
        return piece.reshape(-1), s - start.reshape(s.shape)

    def _evaluate(self, s, coefficients):
        s = torch.as_tensor(s, dtype=self.coefficients.dtype, device=self.coefficients.device)
        if s.dim() > 1:
            raise ValueError(f"a path takes one s, or (m,) of them, not {tuple(s.shape)}")
        piece, distance = self._located(s)
        out = _polynomial(coefficients.index_select(1, piece), distance.reshape(-1, 1))
        if self.batched:
            out = out.movedim(1, 0)
        else:
            out = out.squeeze(0)
        if s.dim():
            return out
        return out[0]


def forwards(times: Times) -> bool:
    """Whether times, (T,) or (T, rows), increase. All rows have the same direction."""
    values = torch.as_tensor(times, dtype=torch.float64)
    if values.dim() > 1:
        values = values[:, 0]
    else:
        values = values.reshape(-1)
    return bool(values[-1:] > values[:1])


def _polynomial(coefficients, x):
    """The polynomial with coefficients (..., degree + 1, channels) at x, (..., channels), by
    Horner's rule."""
    *rest, value = coefficients.unbind(-2)
    for c in reversed(rest):
        value = c + value * x
    return value
