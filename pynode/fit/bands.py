"""Prediction bands: how far the parameters' uncertainty moves the curves of a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.status import SolveError
from .fisher import box, quantile
from .protocol import Predictions, estimated
from .result import Estimate


class Bands(NamedTuple):
    """Curves with their bands. curves: simulated values; lower, upper: (m,) the confidence band of
    the curve. The logarithm has the band where errors are relative."""

    curves: Predictions
    lower: Tensor
    upper: Tensor


def bands(found: Estimate, level: float = 0.95) -> Bands:
    """Confidence bands of the curves at the optimum, by propagation of the Fisher information.

    The parameters move by one standard deviation along each of its eigenvectors, to both sides and
    at most by half of the box. The variance of a value is the sum of the squares of half of its
    differences: the delta method with secants. Raises SolveError if the optimum itself cannot be
    simulated.
    """
    curves = _curves(found.problem, found.theta)
    lower, upper = box(estimated(found.problem))
    centre = _transformed(curves)
    variance = torch.zeros_like(centre)
    for step in found.information.steps():
        sides = []
        for sign in (1, -1):
            theta = torch.minimum(torch.maximum(found.theta + sign * step, lower), upper)
            sides.append(_value(found.problem, theta, centre))
        variance += (0.5 * (sides[0] - sides[1])) ** 2
    reach = quantile(level) * variance.sqrt()
    low = centre - reach
    high = centre + reach
    relative = curves.logarithmic
    return Bands(
        curves,
        torch.where(relative, torch.where(relative, low, 0.0).exp(), low),
        torch.where(relative, torch.where(relative, high, 0.0).exp(), high),
    )


def predictions(found: Estimate) -> Predictions:
    """Measured and simulated values at the optimum. Raises SolveError."""
    return as_predictions(found.problem.predictions(found.theta))


def as_predictions(table: Any) -> Predictions:
    """A table of predictions as Predictions: it may be a pandas.DataFrame with these columns, of
    which noise and logarithmic may be missing."""
    if isinstance(table, Predictions):
        return table
    columns: dict[str, Any] = {}
    for name in ("observable", "condition"):
        columns[name] = [str(x) for x in table[name]]
    for name in ("time", "measured", "simulated"):
        columns[name] = torch.tensor(table[name].to_numpy(dtype=float), dtype=torch.float64)
    count = len(table)
    columns["noise"] = torch.full((count,), torch.nan, dtype=torch.float64)
    if "noise" in table:
        columns["noise"] = torch.tensor(table["noise"].to_numpy(dtype=float), dtype=torch.float64)
    columns["logarithmic"] = torch.zeros(count, dtype=torch.bool)
    if "logarithmic" in table:
        columns["logarithmic"] = torch.tensor(table["logarithmic"].to_numpy(dtype=bool))
    return Predictions(**columns)


def _curves(problem, theta):
    curves = getattr(problem, "curves", problem.predictions)
    return as_predictions(curves(theta))


def _value(problem, theta, otherwise):
    """The transformed curves at theta; ``otherwise`` where they cannot be simulated."""
    try:
        return _transformed(_curves(problem, theta))
    except SolveError:
        return otherwise


def _transformed(table):
    """The values, or their logarithms where errors are relative."""
    positive = torch.where(table.logarithmic, table.simulated, 1.0)
    return torch.where(table.logarithmic, positive.log(), table.simulated)
