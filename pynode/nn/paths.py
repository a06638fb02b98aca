"""Paths through observations, by the scheme that connects them.

Kidger, Morrill, Foster & Lyons, "Neural controlled differential equations for irregular time
series", NeurIPS 2020. Morrill, Kidger, Yang & Lyons, "On the choice of interpolation scheme for
neural CDEs", TMLR 2022, compare the schemes.
"""

from __future__ import annotations

import torch

from ..core.protocols import Times
from .observations import Observations
from .path import Path


class LinearPath(Path):
    """Straight lines between observations: continuous, with a derivative that jumps. Gaps are
    filled linearly between the observations on both sides.

    times: (T,), then the path runs in time. Or (batch, T), with its own times for every row: the
        path then runs by the number of the observation, 0 to T - 1. The result of a CDE does not
        depend on the speed along its path. A row may end in NaN if its series has fewer
        observations; there the path is constant.
    values: (batch, T, channels) or (T, channels), float32 or float64, with gradients. NaN marks a
        missing value.
    time: True adds the time as first channel. Without it a CDE sees neither the time nor the
        parametrisation.

    Raises ValueError for fewer than two observations, times that do not increase, and channels
    without any observation.
    """

    def __init__(self, times: Times, values: torch.Tensor, *, time: bool = True) -> None:
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
    """Cubic pieces between observations. The slope at an observation is that of the chord from the
    observation before. The path is once continuously differentiable. Up to observation i it does
    not depend on later ones, except in gaps, which are filled linearly from both sides.

    With slopes m at the ends of a piece of width h and d = m_1 - m_0, where m_1 is the slope of the
    chord: X = x_0 + m_0 s + 2 d/h s^2 - d/h^2 s^3. times, values, time, errors: as for LinearPath.
    If a series ends before others, its slope jumps to zero there: the derivative then counts as
    jumping at every knot.
    """

    def __init__(self, times: Times, values: torch.Tensor, *, time: bool = True) -> None:
        data, x = _filled(times, values, time)
        knots = _parameter(data)
        width = knots.diff().to(x).view(-1, 1)
        chord = x.diff(dim=1) / width
        start = torch.cat((chord[:, :1], chord[:, :-1]), 1)
        # The path is constant where its series has ended.
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
    """First the time advances while the values are constant, then the values change. This path is
    causal: use it for predictions while data arrive.

    It runs from 0 to 2 (T - 1). Observation i is at 2 i (``observed``), and nothing of it is
    visible before. In gaps a channel keeps its last value; before its first value it is 0. times,
    values, errors: as for LinearPath. The time is always a channel.
    """

    def __init__(self, times: Times, values: torch.Tensor) -> None:
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
    """The input that keeps each value until the next one, and the last value for ever: the output
    of a digital controller.

    times: (T,), the start of each value. If they require gradients (switching times), they get
        them.
    values: as for LinearPath. A NaN means that a channel keeps its value.

    It cannot drive a CDE, which needs a derivative.
    """

    def __init__(self, times: Times, values: torch.Tensor) -> None:
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
    """(observations, their values (rows, T, channels) without gaps, with the time as first channel
    if ``time``)."""
    data = Observations(times, values)
    x = data.interpolated()
    if time:
        x = data.with_time(x)
    return data, x


def _parameter(data):
    """The knots of the path: the times if all rows have the same ones, otherwise the numbers of the
    observations."""
    if data.shared:
        return data.times[0]
    return torch.arange(data.times.shape[1], dtype=torch.float64, device=data.times.device)
