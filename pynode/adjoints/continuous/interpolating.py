"""InterpolatingAdjoint: states from the dense output, parameters integrated along with lambda."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.cotangents import zero_grads
from .augmented_field import AugmentedField
from .base import prepare, reverse_segment
from .forward_states import States
from .gauss import GaussAdjoint

if TYPE_CHECKING:
    from ...core.options import Options
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Method


class InterpolatingAdjoint(GaussAdjoint):
    """Solves the adjoint equation backward. The parameters' cotangents are states of this solve,
    with error control.

    seminorm: leave them out of the error norm. With an implicit reverse solver, whose Jacobian they
    would make one of (n + p)^2 entries, they are integrated by quadrature on its steps, as
    GaussAdjoint does.
    """

    name = "InterpolatingAdjoint"

    def __init__(
        self,
        method: str | Method | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        seminorm: bool = False,
    ) -> None:
        super().__init__(method, rtol, atol)
        self.seminorm = bool(seminorm)

    def solve_back(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        solver = self.solver(field, method)
        if solver.implicit or not field.parameters:
            return super().solve_back(field, method, trajectory, times, grads, options)
        equation = AugmentedField(field, States(trajectory), trajectory.direction)
        found, chosen, atol, loss = prepare(self, trajectory, times, grads, options)
        mu = zero_grads(field.parameters)
        lam = torch.zeros_like(trajectory.y0)
        at = None
        tol = equation.tolerance(chosen.rtol, atol, loss, self.seminorm, self.atol)
        for t, jump in [*found, (trajectory.t0, None)]:
            if at is not None and t != at:
                z = reverse_segment(
                    self.name,
                    equation,
                    solver,
                    equation.join(lam, mu),
                    at,
                    t,
                    chosen,
                    tol.atol,
                    tol=tol,
                ).y
                lam = z[: field.size]
                mu = equation.parameters_of(z)
            at = t
            if jump is not None:
                lam = lam + jump
        equation.count(field.stats)
        return lam, mu
