"""GaussAdjoint: the adjoint equation in n unknowns, and the parameters by Gauss quadrature on its steps."""

from __future__ import annotations

from .equation import AdjointField
from .panels import Panels, gauss, integrate_parameters
from .points import ROWS
from .reverse import Continuous, solve_back
from .states import States


class GaussAdjoint(Continuous):
    """Cost n^3 + p a step with implicit methods: parameters are no states of the reverse solve, and enter no Jacobian.

    nodes: of the quadrature on each step; by default as many as the order of the reverse solver asks for, at least 3.
    Norcliffe & Deisenroth, Faster training of neural ODEs using Gauss-Legendre quadrature, TMLR (2023).
    """

    name = "GaussAdjoint"

    def __init__(self, method=None, rtol=None, atol=None, nodes=None):
        super().__init__(method, rtol, atol)
        if nodes is not None and not (isinstance(nodes, int) and 1 <= nodes <= 20):
            raise ValueError(f"nodes must be a number from 1 to 20, not {nodes!r}; 3 is right for most methods")
        self.nodes = nodes

    def pullback(self, field, method, trajectory, times, grads, options):
        states = States(trajectory)
        equation = AdjointField(field, states)
        count = self.nodes or max(3, (self.solver(field, method).order + 2) // 2)
        rule, total = gauss(count), []

        def consume(panels):
            found = integrate_parameters(field, states, panels, *rule)
            total[:] = [a + b for a, b in zip(total, found)] if total else found

        panels = Panels(states, consume, ROWS // count) if field.parameters else None
        ybar, _ = solve_back(self, equation, method, trajectory, times, grads, options, panels)
        if panels is not None:
            panels.flush()
        equation.count(field.stats)
        return ybar, total or [p.new_zeros(p.shape) for p in field.parameters]
