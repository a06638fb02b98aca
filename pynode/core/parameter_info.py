"""What is known of a parameter before it is estimated: its name, bounds, scale and prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Scale = Literal["lin", "log", "log10"]
SCALES = ("lin", "log", "log10")
PRIORS = ("normal", "laplace")


@dataclass(frozen=True)
class Prior:
    """A prior density of one parameter, in its scale: with scale 'log' a normal prior is a
    log-normal one of the value.

    kind: 'normal' or 'laplace'. mean: its centre; width: the standard deviation of 'normal', the
    parameter b of 'laplace' in exp(-|x - mean| / b). Both in the scale of the parameter.
    """

    kind: Literal["normal", "laplace"]
    mean: float
    width: float

    def __post_init__(self) -> None:
        if self.kind not in PRIORS:
            raise ValueError(f"unknown prior {self.kind!r}: choose one of {', '.join(PRIORS)}")
        if not 0 < self.width < math.inf:
            raise ValueError(
                f"the width of a prior must be positive, not {self.width!r}: leave out the prior"
                " where nothing is known"
            )

    def minus_log(self, theta: Tensor) -> Tensor:
        """Minus the logarithm of the density at theta, of the same shape."""
        distance = (theta - self.mean) / self.width
        if self.kind == "normal":
            return 0.5 * distance**2 + math.log(self.width * math.sqrt(2 * math.pi))
        return distance.abs() + math.log(2 * self.width)

    @property
    def curvature(self) -> float:
        """The Fisher information of the prior: what it adds to the Gauss-Newton matrix."""
        return 1 / self.width**2


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter of an estimation problem.

    name: as the model names it.
    start: the value that the model has. lower, upper: bounds. All three are in the units of the
        parameter, whatever its scale.
    scale: the optimiser sees the value ('lin'), its natural logarithm ('log') or its decimal one
        ('log10').
    prior: of the value in this scale, or None. A problem with its own priors may show them here
        too, as objects of any kind.
    estimate: False keeps the parameter at its start; it is then no component of theta.
    network: the network whose weight this is. Weights have no meaning one by one.

    Raises ValueError for bounds that do not fit the scale.
    """

    name: str
    start: float
    lower: float
    upper: float
    scale: Scale = "lin"
    prior: Prior | None = None
    estimate: bool = True
    network: str = ""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(
                f"unknown scale {self.scale!r} of {self.name}: choose one of {', '.join(SCALES)}"
            )
        if not self.estimate:
            return
        if not self.lower < self.upper:
            raise ValueError(
                f"the bounds of {self.name} are {self.lower:g} and {self.upper:g}: the lower one"
                " must be less than the upper one"
            )
        if self.scale != "lin" and not self.lower > 0:
            raise ValueError(
                f"the lower bound of {self.name} is {self.lower:g}, but a logarithmic scale needs"
                " positive bounds: raise it, or choose scale 'lin'"
            )


def to_scale(value: float, scale: Scale) -> float:
    """The value in the scale: its logarithm for 'log' and 'log10'."""
    if scale == "lin":
        return value
    if value <= 0:
        return -math.inf
    if scale == "log":
        return math.log(value)
    return math.log10(value)


def from_scale(theta: float, scale: Scale) -> float:
    """The value of a parameter that is theta in this scale."""
    if scale == "lin":
        return theta
    if scale == "log":
        return math.exp(theta)
    return 10.0**theta


class Scales:
    """The scales of k parameters, applied to vectors of all of them at once."""

    def __init__(self, scales: tuple[Scale, ...]) -> None:
        logarithms = {"lin": 0.0, "log": 1.0, "log10": math.log(10)}
        # theta * factor is the natural logarithm of the value.
        self.factor = torch.tensor([logarithms[s] for s in scales], dtype=torch.float64)
        self.linear = self.factor == 0

    def values(self, theta: Tensor) -> Tensor:
        """The values of the parameters, (..., k), at theta, (..., k) in the scales."""
        powers = torch.exp(torch.where(self.linear, 0.0, theta * self.factor))
        return torch.where(self.linear, theta, powers)

    def slopes(self, values: Tensor) -> Tensor:
        """The derivatives of the values in theta, (..., k)."""
        return torch.where(self.linear, 1.0, values * self.factor)
