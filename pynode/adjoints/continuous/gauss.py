"""The adjoint equation in n unknowns, and the parameters by quadrature on its steps. Implicit
methods cost n^3 + p."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ...core.cotangents import add_grads, zero_grads
from ..field_products import rows_at_once
from .adjoint_field import AdjointField
from .base import Continuous, positive, solve_adjoint_equation
from .forward_states import States
from .gauss_kronrod import Kronrod
from .quadrature import CellObserver, gauss, integrate_parameters, path_cells

if TYPE_CHECKING:
    from ...core.options import Options
    from ...core.trajectory import Trajectory
    from ...core.vector_field import VectorField
    from ...methods.base import Method


class GaussAdjoint(Continuous):
    """Solves the adjoint equation of n unknowns backward. Gauss quadrature on its steps integrates
    the gradient of the parameters.

    An implicit step costs n^3 + p, because parameters are not states of the reverse solve and enter
    no Jacobian. Norcliffe & Deisenroth, Faster training of neural ODEs using Gauss-Legendre
    quadrature, TMLR (2023).

    method: the reverse solver.
    rtol, atol: of the reverse solve.
    nodes: of the quadrature on each step. The default follows from the order of the reverse solver;
        it is at least 3.
    """

    name = "GaussAdjoint"

    def __init__(
        self,
        method: str | Method | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        nodes: int | None = None,
    ) -> None:
        super().__init__(method, rtol, atol)
        if nodes is not None and not (isinstance(nodes, int) and 1 <= nodes <= 20):
            raise ValueError(
                f"nodes must be a number from 1 to 20, not {nodes!r}; 3 suits most methods"
            )
        self.nodes = nodes

    def solve_back(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        equation = AdjointField(field, States(trajectory), trajectory.direction)
        count = self.nodes or max(3, (self.solver(field, method).order + 2) // 2)
        rule = gauss(count)
        total = zero_grads(field.parameters)

        def consume(cells):
            integral = integrate_parameters(field, equation, cells, *rule)
            total[:] = add_grads(total, integral)

        if field.parameters:
            cells = CellObserver(equation, consume, rows_at_once(field.device) // count)
        else:
            cells = None
        ybar, _ = solve_adjoint_equation(
            self, equation, method, trajectory, times, grads, options, cells
        )
        equation.count(field.stats)
        return ybar, total


class GaussKronrodAdjoint(Continuous):
    """Like GaussAdjoint, with an error estimate of the quadrature on each step. If the estimate
    exceeds rtol, it refines the quadrature.

    It suits vector fields that are less smooth in t or in the parameters than the states are. The
    quadrature costs four times as much.
    """

    name = "GaussKronrodAdjoint"

    def solve_back(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        equation = AdjointField(field, States(trajectory), trajectory.direction)
        rule = Kronrod(field, equation, options.rtol if self.rtol is None else self.rtol)
        if field.parameters:
            cells = CellObserver(equation, rule.add, rows_at_once(field.device) // len(rule.nodes))
        else:
            cells = None
        ybar, _ = solve_adjoint_equation(
            self, equation, method, trajectory, times, grads, options, cells
        )
        equation.count(field.stats)
        if rule.size:
            field.stats.backward_quadrature = rule.error / rule.size
        else:
            field.stats.backward_quadrature = 0.0
        return ybar, rule.total


class QuadratureAdjoint(Continuous):
    """Stores the reverse solution of n unknowns. Then it integrates the gradient of the parameters
    over the whole solution with one error bound.

    It controls the sum of the errors; GaussKronrodAdjoint controls each step. The reverse solution
    takes as much memory as the forward one.

    method: the reverse solver.
    rtol, atol: of the reverse solve.
    quadrature_rtol: relative to the integral of |integrand|; by default rtol.
    """

    name = "QuadratureAdjoint"

    def __init__(
        self,
        method: str | Method | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        quadrature_rtol: float | None = None,
    ) -> None:
        super().__init__(method, rtol, atol)
        self.quadrature_rtol = positive("quadrature_rtol", quadrature_rtol, self.name)

    def solve_back(
        self,
        field: VectorField,
        method: Method,
        trajectory: Trajectory,
        times: Sequence[float],
        grads: Tensor,
        options: Options,
    ) -> tuple[Tensor, list[Tensor]]:
        equation = AdjointField(field, States(trajectory), trajectory.direction)
        chosen = next(r for r in (self.quadrature_rtol, self.rtol, options.rtol) if r is not None)
        ybar, paths = solve_adjoint_equation(
            self, equation, method, trajectory, times, grads, options, dense=True
        )
        equation.count(field.stats)
        rule = Kronrod(field, equation, chosen)
        cells = [cell for segment in paths for cell in path_cells(equation, *segment)]
        if field.parameters and cells:
            rule.add(cells, whole=True)
        if rule.size:
            field.stats.backward_quadrature = rule.error / rule.size
        else:
            field.stats.backward_quadrature = 0.0
        return ybar, rule.total
