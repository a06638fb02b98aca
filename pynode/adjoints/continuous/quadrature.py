"""Quadrature of the parameters' cotangents: the integral of (df/dp)^T lambda over the reverse
solve, in cells.

A cell lies within one step of the reverse solve and one step of the forward solve. On a cell lambda
and y are polynomials, and the integrand is as smooth as f. Steps of the reverse solve are not
enough, because lambda can be smooth where y is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.cotangents import add_grads, zero_grads
from ...core.trajectory import evaluate_each
from ..field_products import pull_parameters, rows_at_once

if TYPE_CHECKING:
    from ...core.protocols import Step
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from .adjoint_field import AdjointField


class QuadratureCell(NamedTuple):
    """The interval from a to b in the time s of the reverse solve, with t = origin - direction s.

    start, h: of the reverse step. polynomial: of this step, (degree + 1, n). step: number of the
    forward step.
    """

    a: float
    b: float
    start: float
    h: float
    origin: float
    polynomial: torch.Tensor
    step: int


class CellObserver:
    """Observes a reverse solve and passes its cells to ``consume(cells)``, about ``size`` at a
    time."""

    # The integrator reads these attributes of an observer. There are no events here.
    hits = ()
    status = None

    def __init__(
        self, equation: AdjointField, consume: Callable[[list[QuadratureCell]], None], size: int
    ) -> None:
        self.equation = equation
        self.consume = consume
        self.size = size
        self.waiting: list[QuadratureCell] = []

    def begin(self, s: float, lam: Tensor) -> None:
        """The integrator calls this at the start of a segment."""

    def check_step(self, step: Step, end: float, coefficients: Tensor) -> None:
        """Store the cells of a step of the reverse solve. Never stops the solve."""
        self.waiting += split_step(self.equation, step.t, end, step.h, coefficients)
        if len(self.waiting) >= self.size:
            self.flush()

    def flush(self) -> None:
        """Pass on the remaining cells."""
        if self.waiting:
            self.consume(self.waiting)
            self.waiting = []


def path_cells(equation: AdjointField, origin: float, path: Trajectory) -> Iterator[QuadratureCell]:
    """The cells of a segment of the reverse solve that starts at origin and has its polynomials."""
    equation.origin = origin
    end_times = [step.t for step in path.steps[1:]] + [path.t]
    for step, end, polynomial in zip(path.steps, end_times, path.polynomials, strict=True):
        yield from split_step(equation, step.t, end, step.h, polynomial)


def split_step(
    equation: AdjointField, start: float, end: float, h: float, polynomial: Tensor
) -> list[QuadratureCell]:
    """The cells of a reverse step from start to end."""
    origin = equation.origin
    states = equation.states
    a = start
    cells = []
    k = states.grid.locate(equation.time(start))
    while True:
        # The start of the forward step.
        border = equation.direction * (origin - states.path.steps[k].t)
        if k:
            b = min(end, border)
        else:
            b = end
        if b > a:
            cells.append(QuadratureCell(a, b, start, h, origin, polynomial, k))
        if border >= end or k == 0:
            return cells
        a = max(a, b)
        k = k - 1


def gauss(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1], (count,) each."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(0.5 + 0.5 * nodes), torch.from_numpy(0.5 * weights)


def sample(
    equation: AdjointField, cells: Sequence[QuadratureCell], nodes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (t (m, q) float64, y (m, q, n), M^-T lambda (m, q, n)) at the nodes of m cells. nodes:
    (q,) on [0, 1]."""
    device = cells[0].polynomial.device
    a, b, start, h, origin = (
        torch.tensor([p[:5] for p in cells], dtype=torch.float64, device=device)
        .unsqueeze(2)
        .unbind(1)
    )
    s = a + (b - a) * nodes.to(device)
    shift = -equation.direction * s
    lam = evaluate_each([p.polynomial for p in cells], (s - start) / h)
    y = equation.states.batch_eval(origin, shift, [p.step for p in cells])
    return origin + shift, y, equation.multiplier(lam)


def integrate_parameters(
    field: VectorField,
    equation: AdjointField,
    cells: Sequence[QuadratureCell],
    nodes: Tensor,
    weights: Tensor,
) -> list[Tensor]:
    """The integral of (df/dp)^T lambda dt over the cells, in the direction of the forward solve.
    Return a list for field.parameters."""
    size = max(1, rows_at_once(field.device) // len(nodes))
    total = zero_grads(field.parameters)
    for i in range(0, len(cells), size):
        part = cells[i : i + size]
        t, y, lam = sample(equation, part, nodes)
        lengths = torch.tensor(
            [p.b - p.a for p in part], dtype=torch.float64, device=y.device
        ).unsqueeze(1)
        scaled = (equation.direction * lengths * weights.to(y.device)).to(y.dtype).unsqueeze(
            2
        ) * lam
        grads = pull_parameters(
            field, t.flatten().to(y.dtype), y.flatten(0, 1), scaled.flatten(0, 1)
        )
        total = add_grads(total, grads)
    return total
