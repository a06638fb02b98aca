"""Prediction bands: how far the parameters' uncertainty moves the curves of a model."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.status import SolveError
from .fisher import box, reach
from .protocol import Predictions, estimated
from .result import Estimate

# What other tables call the columns of Predictions.
ALIASES = {
    "experiment": "condition",
    "simulationConditionId": "condition",
    "observableId": "observable",
    "measurement": "measured",
    "simulation": "simulated",
}


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
    width = reach(level, found.freedom) * variance.sqrt()
    low = centre - width
    high = centre + width
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
    """A table of predictions as Predictions: it may be a pandas.DataFrame with these columns or
    those of PEtab's simulation tables, or a list with a dictionary for each line. noise and
    logarithmic may be missing. Raises KeyError for another missing column."""
    if isinstance(table, Predictions):
        return table
    if isinstance(table, list):
        lines = table
        table = {name: [line[name] for line in lines] for name in lines[0]}
    named = {ALIASES.get(name, name): table[name] for name in table}
    columns: dict[str, Any] = {}
    for name in ("observable", "condition"):
        columns[name] = [str(x) for x in named[name]]
    count = len(columns["observable"])
    named.setdefault("noise", [math.nan] * count)
    named.setdefault("logarithmic", [False] * count)
    for name in ("time", "measured", "simulated", "noise"):
        columns[name] = torch.tensor([float(x) for x in named[name]], dtype=torch.float64)
    columns["logarithmic"] = torch.tensor([bool(x) for x in named["logarithmic"]])
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
