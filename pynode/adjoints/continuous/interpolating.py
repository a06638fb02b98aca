"""InterpolatingAdjoint: takes the states from the dense output and integrates the parameters with
lambda."""

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

    With an implicit reverse solver they would make a Jacobian of (n + p)^2 entries. In this case
    quadrature on its steps integrates them, as in GaussAdjoint.

    method: the reverse solver.
    rtol, atol: of the reverse solve.
    seminorm: leave the parameters' cotangents out of the error norm.
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
        output_jumps, reverse_options, atol, loss = prepare(self, trajectory, times, grads, options)
        mu = zero_grads(field.parameters)
        lam = torch.zeros_like(trajectory.y0)
        last_time = None
        tol = equation.tolerance(reverse_options.rtol, atol, loss, self.seminorm, self.atol)
        for t, jump in [*output_jumps, (trajectory.t0, None)]:
            if last_time is not None and t != last_time:
                z = reverse_segment(
                    self.name,
                    equation,
                    solver,
                    equation.join(lam, mu),
                    last_time,
                    t,
                    reverse_options,
                    tol.atol,
                    tol=tol,
                ).y
                lam = z[: field.size]
                mu = equation.parameters_of(z)
            last_time = t
            if jump is not None:
                lam = lam + jump
        equation.count(field.stats)
        return lam, mu
