"""States that satisfy what holds at every time: equilibria and algebraic equations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...integrate import solve
from .records import FAST

if TYPE_CHECKING:
    from .model import ReactionModel

_ITERATIONS = 50


def equilibrium(model: ReactionModel, t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    """The state, (n,), to which the fast reactions take y (n,) without the other ones. The time
    stands still."""

    def fast(s: Tensor, y: Tensor, t: Tensor, p: Tensor) -> Tensor:
        return model.fast_derivatives(t, y, p)

    solution = solve(
        fast,
        y,
        (0.0, float(FAST)),
        args=(t, p),
        method="rodas5p",
        rtol=1e-9,
        atol=1e-12,
        backend="torch",
    )
    return solution.y[-1]


def consistent(model: ReactionModel, t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    """The state, (n,), whose algebraic components satisfy their equations; the others stay.

    Newton's iteration, halved where the equations get worse. Differentiable in t, y and p by the
    implicit function theorem. Raise ValueError where it does not converge.
    """
    states = model.network.states.values()
    found = [i for i, state in enumerate(states) if state.algebraic]
    places = torch.tensor(found, device=y.device)

    def residual(z: Tensor, t: Tensor, y: Tensor, p: Tensor) -> Tensor:
        return model(t, y.index_copy(0, places, z), p)[places]

    def slope(z: Tensor) -> Tensor:
        fixed = (t.detach(), y.detach(), p.detach())
        return torch.func.jacfwd(lambda z: residual(z, *fixed))(z)

    with torch.no_grad():
        z = y.detach()[places]
        # A guess that the file does not give.
        z = torch.where(z.isnan(), torch.ones_like(z), z)
        z = _newton(lambda z: residual(z, t, y, p), slope, z, model)
        inverse = torch.linalg.inv(slope(z))
    if torch.is_grad_enabled():
        z = z - inverse @ residual(z, t, y, p)
    return y.index_copy(0, places, z)


def _newton(residual, slope, z, model):
    value = residual(z)
    for _ in range(_ITERATIONS):
        step = torch.linalg.solve(slope(z), value)
        factor = 1.0
        while factor > 1e-6:
            new = residual(z - factor * step)
            if new.isfinite().all() and new.norm() <= value.norm():
                break
            factor = factor / 2
        z = z - factor * step
        value = new
        if step.norm() * factor <= 1e-12 * (1e-3 + z.norm()):
            return z
    names = [name for name, state in model.network.states.items() if state.algebraic]
    raise ValueError(
        f"no values of {', '.join(names)} near the start satisfy the algebraic rules: give initial"
        " values that are closer to a solution"
    )
