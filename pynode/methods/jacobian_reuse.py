"""Newton's iteration of methods that keep a Jacobian over many steps."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..algebra.newton import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..algebra.linear import LinearSolver
    from ..core.arithmetic import Arithmetic, Numbers


# The least growth of a step that is worth a factorisation.
KEEP = 1.2
# Methods with implicit stages: the limit of Newton's iterations, and the rate above which the next
# step takes a new Jacobian.
ITERATIONS = 7
SLOW = 0.03

_NOTHING = nullcontext()


def graph_disabled() -> AbstractContextManager:
    """Context that records no graph. It costs nothing if gradients are disabled anyway."""
    if torch.is_grad_enabled():
        return torch.set_grad_enabled(False)
    return _NOTHING


def remembered_rate(xp: Arithmetic, rate: Numbers, measured: bool | Numbers) -> Numbers:
    """The convergence rate with which the next step begins. measured: whether this step measured
    it. Otherwise the method trusts it less with every step (Hairer & Wanner II, sec. IV.8)."""
    return xp.where(measured, rate, xp.maximum(rate, 1e-16) ** 0.8)


def converges_slowly(rate: float, slow: float) -> bool:
    """Whether Newton's iteration converges more slowly than the rate ``slow``. A rate that was not
    measured says nothing."""
    return slow < rate < UNKNOWN


def newton_safety(iterations: Numbers, limit: int) -> Numbers:
    """The factor by which a step is shorter after this number of iterations, of at most ``limit``.
    Hairer & Wanner II, sec. IV.8."""
    return (2 * limit + 1) / (2 * limit + iterations)


def growth_after_newton(
    xp: Arithmetic, factor: Numbers, iterations: Numbers, limit: int
) -> Numbers:
    """The factor of the next step after an accepted one. It grows less after many iterations, and
    not at all if the growth is not worth a factorisation."""
    slower = xp.maximum(factor * newton_safety(iterations, limit), 1.0)
    return xp.where(factor >= 1, worthwhile(xp, slower), factor)


def worthwhile(xp: Arithmetic, factor: Numbers) -> Numbers:
    """The factor, or 1 if the growth is not worth a factorisation."""
    return xp.where((factor >= 1) & (factor < KEEP), 1.0, factor)


class ReusesJacobian:
    """Methods with a state that keeps a Jacobian. Such a state has

    - jacobian: makes a Jacobian of f at a point;
    - jac: the current Jacobian, or None;
    - origin: (t, y, scale): the point of jac, and the weights of the norm for solver, (n,) or None;
    - fresh: whether jac belongs to the point of this step;
    - solver: the factorisation of M - c jac, None if it is still to be made;
    - rate: the rate of Newton's convergence with solver, UNKNOWN without a measurement.
    """

    def converged(
        self,
        state: Any,
        t: float,
        y: Tensor,
        scale: Tensor | None,
        iterate: Callable[[LinearSolver, float], Any],
    ) -> tuple[Any, Any]:
        """Run Newton's iteration. If it fails with an old Jacobian, run it again with a new one.

        t, y, scale: the point for a new Jacobian, y (n,), and the weights of the norm, (n,) or
        None. iterate(solver, rate): the iteration; the y of its result is None if it fails. Returns
        (result, state with the Jacobian and the factorisation used). The result is None if the
        matrix is singular.
        """
        jac = state.jac
        origin = state.origin
        fresh = state.fresh
        solver = state.solver
        rate = state.rate
        while True:
            if jac is None:
                jac = state.jacobian(t, y)
                origin = (t, y, None)
                fresh = True
                solver = None
            if solver is None:
                origin = (origin[0], origin[1], scale)
                solver = self.refactorised(state, jac, scale)
                rate = UNKNOWN
            result = None
            if solver.ok:
                result = iterate(solver, rate)
            if fresh or (result is not None and result.y is not None):
                break
            jac = None
        if solver is not state.solver:
            # One copy: the state has a dozen fields.
            state = state._replace(jac=jac, origin=origin, fresh=fresh, solver=solver, rate=rate)
        return result, state

    @staticmethod
    def with_jacobian(state: Any, t: float, y: Tensor) -> Any:
        """The state with the Jacobian at (t, y), not yet factorised."""
        jac = state.jacobian(t, y)
        return state._replace(jac=jac, origin=(t, y, None), fresh=True, solver=None)

    def compress_state(self, state: Any) -> Any:
        """The state without the Jacobian and its factorisation. ``restore_state`` makes both again
        at their origin."""
        if state.jac is None:
            origin = None
        else:
            origin = state.origin
        return state._replace(jac=None, solver=None, origin=origin)

    def restore_state(self, state: Any) -> Any:
        """The state that was compressed; its Jacobian and factorisation are the same in every
        digit."""
        if state.origin is None:
            return state
        jac = state.jacobian(*state.origin[:2])
        return state._replace(jac=jac, solver=self.refactorised(state, jac, state.origin[2]))

    def refactorised(self, state: Any, jac: Any, scale: Tensor | None) -> Any:
        """The solver of Newton's iteration, for the size of step in the state."""
        return state.jacobian.factorised(jac, state.c, scale)
