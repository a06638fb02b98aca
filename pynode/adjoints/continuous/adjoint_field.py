"""The adjoint equation of a recorded solve, as a vector field that any method integrates."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...algebra.jacobian import Jacobian
from ...algebra.linear import Factorised
from ...algebra.structure import check_dense
from ...core.double_backward import pull, with_double_backward
from ...core.layout import Layout
from ...core.leaves import no_leaves
from ...core.stats import Stats
from ...core.vector_field import VectorField

if TYPE_CHECKING:
    from .forward_states import States


class AdjointField(VectorField):
    """M^T lambda' = -J(t, y(t))^T lambda. y comes from the dense output of the forward solve.
    lambda: (n,), t in its units.

    The equation is linear. Its Jacobian in the reverse time s, for implicit methods, is J^T; it has
    n rows for any number of parameters. One evaluation is one vector-Jacobian product of f. Hairer,
    Norsett & Wanner I, sec. II.6; Cao, Li, Petzold & Serban, SIAM J. Sci. Comput. 24 (2003).
    """

    def __init__(self, field: VectorField, states: States | None, direction: float) -> None:
        # This skips ODEProblem, because the forward solve has checked everything. The inner field
        # has its own counts and no parameters, because their cotangents would cost as much again.
        self.inner = copy.copy(field)
        self.inner.leaves = no_leaves(field.args)
        self.inner.stats = Stats()
        # If f has parameters, their quadrature checks for missing leaves.
        if field.parameters:
            self.given = no_leaves(field.args)
        else:
            self.given = field.leaves
        self.states: Any = states
        self.stats = Stats()
        self.direction = direction
        self.origin = 0.0
        self.dtype = field.dtype
        self.device = field.device
        self.size = field.size
        self.layout = Layout(torch.empty(field.size, dtype=field.dtype, device=field.device))
        self.leaves = no_leaves(())
        self.args = ()
        self.parts = None
        self.flat = True
        self.user_jac = self._jacobian
        self.structure: Any = AnalyticJacobian()
        self.jacobian = Jacobian(self.inner)

    def time(self, s: float) -> float:
        """The t of the forward solve."""
        return self.origin - self.direction * s

    def state(self, s: float) -> Tensor:
        """y of the forward solve at that time, (n,)."""
        return self.states.eval(self.origin, -self.direction * s)

    def multiplier(self, lam: Tensor) -> Tensor:
        """M^-T lambda, (..., n): the factor of f in the integrals of the adjoint equation."""
        mass = self.inner.mass
        if mass is None:
            return lam
        return mass.pinv_apply_transposed(lam)

    def __call__(self, s: float, lam: Tensor) -> Tensor:
        """d lambda/ds, (n,)."""
        self.stats.nfe += 1
        field = self.inner
        t = self.time(s)
        with torch.inference_mode(False), torch.enable_grad():
            y = self.state(s).detach().requires_grad_()
            out = field.eval(torch.full((), t, dtype=self.dtype, device=self.device), y)
            self.given.check(out, (y,))
            if not out.requires_grad:
                return torch.zeros_like(lam)
            (pulled,) = torch.autograd.grad(out, y, self.multiplier(lam), allow_unused=True)
        if pulled is None:
            return torch.zeros_like(lam)
        return self.direction * pulled

    def initial_slope(self, t: float, y: Tensor) -> Tensor:
        return self.dydt(t, y)

    def _jacobian(self, s, lam):
        """d (M^-1 J)^T, (n, n), with d the direction of the forward solve. algebra/jacobian.py
        passes s as a tensor."""
        if not isinstance(s, float):
            s = s.item()
        jac = self.jacobian(self.time(s), self.state(s))
        mass = self.inner.mass
        return self.direction * (jac.t() if mass is None else mass.pinv_apply_columns(jac).t())

    def linearised(self, s: float, lam: Tensor) -> tuple[Tensor, Tensor]:
        """Return (Jacobian, derivative in s for constant lambda) of the right-hand side, (n, n) and
        (n,).

        The second derivative of lambda . f is symmetric, so its product with (y', 1) is one
        gradient of a gradient.
        """
        return self._jacobian(s, lam), -self._change(s, lam)

    @with_double_backward
    def _change(self, s, lam):
        """d/dt of (M^-1 J(t, y(t)))^T lambda, (n,)."""
        t = self.time(s)
        y = self.state(s)
        with torch.inference_mode(False), torch.enable_grad():
            time = torch.full((), t, dtype=self.dtype, device=self.device, requires_grad=True)
            y = y.detach().requires_grad_()
            out = self.inner.eval(time, y)
            self.inner.stats.backward_nvjp += 2
            if not out.requires_grad:
                return torch.zeros_like(lam)
            by_y, by_t = pull(out, (y, time), self.multiplier(lam))
            if by_t is None:
                rate = 0.0
            else:
                rate = by_t
            if by_y is not None:
                rate = rate + torch.dot(by_y, self.states.dydt(self.origin, -self.direction * s))
            if not (isinstance(rate, torch.Tensor) and rate.requires_grad):
                return torch.zeros_like(lam)
            (change,) = torch.autograd.grad(rate, y, allow_unused=True)
        if change is None:
            return torch.zeros_like(lam)
        return change

    def count(self, stats: Stats) -> None:
        """Add this work to the gradient's counts in stats."""
        own = self.stats
        inner = self.inner.stats
        stats.backward_nfe += inner.nfe
        stats.backward_nvjp += own.nfe + inner.backward_nvjp
        stats.backward_njac += inner.njac
        stats.backward_nlu += own.nlu
        stats.backward_nsolve += own.nsolve
        stats.backward_accepted += own.accepted
        stats.backward_rejected += own.rejected


class AnalyticJacobian:
    """The structure of the adjoint equation: its Jacobian has a closed form."""

    name = "dense"

    def linearise(self, field: AdjointField) -> _AnalyticLinearisation:
        check_dense(
            field,
            "use adjoint='discrete', or an explicit reverse solver, for instance "
            "pynode.GaussAdjoint(method='tsit5')",
        )
        return _AnalyticLinearisation(field)


class _AnalyticLinearisation:
    """The interface of algebra.jacobian.Jacobian, for an AdjointField."""

    def __init__(self, field):
        self.field = field
        self.eye = torch.eye(field.size, dtype=field.dtype, device=field.device)

    def __call__(self, t: float, lam):
        return self.field.user_jac(t, lam)

    def with_time(self, t: float, lam, want_time=True, graph=False):
        if want_time:
            return self.field.linearised(t, lam)
        return (self(t, lam), None)

    def factorised(self, jac, c: float, scale=None):
        return Factorised(self.eye, jac, c, self.field.stats)
