"""A piecewise polynomial path: what drives a controlled differential equation, or the input of a
system."""

from __future__ import annotations

import torch

from ..core.events import as_times


class Path:
    """X(s), (channels,) or (batch, channels): on each piece a polynomial in the distance from its
    first knot.

    knots: (K,) float64, increasing, for all rows; piece i goes from knot i to the next, the last
    one on from there. coefficients: (rows, pieces, degree + 1, channels), the constant first.
    smooth: how many derivatives are continuous, -1 if X itself is not. in_time: whether s is the
    time. observed: (T,) the s at which the observations are.
    """

    def __init__(self, knots, coefficients, *, smooth, in_time, observed, batched):
        self.knots = knots
        self.coefficients = coefficients
        self.smooth = smooth
        self.in_time = in_time
        self.observed = observed
        self.batched = batched
        self.inner = knots.detach()[1 : coefficients.shape[1]]

    @property
    def ends(self):
        """(first, last) knot, (2,)."""
        return self.knots[[0, -1]]

    @property
    def channels(self) -> int:
        return self.coefficients.shape[-1]

    def __call__(self, s):
        """X at s, a number or (m,) of them: (..., channels), with a leading dimension m for
        several."""
        return self._many(s, self.coefficients)

    def derivative(self, s):
        """dX/ds at s, likewise; where it jumps, the one after the jump."""
        return self._many(s, self.slopes())

    def slopes(self):
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

    def at(self, s, coefficients, right=True):
        """The value at s of the piecewise polynomial with these coefficients on the path's knots,
        as a field is asked for it.

        right: at a knot the piece after it, as a solve forwards needs it; False: the one before,
        for a solve backwards. s: 0-d, also under vmap, for (rows, channels), or (channels,) where
        the path has no batch; or, with batched=True, one s a row, (rows, 1, ...), for (rows,
        channels), the coefficients those of these rows.
        """
        place, distance = self._located(s, right)
        if s.dim():
            pieces = torch.take_along_dim(coefficients, place.view(-1, 1, 1, 1), 1).squeeze(1)
            return _polynomial(pieces, distance.reshape(-1, 1))
        out = _polynomial(coefficients.index_select(1, place).squeeze(1), distance)
        if self.batched:
            return out
        return out.squeeze(0)

    def corners(self, order, options):
        """For a field that contains the derivative of that order of the path: where it jumps as
        jumps, where it has kinks as tstops, for ``solve``, beside those in options; nothing where
        it is smoother."""
        name = {-1: "jumps", 0: "tstops"}.get(self.smooth - order)
        if name is None:
            return {}
        own = self.knots[1 : self.coefficients.shape[1]]
        return {name: torch.cat((as_times(options.get(name, ()), name).to(own.device), own))}

    def check_span(self, times):
        """ValueError where one of the times, (T,), lies outside of the path; what is held goes on
        for ever."""
        low, high = self.ends.detach().tolist()
        asked = torch.as_tensor(times, dtype=torch.float64).reshape(-1).tolist()
        outside = [s for s in asked if s < low or (s > high and self.smooth >= 0)]
        if outside:
            raise ValueError(
                f"the path runs from {low:.6g} to {high:.6g}, and {outside[0]:.6g} lies outside of"
                " it; solve between these, or add observations"
            )

    def _located(self, s, right=True):
        """(number of the piece, flat; distance from its first knot, in the shape of s); knots in
        the dtype of s, as rounded."""
        place = torch.bucketize(s.detach().contiguous(), self.inner.to(s), right=right).reshape(-1)
        return place, s - self.knots.detach().to(s).index_select(0, place).reshape(s.shape)

    def _many(self, s, coefficients):
        s = torch.as_tensor(s, dtype=self.coefficients.dtype, device=self.coefficients.device)
        if s.dim() > 1:
            raise ValueError(
                "a path is asked for its value at one s, or at (m,) of them, not at"
                f" {tuple(s.shape)}"
            )
        place, distance = self._located(s)
        out = _polynomial(coefficients.index_select(1, place), distance.reshape(-1, 1))
        if self.batched:
            out = out.movedim(1, 0)
        else:
            out = out.squeeze(0)
        if s.dim():
            return out
        return out[0]


def forwards(times) -> bool:
    """Whether times, (T,) or (T, rows) that all go one way, increase."""
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.dim() > 1:
        times = times[:, 0]
    else:
        times = times.reshape(-1)
    return bool(times[-1:] > times[:1])


def _polynomial(coefficients, x):
    """Horner's rule, (..., channels), of (..., degree + 1, channels)."""
    *rest, value = coefficients.unbind(-2)
    for c in reversed(rest):
        value = c + value * x
    return value
