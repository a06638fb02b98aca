"""Adaptive Gauss-Kronrod quadrature of the parameters' cotangents, with an error estimate for each
cell.

The error of a cell is a vector as long as the parameters. The code measures its products with a few
random changes of all parameters, each in proportion to its size. This gives one number for each
direction, in the unit of the loss, and stores no vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.cotangents import add_grads, zero_grads
from ..field_products import magnitudes, push_parameters, rows_at_once
from .quadrature import integrate_parameters, sample

if TYPE_CHECKING:
    from ...core.vector_field import VectorField
    from .adjoint_field import AdjointField
    from .quadrature import QuadratureCell

# The pair (G3, K7) on [-1, 1]: nodes from the centre outwards, weights of Kronrod's rule, and
# weights of Gauss' rule at the common nodes. Kronrod (1965); Piessens et al., QUADPACK (1983). A
# cell is at most one step, so a low order suffices.
_NODES = (0.0, 0.434243749346802558, 0.774596669241483377, 0.960491268708020283)
_KRONROD = (0.450916538658474142, 0.401397414775962223, 0.268488089868333441, 0.104656226026467265)
_GAUSS = (8 / 9, 0.0, 5 / 9, 0.0)
DIRECTIONS = 4  # random changes of the parameters that measure errors
ROUNDS = 25  # of bisection: a jump of f within a cell is then 3e-8 of it wide


def rule() -> tuple[Tensor, Tensor, Tensor]:
    """Return (nodes, Kronrod's weights, Gauss' weights) on [0, 1], (7,) each."""

    def mirrored(values, sign):
        return [sign * x for x in values[:0:-1]] + list(values)

    nodes = mirrored(_NODES, -1.0)
    kronrod = mirrored(_KRONROD, 1.0)
    gauss = mirrored(_GAUSS, 1.0)
    pack = torch.tensor([nodes, kronrod, gauss], dtype=torch.float64)
    return 0.5 + 0.5 * pack[0], 0.5 * pack[1], 0.5 * pack[2]


class Kronrod:
    """Integrates cells to rtol of the integral of |integrand| so far. It bisects cells that need
    it.

    error, size: estimates of the remaining error and of that integral, in the unit of the loss.
    ``Stats.backward_quadrature`` is their ratio.
    """

    def __init__(self, field: VectorField, equation: AdjointField, rtol: float) -> None:
        self.field = field
        self.equation = equation
        self.rtol = rtol
        self.nodes, self.kronrod, self.gauss = rule()
        self.directions = [_direction(field.parameters, seed) for seed in range(DIRECTIONS)]
        self.error = self.size = 0.0
        self.total = zero_grads(field.parameters)

    def add(self, cells: list[QuadratureCell], whole: bool = False) -> None:
        """Integrate cells. whole: bound the sum of their errors; otherwise bound each error."""
        done: list[tuple[QuadratureCell, float, float]] = []
        for _ in range(ROUNDS):
            values, errors = self._measure(cells)
            allowed = self.rtol * (self.size + sum(values) + sum(size for _, _, size in done))
            if whole and sum(errors) + sum(e for _, e, _ in done) <= allowed:
                break
            if whole:
                limit = allowed / (len(cells) + len(done))
            else:
                limit = allowed
            # The error of a quadrature cannot be below rounding.
            good = [
                e <= max(limit, 50 * 2.3e-16 * size) for e, size in zip(errors, values, strict=True)
            ]
            done += [
                entry
                for entry, ok in zip(zip(cells, errors, values, strict=True), good, strict=True)
                if ok
            ]
            cells = [
                half
                for cell, ok in zip(cells, good, strict=True)
                if not ok
                for half in _halves(cell)
            ]
            if not cells:
                errors = []
                values = []
                break
        done += zip(cells, errors, values, strict=True)
        self.error = self.error + sum(e for _, e, _ in done)
        self.size = self.size + sum(size for _, _, size in done)
        integral = integrate_parameters(
            self.field, self.equation, [p for p, _, _ in done], self.nodes, self.kronrod
        )
        self.total = add_grads(self.total, integral)

    def _measure(self, cells):
        """Return (sizes, errors) of the integrals over cells, lists of floats: the largest over the
        random directions."""
        chunk = max(1, rows_at_once(self.field.device) // len(self.nodes))
        sizes = []
        errors = []
        for i in range(0, len(cells), chunk):
            part = cells[i : i + chunk]
            t, y, lam = sample(self.equation, part, self.nodes)
            pushed = push_parameters(
                self.field, t.flatten().to(y.dtype), y.flatten(0, 1), self.directions
            )
            # (directions, cells, nodes): the integrand along each direction.
            rates = (pushed.unflatten(1, t.shape) * lam).sum(3).to(torch.float64)
            lengths = torch.tensor([p.b - p.a for p in part], dtype=torch.float64, device=y.device)
            device = rates.device
            sizes += (rates.abs() @ self.kronrod.to(device) * lengths).amax(0).tolist()
            errors += (
                ((rates @ (self.kronrod - self.gauss).to(device)).abs() * lengths).amax(0).tolist()
            )
        return sizes, errors


def _halves(cell):
    middle = 0.5 * (cell.a + cell.b)
    return cell._replace(b=middle), cell._replace(a=middle)


def _direction(parameters, seed):
    """Random signs times the magnitudes of the parameters."""
    generator = torch.Generator().manual_seed(seed)
    return [
        size * (torch.randint(0, 2, size.shape, generator=generator) * 2 - 1).to(size)
        for size in magnitudes(parameters)
    ]
