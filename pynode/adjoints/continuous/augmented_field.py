"""The adjoint equation with further states: the parameters' cotangents and, if needed, the states
y."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.cotangents import none_to_zeros
from ...core.norm import GroupTolerance
from ..field_products import magnitudes, pull_back
from .adjoint_field import AdjointField

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from .forward_states import States


class AugmentedField(AdjointField):
    """z = ([y,] lambda, mu) in the time s of an AdjointField, with d mu/ds = (df/dp)^T M^-T lambda,
    mu (p,).

    One evaluation of f and one vector-Jacobian product give all of it. It suits explicit methods:
    the Jacobian of z would have (n + p)^2 entries. states: of the forward solve. None makes y a
    part of z, solved backward with it.
    """

    def __init__(self, field: VectorField, states: States | None, direction: float) -> None:
        super().__init__(field, states, direction)
        self.whole = field
        self.targets = field.parameters
        self.with_states = states is None
        n = self.inner.size
        self.groups = [n] * (1 + self.with_states) + [p.numel() for p in self.targets if p.numel()]
        self.size = sum(self.groups)

    def __call__(self, s: float, z: Tensor) -> Tensor:
        """dz/ds."""
        self.stats.nfe += 1
        field = self.inner
        t = self.time(s)
        n = self.inner.size
        lead = []
        with torch.inference_mode(False), torch.enable_grad():
            y = (z[:n].clone() if self.with_states else self.state(s)).detach().requires_grad_()
            out = field.eval(torch.full((), t, dtype=self.dtype, device=self.device), y)
            lam = self.multiplier(z[n : 2 * n] if self.with_states else z[:n])
            inputs = [y, *self.targets]
            by_y, by_parameters = pull_back(self.whole, out, (y,), lam)
            pulled = [*by_y, *by_parameters]
        if self.with_states:
            if field.mass is None:
                rate = out.detach()
            else:
                rate = field.mass.pinv_apply(out.detach())
            lead.append(-self.direction * rate)
        rates = none_to_zeros(pulled, inputs)
        return torch.cat(lead + [self.direction * rate.reshape(-1) for rate in rates])

    def join(self, *parts: Any) -> Tensor:
        """z from its parts, (n,) each. The last part is mu, the list of the parameters'
        cotangents."""
        return torch.cat([*parts[:-1], *(p.reshape(-1) for p in parts[-1])])

    def parameters_of(self, z: Tensor) -> list[Tensor]:
        """mu as a list, one for each parameter."""
        parts = z[self.inner.size * (1 + self.with_states) :].split(
            [p.numel() for p in self.targets]
        )
        return [part.view_as(p) for part, p in zip(parts, self.targets, strict=True)]

    def tolerance(
        self, rtol: float, sizes: Tensor, loss: float, seminorm: bool, atol: float | None
    ) -> GroupTolerance:
        """The norm of z: the largest of the root mean squares of its groups.

        sizes: atol of lambda, (n,), or of (y, lambda), (2n,). loss: the size of the loss; a
        parameter's cotangent is the change of the loss for a relative change of order one.
        seminorm: leave out the parameters; Kidger, Chen & Lyons, "Hey, that's not an ODE": faster
        ODE adjoints via seminorms (2021). atol: of the parameters' cotangents, if the user gave
        one.
        """
        count = 1 + self.with_states
        weights = torch.cat(
            [sizes]
            + [
                rtol * loss / size.reshape(-1)
                if atol is None
                else torch.full_like(size, atol).reshape(-1)
                for size in magnitudes(self.targets)
            ]
        )
        return GroupTolerance(rtol, weights, self.groups[:count] if seminorm else self.groups)
