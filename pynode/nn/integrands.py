"""Integrals along a solution, solved together with it: d/dt (y, l) = (field(t, y), g(t, y))."""

from __future__ import annotations

import math
from functools import cached_property

import torch

NOISES = ("rademacher", "gaussian")


class AugmentedField(torch.nn.Module):
    """d/dt (y, l_1, ..., l_k) = (field(t, y), g_1, ..., g_k), for the integrals l of integrands g,
    one value a row.

    integrands: objects with ``needs``, 'slope', 'probe' or 'rows' (what they use of the PointEval
    that
        they are called with), which return g, of the shape of the first ``lead`` dimensions of y.
        These dimensions are rows that do not know one another.
    The state is a tuple (y, l_1, ..., l_k); e, noise of the shape of y, or None where no integrand
    needs 'probe'.
    """

    def __init__(self, field, integrands, lead):
        super().__init__()
        self.field = field
        self.integrands = tuple(integrands)
        self.lead = lead
        self.linear = any(g.needs != "slope" for g in self.integrands)

    @property
    def pynode_lasting(self):
        return self.field  # see Autonomous

    def forward(self, t, state, e):
        local = PointEval(self.field, t, state[0], e, self.lead, self.linear)
        if local.slope.shape != local.y.shape:
            raise ValueError(
                f"the field returned shape {tuple(local.slope.shape)} for points of shape"
                f" {tuple(local.y.shape)}; dy/dt must have the shape of y"
            )
        return local.slope, *[g(local) for g in self.integrands]


class PointEval:
    """A field at one point: its slope, and products with its Jacobian J = d field/dy, each made
    once.

    By transforms of torch.func, because integrators run in inference mode and gradients take many
    points under vmap.
    """

    def __init__(self, field, t, y, e, lead, linear):
        self.field = field
        self.t = t
        self.y = y
        self.e = e
        self.lead = lead
        if linear:
            self.slope, self._pull = torch.func.vjp(lambda y: field(t, y), y)
        else:
            self.slope = field(t, y)

    @cached_property
    def probe(self):
        """e^T J of every row, in the shape of y."""
        return self._pull(self.e)[0]

    @cached_property
    def rows(self):
        """The rows of the Jacobian of every row of y: as many tensors of the shape of y as a row
        has components."""
        sample = self.y.shape[self.lead :]
        unit = torch.eye(math.prod(sample), dtype=self.y.dtype, device=self.y.device)
        return [self._pull(row.reshape(sample).expand_as(self.y))[0] for row in unit]

    def over_row(self, x):
        """The sum of x, of the shape of y, over the components of each row."""
        return x.reshape(*x.shape[: self.lead], -1).sum(-1)


def pushed(f, at, along):
    """f(*at), and its derivative along these tangents, by two vector-Jacobian products: half the
    time of torch.func.jvp."""
    out, pull = torch.func.vjp(f, *at)
    return out, torch.func.vjp(pull, torch.zeros_like(out))[1](along)[0]


def draw(like, noise):
    """Noise of mean 0 and covariance 1, of the shape of like: 'rademacher' (1 or -1) or
    'gaussian'."""
    e = torch.randn_like(like, requires_grad=False)
    if noise == "rademacher":
        return torch.where(e < 0, -1.0, 1.0).to(like)
    return e
