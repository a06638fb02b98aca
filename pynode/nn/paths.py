"""Paths through observations, by the scheme that lies between them.

Kidger, Morrill, Foster & Lyons, "Neural controlled differential equations for irregular time
series", NeurIPS 2020; the schemes are compared in Morrill, Kidger, Yang & Lyons, "On the choice of
interpolation scheme for neural CDEs", TMLR 2022.
"""

from __future__ import annotations

import torch

from .observations import Observations
from .path import Path


class LinearPath(Path):
    """Straight between observations: continuous, with a derivative that jumps. Gaps are filled
    linearly, from both sides.

    times: (T,), and the path runs in time; or (batch, T), with times of its own for every row, and
        the path runs by the number of the observation, 0 to T - 1 (a CDE does not depend on how
        fast its path is run through). A row may end in NaN where its series has fewer observations;
        there the path rests.
    values: (batch, T, channels) or (T, channels), float32 or float64, with gradients; NaN where not
    observed. time: put the time before the channels, without which a CDE feels neither time nor the
    parametrisation.

    ValueError for fewer than two observations, times that do not increase, channels without any
    observation.
    """

    def __init__(self, times, values, *, time=True):
        data, x = _filled(times, values, time)
        knots = _parameter(data)
        width = knots.diff().to(x).view(-1, 1)
        super().__init__(
            knots,
            torch.stack((x[:, :-1], x.diff(dim=1) / width), 2),
            smooth=0,
            in_time=data.shared,
            observed=knots,
            batched=data.batched,
        )


class CubicHermitePath(Path):
    """Cubic between observations, its slope at each that from the observation before: once
    continuously differentiable, and up to observation i without knowledge of those after it (but
    for gaps, which are filled linearly, from both sides).

    With slopes m at the ends of a piece of width h and d = m_1 - m_0, where m_1 is the slope of the
    chord: X = x_0 + m_0 s + 2 d/h s^2 - d/h^2 s^3. times, values, time, errors: as for LinearPath.
    Where a series has ended, and others go on, its slope jumps to zero: then the derivative is
    taken to jump at every knot.
    """

    def __init__(self, times, values, *, time=True):
        data, x = _filled(times, values, time)
        knots = _parameter(data)
        width = knots.diff().to(x).view(-1, 1)
        chord = x.diff(dim=1) / width
        start = torch.cat((chord[:, :1], chord[:, :-1]), 1)
        # The path rests where its series has ended.
        start = torch.where(data.lasting[:, 1:].unsqueeze(-1), start, 0.0)
        change = torch.where(data.lasting[:, 1:].unsqueeze(-1), chord - start, 0.0)
        parts = (x[:, :-1], start, 2 * change / width, -change / width**2)
        super().__init__(
            knots,
            torch.stack(parts, 2),
            smooth=int(data.lasting.all()),
            in_time=data.shared,
            observed=knots,
            batched=data.batched,
        )


class RectilinearPath(Path):
    """First the time advances with the values held, then the values change: causal, for predictions
    while data come in.

    Runs from 0 to 2 (T - 1), observation i at 2 i (``observed``); before that nothing of it is
    seen. In its gaps a channel keeps its last value, and 0 before its first. times, values, errors:
    as for LinearPath; the time is always a channel.
    """

    def __init__(self, times, values):
        data = Observations(times, values)
        x = data.with_time(data.held())
        between = torch.cat((x[:, 1:, :1], x[:, :-1, 1:]), -1)
        x = torch.stack((x, torch.cat((between, x[:, -1:]), 1)), 2).flatten(1, 2)[:, :-1]
        knots = torch.arange(x.shape[1], dtype=torch.float64, device=x.device)
        super().__init__(
            knots,
            torch.stack((x[:, :-1], x.diff(dim=1)), 2),
            smooth=0,
            in_time=False,
            observed=knots[::2],
            batched=data.batched,
        )


class ZeroOrderHold(Path):
    """The input that keeps each value until the next one, and the last for ever: what a digital
    controller gives.

    times: (T,), at which the values begin, with gradients (of switching times) if they require
    them; values: as for LinearPath, a NaN for a channel that keeps its value. No path for a CDE,
    which needs a derivative.
    """

    def __init__(self, times, values):
        times = torch.as_tensor(times, dtype=torch.float64)
        data = Observations(times.detach(), values)
        if not data.shared:
            raise ValueError(
                "a held input has the same times for all rows, (T,): put the times of all rows into"
                " one sequence"
            )
        knots = times.to(data.times.device)
        super().__init__(
            knots,
            data.held().unsqueeze(2),
            smooth=-1,
            in_time=True,
            observed=knots,
            batched=data.batched,
        )


def _filled(times, values, time):
    """(observations, their values (rows, T, channels) without gaps, with the time before them if
    that is wanted)."""
    data = Observations(times, values)
    x = data.interpolated()
    return data, data.with_time(x) if time else x


def _parameter(data):
    """The knots of the path: the times if all rows have the same, else the numbers of the
    observations."""
    if data.shared:
        return data.times[0]
    return torch.arange(data.times.shape[1], dtype=torch.float64, device=data.times.device)
