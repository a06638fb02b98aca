"""Vector fields of mechanics, learned through one scalar: Hamilton's energy, or the Lagrangian.

Both compute their derivatives by transforms of torch.func, because integrators run in inference
mode and gradients evaluate many points under vmap. Use smooth activations (tanh, softplus):
gradients need second derivatives of the scalar, and implicit methods third ones.
"""

from __future__ import annotations

import torch
from torch import nn

from .base import as_field


class HamiltonianField(nn.Module):
    """dq/dt = dH/dp, dp/dt = -dH/dq - D(q) dH/dp + force(t, q), for y = (q, p).

    Greydanus, Dzamba & Yosinski, Hamiltonian Neural Networks, NeurIPS 2019, without damping and
    force. In that case the exact solution conserves H for every network, and the solver conserves
    it up to its tolerances.

    hamiltonian: nn.Module, y (..., 2 d) -> H (...,) or (..., 1); rows are independent. The momenta
        p of the data must be the canonical ones. If velocities were observed instead, learn a
        LagrangianField.
    damping: nn.Module, q (..., d) -> L (..., d, d). D = L L^T, so that friction never adds energy
        (port-Hamiltonian form of Zhong, Dey & Chakraborty, 2020). None: no damping.
    force: nn.Module, (t, q) -> (..., d), the external force. None: no force.
    """

    def __init__(
        self,
        hamiltonian: nn.Module,
        damping: nn.Module | None = None,
        force: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.hamiltonian = as_field(hamiltonian, "hamiltonian")
        if damping is None:
            self.damping = None
        else:
            self.damping = as_field(damping, "damping")
        if force is None:
            self.force = None
        else:
            self.force = as_field(force, "force")

    def energy(self, y: torch.Tensor) -> torch.Tensor:
        """H, (...,), of y (..., 2 d)."""
        return _scalar(self.hamiltonian(y), y, "hamiltonian")

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, (..., 2 d), at y (..., 2 d)."""
        q, _ = _halves(y)
        by_q, by_p = torch.func.grad(lambda y: self.energy(y).sum())(y).chunk(2, -1)
        push = -by_q
        if self.damping is not None:
            factor = self.damping(q)
            push = push - (factor @ (factor.mT @ by_p.unsqueeze(-1))).squeeze(-1)
        if self.force is not None:
            push = push + self.force(t, q)
        return torch.cat((by_p, push), -1)


class LagrangianField(nn.Module):
    """dq/dt = v, and dv/dt of the Euler-Lagrange equation, for y = (q, v).

    d/dt dL/dv = dL/dq + force gives (d2L/dv2) dv/dt = dL/dq + force - (d2L/dq dv) v, a d x d system
    in each row. Cranmer, Greydanus, Hoyer, Battaglia, Spergel & Ho, Lagrangian Neural Networks,
    2020. Takes observed coordinates and velocities as they are; the exact solution without force
    keeps v . dL/dv - L.

    lagrangian: nn.Module, (q, v), each (..., d) -> L (...,) or (..., 1), rows by themselves. L
        times a number has the same solutions. Where d2L/dv2 is singular the field is not finite,
        and the solver says so: a network added to |v|^2 / 2 starts far from that.
    force: nn.Module, (t, q, v) -> (..., d), the generalised force; None: none.
    """

    def __init__(self, lagrangian: nn.Module, force: nn.Module | None = None) -> None:
        super().__init__()
        self.lagrangian = as_field(lagrangian, "lagrangian")
        if force is None:
            self.force = None
        else:
            self.force = as_field(force, "force")

    def energy(self, y: torch.Tensor) -> torch.Tensor:
        """v . dL/dv - L, (...,), of y (..., 2 d)."""
        q, v = _halves(y)
        momentum = torch.func.grad(lambda v: self._value(q, v).sum())(v)
        return (v * momentum).sum(-1) - self._value(q, v)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, (..., 2 d), at y (..., 2 d)."""
        q, v = _halves(y)
        slopes = torch.func.grad(lambda q, v: self._value(q, v).sum(), argnums=(0, 1))
        slope, pull, *_ = torch.func.vjp(slopes, q, v)
        by_q = slope[0]
        unit = torch.eye(q.shape[-1], dtype=y.dtype, device=y.device)
        rows = [pull((torch.zeros_like(q), row.expand_as(v))) for row in unit]
        mixed, mass = (torch.stack(parts, -2) for parts in zip(*rows, strict=True))
        force = by_q - (mixed @ v.unsqueeze(-1)).squeeze(-1)
        if self.force is not None:
            force = force + self.force(t, q, v)
        # solve_ex does not check for singular matrices, which would synchronise. The solver
        # reports values that are not finite.
        return torch.cat((v, torch.linalg.solve_ex(mass, force.unsqueeze(-1))[0].squeeze(-1)), -1)

    def _value(self, q, v):
        return _scalar(self.lagrangian(q, v), q, "lagrangian")


def _halves(y):
    """Coordinates, and momenta or velocities, each (..., d)."""
    if y.dim() < 1 or y.shape[-1] % 2:
        raise ValueError(
            "the last dimension of y holds d coordinates and d momenta or velocities, an even"
            f" number, not shape {tuple(y.shape)}"
        )
    return y.chunk(2, -1)


def _scalar(value, y, name):
    """(...,) for y (..., d)."""
    if value.shape == (*y.shape[:-1], 1):
        value = value.squeeze(-1)
    if value.shape != y.shape[:-1]:
        raise ValueError(
            f"the {name} returned shape {tuple(value.shape)} for points of shape {tuple(y.shape)};"
            " return one number a point"
        )
    return value
