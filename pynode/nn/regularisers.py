"""Integrals along the solution that make a learned flow cheap to solve, if training keeps them
small.

    model = NeuralODE(field, regularisers=[KineticEnergy(0.01), JacobianNorm(0.01)])
    loss = criterion(model(x), target) + model.penalty

A regulariser is solved together with the state, only in training mode. Evaluation costs the same as
without it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from .integrands import PointEval, pushed

ESTIMATES = ("hutchinson", "exact")


@dataclass(frozen=True)
class Regulariser(ABC):
    """The integral over (t_0, t_1) of a quantity that is never negative, for every row. weight: of
    its mean in ``penalty``."""

    weight: float = 1.0

    @property
    def needs(self) -> Literal["slope", "probe", "rows"]:
        """What it uses of a PointEval."""
        return "slope"

    def __post_init__(self) -> None:
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float)):
            raise TypeError(f"weight must be a number, not {type(self.weight).__name__}")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(
                f"weight must be finite and not negative, not {self.weight!r}; 0.01 is a good start"
            )

    @property
    def name(self) -> str:
        """Its name in ``penalties``."""
        return type(self).__name__

    @abstractmethod
    def __call__(self, local: PointEval) -> torch.Tensor:
        """The integrand at a point (integrands.PointEval), one value a row."""


@dataclass(frozen=True)
class KineticEnergy(Regulariser):
    """Integral of |f|^2: paths become short and straight. Finlay, Jacobsen, Nurbekyan & Oberman
    (RNODE), ICML 2020.

    Costs no evaluation of the field.
    """

    def __call__(self, local: PointEval) -> torch.Tensor:
        return local.over_row(local.slope.square())


@dataclass(frozen=True)
class JacobianNorm(Regulariser):
    """Integral of the squared Frobenius norm of df/dy. Finlay et al. (RNODE), ICML 2020.

    estimate: 'hutchinson' is |e^T df/dy|^2, with one noise e for each row and solve. It is unbiased
        and takes one vector-Jacobian product an evaluation, which a CNF with trace='hutchinson'
        computes in any case. 'exact' takes as many products as a row has components.
    """

    estimate: str = "hutchinson"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimate not in ESTIMATES:
            raise ValueError(
                f"estimate must be one of {', '.join(ESTIMATES)}, not {self.estimate!r}"
            )

    @property
    def needs(self) -> Literal["slope", "probe", "rows"]:
        if self.estimate == "hutchinson":
            return "probe"
        return "rows"

    def __call__(self, local: PointEval) -> torch.Tensor:
        if self.estimate == "hutchinson":
            return local.over_row(local.probe.square())
        return torch.stack([local.over_row(row.square()) for row in local.rows]).sum(0)


@dataclass(frozen=True)
class HigherDerivative(Regulariser):
    """Integral of |d^order y/dt^order|^2 along the solution. Kelly, Bettencourt, Johnson &
    Duvenaud, NeurIPS 2020.

    order: at least 2.

    The local error of a method of order p is a multiple of h^(p + 1) d^(p+1) y/dt^(p+1). order = p
    + 1 therefore stands for the error estimates whose sum Pal, Ma, Shah & Rackauckas (ICML 2021)
    keep small. The discrete adjoint does not differentiate these estimates, but it differentiates
    this integrand. Costs about 4^(order - 1) evaluations for each evaluation.
    """

    order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.order, bool) or not isinstance(self.order, int) or self.order < 2:
            raise ValueError(
                f"order must be an integer of at least 2, not {self.order!r}; the first is"
                " KineticEnergy"
            )

    @property
    def name(self) -> str:
        return f"HigherDerivative{self.order}"

    def __call__(self, local: PointEval) -> torch.Tensor:
        def derivative(order: int, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            if order == 1:
                return local.field(t, y)
            along = torch.ones_like(t), local.field(t, y)
            return pushed(lambda t, y: derivative(order - 1, t, y), (t, y), along)[1]

        return local.over_row(derivative(self.order, local.t, local.y).square())


@dataclass(frozen=True)
class Stiffness(Regulariser):
    """Integral of |(df/dy) f| / |f|, in 1/time: how fast the field changes along the solution.

    It is the limit, for close stages, of the stiffness estimate |f(u) - f(v)| / |u - v| that Pal,
    Ma, Shah & Rackauckas (ICML 2021) keep small. It is differentiable; the stages of a solve are
    not. Costs three evaluations for each evaluation.
    """

    def __call__(self, local: PointEval) -> torch.Tensor:
        change = pushed(lambda y: local.field(local.t, y), (local.y,), (local.slope,))[1]
        # The ratio has no derivative where the field is zero: tiny bounds it there.
        tiny = torch.finfo(change.dtype).eps ** 2
        size = local.over_row(local.slope.square()) + tiny
        return ((local.over_row(change.square()) + tiny) / size).sqrt()


def as_regularisers(given: Regulariser | Iterable[Regulariser]) -> tuple[Regulariser, ...]:
    """A tuple of one or several regularisers. Raises TypeError for anything else."""
    if isinstance(given, Regulariser):
        regularisers: tuple[Regulariser, ...] = (given,)
    else:
        regularisers = tuple(given)
    for item in regularisers:
        if not isinstance(item, Regulariser):
            raise TypeError(
                "regularisers must be KineticEnergy, JacobianNorm, HigherDerivative or Stiffness"
                " objects, not"
                f" {item.__name__ + ' itself' if isinstance(item, type) else type(item).__name__}"
            )
    names = [item.name for item in regularisers]
    if len(set(names)) < len(names):
        raise ValueError(
            f"each regulariser is possible once, not {', '.join(names)}; add up their weights"
        )
    return regularisers
