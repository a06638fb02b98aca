"""Levenberg-Marquardt: makes the errors of all observations small together, with their full
Jacobian.

Adam sees one gradient. With a few hundred observations and weights, the derivative of every error
with respect to every weight is affordable, because forward sensitivities compute all of them in one
solve. The valleys of a stiff loss are long and narrow. A step that knows their curvature goes along
them. Marquardt, SIAM J. Appl. Math. 11 (1963); the damping is relative to the mean curvature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch.nn.utils import parameters_to_vector

from ..core import products
from ..core.status import SolveError

# The damping at the start, its factors after a success and a failure, and its bounds.
START = 1e-2
DOWN = 1 / 3
UP = 4.0
LEAST = 1e-12
MOST = 1e8
ROWS = 256  # residuals that are differentiated in one call

# r, or its parts one after the other. Each part is differentiated by itself. Parts that have
# nothing in common, such as two trajectories, then do not cost each other anything.
Residuals = torch.Tensor | Sequence[torch.Tensor]


class LevenbergMarquardt:
    """Steps that lower |r|^2 of the residuals r of some parameters, or leave the parameters
    unchanged.

        lm = LevenbergMarquardt(module.parameters())
        while lm.step(residuals): ...

    damping: this times the mean curvature is added to the curvature. It falls with success.
    batched: whether torch differentiates many residuals in one call (is_grads_batched of
        torch.autograd.grad) instead of one by one. It is much faster where solves are native, most
        of all with adjoint='forward', and somewhat with the torch engine's adjoint='forward'. Every
        operation in the residuals must support it.
    total: total(part) returns the sum of a tensor over all processes, if each has some of the
        residuals and all call ``step``.
    cost: |r|^2 after the last step. gain: the part of |r|^2 that this step left, 1 if it failed.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        damping: float = START,
        batched: bool = False,
        total: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError("LevenbergMarquardt needs parameters that require gradients")
        self.damping = damping
        self.batched = batched
        self.total = total
        self.cost = math.inf
        self.gain = 1.0

    def step(
        self, residuals: Callable[[], Residuals | None], tried: Callable[[], None] | None = None
    ) -> bool:
        """One step. Returns False if no damping lowers |r|^2: it is at a minimum, or stuck.

        residuals: residuals() returns r, (m,), at the present parameters, with a graph if gradients
            are enabled; or its parts, (m_i,) each. It returns None or raises SolveError if they
            cannot be computed.
        tried: tried() is called after each attempt.
        """
        self.gain = 1.0
        parts = self._agreed(_or_none(residuals))
        if parts is None:
            return False
        jacobian = torch.cat([self._jacobian(part) for part in parts])
        r = torch.cat(parts).detach()
        self.cost = self._square(r)
        start = parameters_to_vector(self.parameters).detach().clone()
        wide = self.total is None and jacobian.shape[0] <= jacobian.shape[1]
        if wide:
            curvature = products.mm(jacobian, jacobian.T)
            rhs = r
        else:
            curvature = self._sum(products.mm(jacobian.T, jacobian))
            rhs = self._sum(jacobian.T @ r)
        size = curvature.diagonal().mean()
        if not (math.isfinite(self.cost) and bool(torch.isfinite(curvature).all()) and size > 0):
            return False
        unit = torch.eye(len(curvature)).to(curvature) * size
        while self.damping <= MOST:
            # Not lstsq, whose last bits change from call to call: a resumed run would differ.
            solved = products.solve_ex(curvature + self.damping * unit, rhs).result
            if wide:
                move = -(jacobian.T @ solved)
            else:
                move = -solved
            self._set(start + move)
            with torch.no_grad():
                finite = bool(torch.isfinite(move).all())
                if finite:
                    new = self._agreed(_or_none(residuals))
                else:
                    new = None
            if tried:
                tried()
            cost = math.inf
            if new is not None:
                cost = self._square(torch.cat(new))
            if cost < self.cost:
                self.gain = cost / self.cost
                self.cost = cost
                self.damping = max(self.damping * DOWN, LEAST)
                return True
            self.damping *= UP
        self._set(start)
        self.damping = START  # later residuals may differ
        return False

    def _sum(self, part):
        if self.total is None:
            return part
        return self.total(part)

    def _square(self, r):
        """|r|^2 of the residuals of all processes."""
        return float(self._sum(r @ r))

    def _agreed(self, parts):
        """The parts of the residuals, or None if any process has none."""
        if self.total is None:
            return parts
        failed = torch.tensor(float(parts is None))
        if self.total(failed) > 0:
            return None
        return parts

    def _jacobian(self, r):
        """dr/dparameters, (m, P)."""
        if self.batched:
            chunks = torch.eye(len(r)).to(r).split(ROWS)
            return torch.cat([self._rows(r, unit) for unit in chunks])
        rows = [
            torch.autograd.grad(value, self.parameters, retain_graph=True, materialize_grads=True)
            for value in r
        ]
        return torch.stack([parameters_to_vector(row) for row in rows])

    def _rows(self, r, unit):
        """Some rows of the Jacobian, (k, P). unit: those of the unit matrix, (k, m)."""
        parts = torch.autograd.grad(
            r,
            self.parameters,
            unit,
            retain_graph=True,
            is_grads_batched=True,
            allow_unused=True,
        )
        count = len(unit)
        filled = [
            unit.new_zeros(count, p.numel()) if part is None else part.reshape(count, -1)
            for p, part in zip(self.parameters, parts, strict=True)
        ]
        return torch.cat(filled, 1)

    def _set(self, vector):
        # In place: views of the vector would have another memory layout, and sums might round
        # differently.
        with torch.no_grad():
            for p, part in zip(
                self.parameters, vector.split([p.numel() for p in self.parameters]), strict=True
            ):
                p.copy_(part.view_as(p))


def _or_none(residuals) -> Sequence[torch.Tensor] | None:
    """The parts of the residuals; None if they cannot be computed."""
    try:
        found = residuals()
    except SolveError:
        return None
    if isinstance(found, torch.Tensor):
        return (found,)
    return found
