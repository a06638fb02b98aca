"""Levenberg-Marquardt: the errors of all observations made small together, by their full Jacobian.

Adam sees one gradient; with a few hundred observations and weights, the derivative of every error
in every weight is affordable, because the forward sensitivities carry all of them along one solve.
The valleys of a stiff loss are long and narrow, and a step that knows their curvature goes along
them. Marquardt, SIAM J. Appl. Math. 11 (1963); the damping is relative to the mean curvature.
"""

from __future__ import annotations

import math

import torch
from torch.nn.utils import parameters_to_vector

from ..core.status import SolveError

# The damping at the start, its factors after a success and a failure, and its bounds.
START = 1e-2
DOWN = 1 / 3
UP = 4.0
LEAST = 1e-12
MOST = 1e8


class LevenbergMarquardt:
    """Steps that lower |r|^2 of the residuals r of some parameters, or leave them as they are.

        lm = LevenbergMarquardt(module.parameters())
        while lm.step(residuals): ...

    damping: the factor of the mean curvature that is added to the curvature; it falls with success.
    cost: |r|^2 after the last step.
    """

    def __init__(self, parameters, damping: float = START):
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError("LevenbergMarquardt needs parameters that require gradients")
        self.damping = damping
        self.cost = math.inf

    def step(self, residuals, tried=None) -> bool:
        """One step. residuals(): (m,) at the present parameters, with a graph where gradients are
        enabled; None or a SolveError where they cannot be had. False where no damping lowers |r|^2:
        it is at a minimum, or stuck. tried(): called after each attempt."""
        r = _or_none(residuals)
        if r is None:
            return False
        rows = [
            torch.autograd.grad(value, self.parameters, retain_graph=True, materialize_grads=True)
            for value in r
        ]
        jacobian = torch.stack([parameters_to_vector(row) for row in rows])
        r = r.detach()
        self.cost, start = float(r @ r), parameters_to_vector(self.parameters).detach().clone()
        if not (
            math.isfinite(self.cost)
            and bool(torch.isfinite(jacobian).all())
            and bool(jacobian.any())
        ):
            return False
        wide = jacobian.shape[0] <= jacobian.shape[1]
        if wide:
            curvature = jacobian @ jacobian.T
        else:
            curvature = jacobian.T @ jacobian
        unit = torch.eye(len(curvature)).to(curvature) * curvature.diagonal().mean()
        if wide:
            right = r
        else:
            right = jacobian.T @ r
        while self.damping <= MOST:
            # Not by lstsq, whose last bits change from call to call: a resumed run would be another
            # one.
            solved = torch.linalg.solve_ex(curvature + self.damping * unit, right).result
            if wide:
                move = -(jacobian.T @ solved)
            else:
                move = -solved
            self._set(start + move)
            with torch.no_grad():
                if bool(torch.isfinite(move).all()):
                    new = _or_none(residuals)
                else:
                    new = None
            if tried:
                tried()
            if new is not None and float(new @ new) < self.cost:
                self.cost = float(new @ new)
                self.damping = max(self.damping * DOWN, LEAST)
                return True
            self.damping *= UP
        self._set(start)
        self.damping = START  # for residuals that have changed since
        return False

    def _set(self, vector):
        # In place: views of the vector would lie elsewhere in memory, where sums may round
        # differently.
        with torch.no_grad():
            for p, part in zip(
                self.parameters, vector.split([p.numel() for p in self.parameters]), strict=True
            ):
                p.copy_(part.view_as(p))


def _or_none(residuals):
    try:
        return residuals()
    except SolveError:
        return None
