"""The continuous normalizing flow. Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018, eq. (8);
with Hutchinson's estimator of the trace, Grathwohl, Chen, Bettencourt, Sutskever & Duvenaud
(FFJORD), ICLR 2019, eq. (8)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.distributions import Distribution, Independent, Normal

from ..core.protocols import Times
from .integrands import NOISES
from .neural_ode import NeuralODE


class CNF(NeuralODE):
    """The density of x = z(t_1), where dz/dt = field(t, z) and z(t_0) has the density base.

    Along a solution d log p(z(t))/dt = -tr(d field/dz). Therefore log p(x) = log base(z(t_0)) -
    integral of the trace over (t_0, t_1), where z is solved backwards from x. ``model(z)`` maps
    z(t_0) to x, and ``inverse`` maps it back.

    field: nn.Module with forward(t, z), or forward(z), for z (..., dim). Rows are independent (no
        batch normalisation).
    dim: the dimension of x.
    t: (t_0, t_1).
    trace: 'exact' takes dim vector-Jacobian products an evaluation, 'hutchinson' one. The latter is
        e . (d field/dz)^T e, whose mean is the trace if e has mean 0 and covariance 1. Each row has
        one e, drawn anew for every solve and fixed during the solve.
    noise: the distribution of e: 'rademacher' (1 or -1) or 'gaussian'.
    base: a torch.distributions.Distribution with event_shape (dim,), in the dtype and on the device
        of the data. None: the standard normal.
    regularisers, options: as for NeuralODE. Every point is a row. log_prob also stores the
        penalties.

    ``stats`` holds the counts of the last solve. Raises SolveError if a solve fails, ValueError for
    densities of another shape.
    """

    def __init__(
        self,
        field: torch.nn.Module,
        dim: int,
        t: Times = (0.0, 1.0),
        *,
        trace: Literal["exact", "hutchinson"] = "exact",
        noise: Literal["rademacher", "gaussian"] = "rademacher",
        base: Distribution | None = None,
        **options: Any,
    ) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ValueError(
                f"dim must be the dimension of the data, an integer of at least 1, not {dim!r}"
            )
        if trace not in TRACES:
            raise ValueError(f"trace must be one of {', '.join(TRACES)}, not {trace!r}")
        if noise not in NOISES:
            raise ValueError(f"noise must be one of {', '.join(NOISES)}, not {noise!r}")
        if base is not None and not isinstance(base, Distribution):
            raise TypeError(
                f"base must be a torch.distributions.Distribution, not {type(base).__name__}"
            )
        if base is not None and base.event_shape != (dim,):
            raise ValueError(
                f"base has event_shape {tuple(base.event_shape)} where the data have {(dim,)}; wrap"
                " a density by component in torch.distributions.Independent(base, 1)"
            )
        if base is not None and base.batch_shape:
            raise ValueError(
                f"base is {tuple(base.batch_shape)} densities, but CNF needs one: give it"
                f" parameters of shape {(dim,)}"
            )
        super().__init__(field, t, **options)
        if self.t.shape != (2,):
            raise ValueError(
                f"t must be (t_0, t_1), the times of base and data, not {self.t.numel()} times"
            )
        self.dim = dim
        self.trace = trace
        self.noise = noise
        self.base = base

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x), (...,), of x (..., dim); with trace='hutchinson' an unbiased estimate."""
        self._check(x)
        z, change = self._integrated(
            x, self._backwards, (TRACES[self.trace],), x.dim() - 1, self.noise
        )
        return self._base(x).log_prob(z[-1]) + change[-1]

    def sample(self, n: int) -> torch.Tensor:
        """n draws of x, (n, dim), differentiable with respect to the parameters of the field."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(
                f"n must be how many points are drawn, an integer of at least 1, not {n!r}"
            )
        like = next((p for p in self.field.parameters() if p.is_floating_point()), torch.empty(()))
        return self._solved(self._timed, self._base(like).sample((n,)), self.t)[-1]

    def forward(self, z: torch.Tensor, t: Times | None = None) -> torch.Tensor:  # type: ignore[override]
        """x of z (..., dim). With times t it returns the path from z(t[0]), (T, ..., dim), unless
        last_only."""
        self._check(z)
        return super().forward(z, t)

    def inverse(self, x: torch.Tensor) -> torch.Tensor:
        """z(t_0) of x = z(t_1), (..., dim): the inverse map, up to the tolerances."""
        self._check(x)
        return self._solved(self._timed, x, self._backwards)[-1]

    def extra_repr(self) -> str:
        if self.trace == "hutchinson":
            noise = f", noise={self.noise}"
        else:
            noise = ""
        return f"dim={self.dim}, trace={self.trace}{noise}, {super().extra_repr()}"

    @property
    def _backwards(self):
        """(t_1, t_0), as a list: torch.func's transforms would treat a reversed tensor as
        differentiated."""
        return self.t.tolist()[::-1]

    def _base(self, like):
        if self.base is not None:
            return self.base
        return Independent(Normal(like.new_zeros(self.dim), like.new_ones(self.dim)), 1)

    def _check(self, x):
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"points must be a tensor, (..., {self.dim}), not {type(x).__name__}")
        if x.dim() < 1 or x.shape[-1] != self.dim:
            raise ValueError(
                f"a density in {self.dim} dimensions takes points of shape (..., {self.dim}), not"
                f" {tuple(x.shape)}; the last dimension holds the components of a point"
            )


class _Trace:
    """The integrand tr(d field/dz), exact, or its estimate."""

    def __init__(self, trace: str) -> None:
        self.needs: Literal["rows", "probe"] = "rows" if trace == "exact" else "probe"

    def __call__(self, local: Any) -> torch.Tensor:
        if self.needs == "probe":
            return (local.probe * local.e).sum(-1)
        return sum(row[..., i] for i, row in enumerate(local.rows))


TRACES = {trace: _Trace(trace) for trace in ("exact", "hutchinson")}
