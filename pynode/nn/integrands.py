"""Integrals along a solution, solved together with it: d/dt (y, l) = (field(t, y), g(t, y))."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Literal, Protocol

import torch

NOISES = ("rademacher", "gaussian")


class Integrand(Protocol):
    """A function g of a PointEval, with one value a row. needs: what it uses of the PointEval."""

    @property
    def needs(self) -> Literal["slope", "probe", "rows"]: ...

    def __call__(self, local: PointEval) -> torch.Tensor: ...


class AugmentedField(torch.nn.Module):
    """d/dt (y, l_1, ..., l_k) = (field(t, y), g_1, ..., g_k), for the integrals l of integrands g,
    one value a row.

    lead: how many dimensions of y number independent rows.
    integrands: Integrands. g has the shape of these first dimensions of y.

    The state is a tuple (y, l_1, ..., l_k). e is noise in the shape of y, or None if no integrand
    needs 'probe'.
    """

    def __init__(self, field: torch.nn.Module, lead: int, *integrands: Integrand) -> None:
        super().__init__()
        self.field = field
        self.integrands = integrands
        self.lead = lead
        self.linear = any(g.needs != "slope" for g in self.integrands)

    @property
    def pynode_lasting(self) -> torch.nn.Module:
        return self.field  # see Autonomous

    def forward(
        self, t: torch.Tensor, state: tuple[torch.Tensor, ...], e: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        local = PointEval(self.field, t, state[0], e, self.lead, self.linear)
        if local.slope.shape != local.y.shape:
            raise ValueError(
                f"the field returned shape {tuple(local.slope.shape)} for points of shape"
                f" {tuple(local.y.shape)}; dy/dt must have the shape of y"
            )
        return local.slope, *[g(local) for g in self.integrands]


class PointEval:
    """A field at one point: its slope, and products with its Jacobian J = d field/dy, each computed
    once.

    Uses transforms of torch.func, because integrators run in inference mode and gradients evaluate
    many points under vmap.
    """

    def __init__(
        self,
        field: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        t: torch.Tensor,
        y: torch.Tensor,
        e: torch.Tensor | None,
        lead: int,
        linear: bool,
    ) -> None:
        self.field = field
        self.t = t
        self.y = y
        self.e = e
        self.lead = lead
        if linear:
            self.slope, self._pull = _vjp(lambda y: field(t, y), y)
        else:
            self.slope = field(t, y)

    @cached_property
    def probe(self) -> torch.Tensor:
        """e^T J of every row, in the shape of y."""
        return self._pull(self.e)[0]

    @cached_property
    def rows(self) -> list[torch.Tensor]:
        """The rows of the Jacobian for every row of y: a list with one tensor, in the shape of y,
        for each component of a row."""
        sample = self.y.shape[self.lead :]
        unit = torch.eye(math.prod(sample), dtype=self.y.dtype, device=self.y.device)
        return [self._pull(row.reshape(sample).expand_as(self.y))[0] for row in unit]

    def over_row(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of x, of the shape of y, over the components of each row."""
        return x.reshape(*x.shape[: self.lead], -1).sum(-1)


def pushed(
    f: Callable[..., torch.Tensor], point: tuple[torch.Tensor, ...], along: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """f(*point), and its derivative along these tangents, by two vector-Jacobian products. This
    takes half the time of torch.func.jvp."""
    out, pull = _vjp(f, *point)
    return out, _vjp(pull, torch.zeros_like(out))[1](along)[0]


def _vjp(f, *point):
    """torch.func.vjp without auxiliary data, whose annotation leaves open how many parts it
    returns."""
    return torch.func.vjp(f, *point)


def draw(like: torch.Tensor, noise: str) -> torch.Tensor:
    """Noise of mean 0 and covariance 1, in the shape of like: 'rademacher' (1 or -1) or
    'gaussian'."""
    e = torch.randn_like(like, requires_grad=False)
    if noise == "rademacher":
        return torch.where(e < 0, -1.0, 1.0).to(like)
    return e
