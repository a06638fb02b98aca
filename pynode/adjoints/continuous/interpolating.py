"""InterpolatingAdjoint: states from the dense output, parameters integrated along with lambda."""

from __future__ import annotations

import torch

from ...core.cotangents import zero_grads
from .augmented_field import AugmentedField
from .base import prepare, reverse_segment
from .forward_states import States
from .gauss import GaussAdjoint


class InterpolatingAdjoint(GaussAdjoint):
    """Solves the adjoint equation backward. The parameters' cotangents are states of this solve,
    with error control.

    seminorm: leave them out of the error norm. With an implicit reverse solver, whose Jacobian they
    would make one of (n + p)^2 entries, they are integrated by quadrature on its steps, as
    GaussAdjoint does.
    """

    name = "InterpolatingAdjoint"

    def __init__(self, method=None, rtol=None, atol=None, seminorm=False):
        super().__init__(method, rtol, atol)
        self.seminorm = bool(seminorm)

    def solve_back(self, field, method, trajectory, times, grads, options):
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
