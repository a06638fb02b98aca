"""Priors of parameters, as torch functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..reactions.refusal import UnsupportedFeature

# Kind -> log density of x without its constant factors, by the numbers of the prior.
_DENSITIES: dict[str, Callable[..., Tensor]] = {
    "uniform": lambda x, low, high: torch.zeros_like(x),
    "normal": lambda x, mean, sd: -0.5 * ((x - mean) / sd) ** 2,
    "laplace": lambda x, mean, width: -torch.abs(x - mean) / width,
    "cauchy": lambda x, mean, width: -torch.log1p(((x - mean) / width) ** 2),
    "chisquare": lambda x, freedom: (freedom / 2 - 1) * torch.log(x) - x / 2,
    "exponential": lambda x, mean: -x / mean,
    "gamma": lambda x, shape, width: (shape - 1) * torch.log(x) - x / width,
    "rayleigh": lambda x, width: torch.log(x) - 0.5 * (x / width) ** 2,
}
_CONSTANTS: dict[str, Callable[..., float]] = {
    "uniform": lambda low, high: -math.log(high - low),
    "normal": lambda mean, sd: -math.log(sd * math.sqrt(2 * math.pi)),
    "laplace": lambda mean, width: -math.log(2 * width),
}
_VERSION1 = {
    "uniform": ("uniform", "value"),
    "normal": ("normal", "value"),
    "laplace": ("laplace", "value"),
    "logNormal": ("normal", "log"),
    "logLaplace": ("laplace", "log"),
    "parameterScaleUniform": ("uniform", "scale"),
    "parameterScaleNormal": ("normal", "scale"),
    "parameterScaleLaplace": ("laplace", "scale"),
}


@dataclass(frozen=True)
class Prior:
    """The prior of one parameter.

    kind, numbers: the distribution. of: what the distribution describes, 'value' (the parameter),
    'log' (the logarithm of the parameter) or 'scale' (the component of theta). With 'log' the
    density is one of the parameter. constant: is added to the logarithm of the density.
    """

    kind: str
    numbers: tuple[float, ...]
    of: str = "value"
    constant: float = 0.0

    @classmethod
    def version1(
        cls, name: str, numbers: tuple[float, ...], scale: str, bounds: tuple[float, float]
    ) -> Prior:
        """A prior of PEtab 1. Priors on the scale of the parameter are densities there; bounds do
        not truncate. So do pyPESTO and AMICI."""
        if name not in _VERSION1:
            raise UnsupportedFeature(
                f"the prior {name!r}", f"these are read: {', '.join(_VERSION1)}"
            )
        kind, of = _VERSION1[name]
        return cls(kind, numbers, of, _CONSTANTS[kind](*numbers))

    @classmethod
    def version2(cls, item: Any) -> Prior:
        """The prior of a parameter of PEtab 2. The bounds truncate it. A parameter without a prior
        is uniform between the bounds. item: a petab.v2.Parameter with estimate=True."""
        name = item.prior_distribution
        if name is None:
            low = float(item.lb)
            high = float(item.ub)
            return cls("uniform", (low, high), "value", -math.log(high - low))
        name = str(getattr(name, "value", name))
        of = "value"
        kind = name
        if name.startswith("log-"):
            of = "log"
            kind = name.removeprefix("log-")
        if kind not in _DENSITIES:
            raise UnsupportedFeature(
                f"the prior {name!r}", f"these are read: {', '.join(_DENSITIES)}"
            )
        bare = cls(kind, tuple(float(x) for x in item.prior_parameters), of)
        distribution = item.prior_dist
        for quantile in (0.5, 0.4, 0.6, 0.3, 0.7):
            # petab knows the constant factor of the truncated density: one value gives it.
            inside = float(distribution.ppf(quantile))
            density = float(np.asarray(distribution.pdf(inside)))
            mine = float(bare.log_density(torch.tensor(inside, dtype=torch.float64), None))
            if density > 0 and math.isfinite(mine):
                return cls(bare.kind, bare.numbers, of, math.log(density) - mine)
        raise ValueError(f"the prior of {item.id!r} has no density between its bounds")

    def log_density(self, value: Tensor, component: Tensor | None) -> Tensor:
        """The logarithm of the density. value: of the parameter; component: of theta."""
        if self.of == "scale":
            if component is None:
                component = value
            return self._of(component)
        if self.of == "log":
            logarithm = torch.log(value)
            return self._of(logarithm) - logarithm
        return self._of(value)

    def _of(self, x):
        return _DENSITIES[self.kind](x, *self.numbers) + self.constant
