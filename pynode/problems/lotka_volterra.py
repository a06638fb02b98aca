"""Predators and prey: two species on a closed orbit."""

from typing import ClassVar

import torch

from pynode.problems.base import Problem
from pynode.problems.bilinear import MassAction

SOURCE = (
    "A. J. Lotka, Elements of Physical Biology, Williams & Wilkins 1925; V. Volterra, Fluctuations"
    " in the abundance of a species considered mathematically, Nature 118, 1926, 558-560; Hairer,"
    " Lubich & Wanner, Geometric Numerical Integration, sec. I.1."
)


class LotkaVolterra(MassAction):
    """dx/dt = alpha x - beta x y,  dy/dt = delta x y - gamma y.

    y: (..., 2) densities of prey x and predator y in arbitrary units; t in arbitrary units; alpha
    and gamma per time, beta and delta per time and density. Conserves delta x - gamma log x + beta
    y - alpha log y. Lotka 1925.
    """

    defaults: ClassVar = {"alpha": 1.5, "beta": 1.0, "gamma": 3.0, "delta": 1.0}
    species: ClassVar = ("prey", "predator")
    reactions: ClassVar = {
        "alpha": "prey -> 2 prey",
        "beta": "prey + predator -> predator",
        "gamma": "predator ->",
        "delta": "prey + predator -> prey + 2 predator",
    }


def lotka_volterra(
    dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Problem:
    """Predators and prey through about three cycles."""
    return Problem(
        name="lotka_volterra",
        field=LotkaVolterra(dtype, device),
        y0=torch.tensor([1.0, 1.0], dtype=dtype, device=device),
        tspan=(0.0, 10.0),
        rtol=1e-6,
        atol=1e-8,
        stiff=False,
        source=SOURCE,
    )
