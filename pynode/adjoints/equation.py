"""The adjoint equation of a recorded solve, as a vector field that any method integrates."""

from __future__ import annotations

import copy

import torch

from ..algebra.jacobian import Jacobian
from ..algebra.linear import Factorised
from ..algebra.mass import Mass
from ..field import VectorField
from ..stats import Stats
from ..tree import Layout
from .points import second_order


class AdjointField(VectorField):
    """M^T lambda' = -J(t, y(t))^T lambda, y from the dense output of the forward solve; lambda (n,), t in its units.

    It is linear, and its Jacobian for implicit methods is -J^T, of n rows whatever the number of parameters. One
    evaluation is one vector-Jacobian product of f. Hairer, Norsett & Wanner I, sec. II.6; Cao, Li, Petzold & Serban,
    SIAM J. Sci. Comput. 24 (2003).
    """

    def __init__(self, field, states):
        # Not by way of an ODEProblem: all of it is known and has been checked.
        self.inner = copy.copy(field)  # with counts of its own, and without parameters, whose cotangents cost as much
        self.inner.parameters, self.inner.stats = [], Stats()
        self.states, self.stats = states, Stats()
        self.dtype, self.device, self.size = field.dtype, field.device, field.size
        self.layout = Layout(torch.empty(field.size, dtype=field.dtype, device=field.device))
        self.parameters, self.args, self.parts, self.flat = [], (), None, True
        self.user_jac = self._jacobian
        self.mass = None if field.mass is None else transposed(field.mass)
        self.structure = Analytic()
        self.jacobian = Jacobian(self.inner)

    def __call__(self, t: float, lam):
        """d lambda / dt (times M^T), (n,)."""
        self.stats.nfe += 1
        field = self.inner
        with torch.inference_mode(False), torch.enable_grad():
            y = self.states.at(t).detach().requires_grad_()
            out = field.at(torch.full((), t, dtype=self.dtype, device=self.device), y)
            if not out.requires_grad:
                return torch.zeros_like(lam)
            (pulled,) = torch.autograd.grad(out, y, lam, allow_unused=True)
        return torch.zeros_like(lam) if pulled is None else -pulled

    def first(self, t: float, lam):
        return self.slope(t, lam)

    def _jacobian(self, t, lam):
        """-J^T, (n, n), at t."""
        t = t if isinstance(t, float) else t.item()
        return -self.jacobian(t, self.states.at(t)).t()

    def linearised(self, t: float, lam):
        """(-J^T, d/dt of -J^T lambda along the solve), (n, n) and (n,).

        The second derivative of lambda . f is symmetric: its product with (y', 1) is one gradient of a gradient.
        """
        y = self.states.at(t)
        time = torch.full((1,), t, dtype=self.dtype, device=self.device)
        slope = self.states.slope(t).view(1, 1, -1)
        change, _ = second_order(self.inner, time, y.view(1, -1), slope, torch.ones_like(time).view(1, 1), lam.view(1, 1, -1))
        return -self.jacobian(t, y).t(), -change[0]

    def count(self, stats):
        """Add the work to that of the gradient, stats."""
        own, inner = self.stats, self.inner.stats
        stats.backward_nfe += inner.nfe
        stats.backward_nvjp += own.nfe + inner.backward_nvjp
        stats.backward_njac += inner.njac
        stats.backward_nlu += own.nlu
        stats.backward_nsolve += own.nsolve
        stats.backward_accepted += own.accepted
        stats.backward_rejected += own.rejected


class Analytic:
    """How methods that linearise get at the Jacobian of the adjoint equation: in closed form."""

    name = "dense"

    def linearise(self, field):
        return _Linear(field)


class _Linear:
    """What algebra.jacobian.Jacobian offers, for an AdjointField."""

    def __init__(self, field):
        self.field = field
        eye = torch.eye(field.size, dtype=field.dtype, device=field.device)
        self.mass = eye if field.mass is None else field.mass.dense()

    def __call__(self, t: float, lam):
        return self.field.user_jac(t, lam)

    def with_time(self, t: float, lam, want_time=True, graph=False):
        return self.field.linearised(t, lam) if want_time else (self(t, lam), None)

    def factorised(self, jac, c: float, scale=None):
        return Factorised(self.mass, jac, c, self.field.stats)


def transposed(mass):
    """M^T of a Mass."""
    return mass if mass.matrix is None else Mass(mass.matrix.t().contiguous())
