"""Radau IIA methods, fully implicit, after the code RADAU5 of Hairer & Wanner II, sec. IV.8."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..algebra.jacobian import Jacobian
from ..algebra.linear import Factorised
from ..algebra.newton import UNKNOWN, implicit_diff, newton_to_rounding, simplified_newton
from ..core import floats, products
from ..core.arithmetic import Floats
from ..core.status import Status
from ..core.transfer import constant
from .base import OneStep, Step, of_tableau
from .collocation import RadauIIA
from .jacobian_reuse import (
    ITERATIONS,
    SLOW,
    ReusesJacobian,
    converges_slowly,
    graph_disabled,
    newton_safety,
    remembered_rate,
    worthwhile,
)

if TYPE_CHECKING:
    from ..algebra.mass import Mass
    from ..algebra.newton import Newton
    from ..core.norm import Tolerance
    from ..core.stats import Stats
    from ..core.vector_field import VectorField
    from .collocation import Collocation


# The bounds of the factor from step to step.
LARGEST = 8.0
SMALLEST = 0.2


def predicted_factor(
    ratio: float, h: float, last_error: float, last_step: float, iterations: int, order: int
) -> float:
    """The factor of the next step, from the error and its trend. It is 1 if the growth is not worth
    a factorisation. Gustafsson; Hairer & Wanner II, IV.8.25.

    ratio: the scaled error of the step h, accepted if at most 1. last_error, last_step: of the last
    accepted step; the error is 0 if there is none. order: the exponent of the error.
    """
    power = 1 / order
    safety = 0.9 * newton_safety(iterations, ITERATIONS)
    error = max(ratio, 1e-10)
    growth = error**-power
    if last_error > 0 and ratio <= 1.0:
        growth = min(growth, h / last_step * (last_error / error**2) ** power)
    factor = min(LARGEST, max(SMALLEST, safety * growth))
    if ratio <= 1.0:
        return worthwhile(floats, factor)
    return factor


class State(NamedTuple):
    """first: f at the start of the step, or None; before: (z (s, n), h) of the last step, None at
    first.

    past: (scaled error, h) of the last accepted step, None at first; careful: whether the last
    attempt failed, or this is the first one. jac: the current Jacobian; origin: (t, y, None), its
    point; fresh: whether this is the start of the step; solver: for steps of h; rate: of Newton's
    convergence with it.
    """

    first: torch.Tensor | None
    before: tuple | None
    past: tuple | None
    careful: bool
    jacobian: Jacobian
    jac: torch.Tensor | None
    origin: tuple | None
    fresh: bool
    solver: Transformed | None
    h: float
    rate: float


@cache
def _tensors(tableau: Collocation, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """a, T, T^-1, and the weights of the error, of the dense output and of the end of the step, as
    tensors."""
    with torch.inference_mode(False):
        _, transform, inverse = tableau.eigen
        arrays = tableau.a, transform, inverse, tableau.e, tableau.powers, tableau.ending
        return [torch.tensor(array, dtype=dtype, device=device) for array in arrays]


class Transformed:
    """I x M - h a x J, (s n, s n), as one real and some complex matrices of n rows (IV.8.4; with M
    (IV.8.33)).

    real: M - h gamma0 J, also for the error estimate; mass: None for the identity.
    """

    def __init__(
        self, tableau: Collocation, jac: Tensor, h: float, stats: Stats, mass: Mass | None = None
    ) -> None:
        n = len(jac)
        _, self.transform, self.inverse, *_ = _tensors(tableau, jac.dtype, jac.device)
        self.n = n
        self.odd = tableau.stages % 2
        if mass is None:
            mass_matrix = torch.eye(n, dtype=jac.dtype, device=jac.device)
        else:
            mass_matrix = mass.to_dense()
        if mass is None:
            projector = None
        else:
            projector = mass.projector
        self.real = Factorised(mass_matrix, jac, h * tableau.gamma0, stats, projector)
        pairs = tableau.eigen[0][self.odd :]
        kind = torch.complex(mass_matrix, mass_matrix).dtype
        mass_matrix = mass_matrix.to(kind)
        jac = jac.to(kind)
        if projector is None:
            projector = None
        else:
            projector = projector.to(kind)
        self.pairs = [Factorised(mass_matrix, jac, h / mu, stats, projector) for mu in pairs]
        self.ok = self.real.ok and all(pair.ok for pair in self.pairs)

    def solve(self, b: Tensor, factor: float = 1.0) -> Tensor:
        """factor times the solution for b, (s n,)."""
        w = products.mm(self.inverse, b.view(-1, self.n))
        if self.odd:
            rows = [self.real.solve(w[0]).unsqueeze(0)]
        else:
            rows = []
        for k, pair in enumerate(self.pairs):
            i = 2 * k + self.odd
            rows.append(torch.view_as_real(pair.solve(torch.complex(w[i], w[i + 1]))).t())
        return products.mm(self.transform, torch.cat(rows)).view(-1) * factor


class _StageMass:
    """I x M: the mass matrix of all stages together, for Newton's iteration."""

    def __init__(self, mass: Mass, n: int) -> None:
        self.mass = mass
        self.n = n

    def times(self, v: Tensor) -> Tensor:
        """(s n,) for v (s n,)."""
        return self.mass.times(v.view(-1, self.n)).reshape(-1)


class _Stages:
    """a F, (s n,), for the states Y of all stages, (s n,): the function that Newton's iteration
    evaluates."""

    def __init__(self, field: VectorField, tableau: Collocation, h: float, a: Tensor) -> None:
        self.field = field
        self.stats = field.stats
        self.a = a
        if field.mass is None:
            self.mass = None
        else:
            self.mass = _StageMass(field.mass, field.size)
        self.offsets = (tableau.c * h).tolist()

    def __call__(self, t: float, y: Tensor) -> Tensor:
        parts = y.view(len(self.offsets), -1).unbind(0)
        return products.mm(
            self.a, torch.stack([self.field(t + s, part) for s, part in zip(self.offsets, parts)])
        ).view(-1)


@dataclass(frozen=True, kw_only=True, repr=False)
class Radau(ReusesJacobian, OneStep):
    """Runs Radau IIA with simplified Newton iterations in transformed variables, which start from
    the last step's polynomial, with the filtered error estimate (IV.8.19 and IV.8.20), and with the
    predictive controller of Gustafsson (IV.8.25).

    With a mass matrix M (Y_i - y) = h sum_j a_ij f_j. The last stage is the end of the step, so the
    algebraic equations of a singular M hold there (sec. VI.1).
    """

    adaptive: bool = field(default=True, repr=False)
    family = "fully implicit Runge-Kutta"
    implicit = True
    takes_mass = True

    def fixed(self) -> Radau:
        return replace(self, adaptive=False)

    @property
    def memory(self) -> tuple[int, int]:
        return self.tableau.stages + 3, self.tableau.stages + 2

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor | None, h: float, tol: Tolerance
    ) -> State:
        # With a mass matrix f0 is M^+ f, but the error estimate needs f.
        if field.mass is None:
            first = f0
        else:
            first = None
        return State(
            first, None, None, True, Jacobian(field), None, None, False, None, 0.0, UNKNOWN
        )

    def linearised(
        self, field: VectorField, t: float, y: Tensor, state: State
    ) -> tuple[Any, State]:
        """(Jacobian at the start of the step, state that holds it)."""
        if state.jac is None:
            state = self.with_jacobian(state, t, y)
        return state.jac, state

    def refactorised(self, state: Any, jac: Any, scale: Tensor | None) -> Transformed:
        field = state.jacobian.field
        return Transformed(self.tableau, jac, state.h, field.stats, field.mass)

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: State, tol: Tolerance
    ) -> Step:
        """One step; y: (n,). Each Newton iteration synchronises once, and so does the norm of the
        error."""
        tb = self.tableau
        differentiable = torch.is_grad_enabled()
        a, _, _, _, _, ending = _tensors(tb, y.dtype, y.device)
        if differentiable:
            start = y.detach()
        else:
            start = y
        base = start.repeat(tb.stages)
        stages: Any = _Stages(field, tb, h, a)
        scale = tol.scale(start).repeat(tb.stages)
        guess = self._guess(base, state.before, h)
        if state.h == h:
            used = state
        else:
            used = state._replace(h=h, solver=None)
        iterate = partial(
            self._iterate, field, stages, state.jacobian, t, h, base, guess, scale, tol
        )
        with graph_disabled():
            result, used = self.converged(used, t, start, None, iterate)
            if result is None or result.y is None:
                next_state = state._replace(origin=used.origin)
                return self._newton_failed(field, t, h, next_state, used.jac, result)
            z = (result.y - base).view(tb.stages, -1)
        rate = remembered_rate(Floats, result.rate, result.iterations > 1)
        ys = result.y
        if differentiable:
            ys = self._implicit_diff(field, stages, state.jacobian, t, y, h, ys)
        ys = ys.view(tb.stages, -1)
        if tb.c[-1] == 1.0:
            y1 = ys[-1]
        else:
            y1 = torch.addmv(y, (ys - y).t(), ending)
        if converges_slowly(rate, SLOW):
            jac = None
        else:
            jac = used.jac
        ended = used._replace(
            first=None, before=(z, h), careful=False, jac=jac, fresh=False, rate=rate
        )
        if not self.adaptive:
            return Step(t, h, y, y1, 0.0, 1.0, ended, ys)
        first, ratio = self._ratio(field, t, h, start, y1, z, state, used.solver, tol)
        next_state = used._replace(first=first, careful=True, rate=rate)
        if not math.isfinite(ratio):
            return Step.failed(t, h, SMALLEST, next_state)
        last_error, last_step = state.past or (0.0, h)
        factor = predicted_factor(
            ratio, h, last_error, last_step, result.iterations, self.error_order
        )
        if ratio <= 1.0:
            return Step(t, h, y, y1, ratio, factor, ended._replace(past=(max(ratio, 1e-2), h)), ys)
        return Step(t, h, y, y1, ratio, factor, next_state)

    def _guess(self, base: Tensor, before: tuple | None, h: float) -> Tensor:
        """The start of Newton's iteration, (s n,): the states of all stages on the polynomial of
        the last step. base: (s n,), the start of the step, repeated for each stage; before: see
        State."""
        if before is None:
            return base
        z, old = before
        # A step grows by more only after a step that a stop cut. The extrapolation of the cut step
        # is mostly rounding.
        if abs(h) > 2 * LARGEST * abs(old):
            return base
        matrix = constant(self.tableau.extrapolation(h / old), z)
        return base + products.mm(matrix, z).view(-1)

    def _iterate(
        self,
        field: VectorField,
        stages: Any,
        jacobian: Jacobian,
        t: float,
        h: float,
        base: Tensor,
        guess: Tensor,
        scale: Tensor,
        tol: Tolerance,
        solver: Any,
        rate: float,
    ) -> Newton:
        """Newton's iteration for all stages, (s n,), from guess."""
        history_term = guess - base
        if self.adaptive:
            return simplified_newton(
                stages,
                t,
                guess,
                history_term,
                h,
                scale,
                tol,
                tol.stage_newton_tol,
                solver,
                rate,
                ITERATIONS,
            )
        return newton_to_rounding(
            stages,
            t,
            guess,
            history_term,
            h,
            scale,
            tol,
            solver,
            rate,
            4 * ITERATIONS,
            partial(self._factorise, field, stages, jacobian, t, h),
        )

    def _ratio(
        self,
        field: VectorField,
        t: float,
        h: float,
        start: Tensor,
        y1: Tensor,
        z: Tensor,
        state: State,
        solver: Any,
        tol: Tolerance,
    ) -> tuple[Tensor, float]:
        """(f (n,) at the start of the step, scaled error of the step). The error comes from
        (IV.8.19). If it is too large in a first step or after a rejection, it comes from (IV.8.20).

        start, y1: (n,) the ends of the step; z: (s, n) states of the stages minus the start; state:
        before the step.
        """
        gamma0 = h * self.tableau.gamma0
        weights = _tensors(self.tableau, start.dtype, start.device)[3]
        with graph_disabled():
            if state.first is None:
                first = field(t, start)
            else:
                first = state.first.detach()
            known = torch.mv(z.t(), weights)
            if field.mass is not None:
                known = field.mass.times(known)
            error = solver.real.solve(torch.add(known, first, alpha=gamma0))
            ratio = tol.ratio(error, start, y1.detach())
            if ratio > 1.0 and state.careful:
                again = field(t, start + error)
                filtered = solver.real.solve(torch.add(known, again, alpha=gamma0))
                ratio = tol.ratio(filtered, start, y1.detach())
        return first, ratio

    @staticmethod
    def _newton_failed(
        field: VectorField, t: float, h: float, state: State, jac: Any, result: Newton | None
    ) -> Step:
        """Newton's iteration failed with a Jacobian at this point itself: halve the step."""
        field.stats.newton_failures += 1
        if result is not None and not math.isfinite(result.norm):
            return Step.failed(
                t, h, 0.5, state._replace(jac=None, solver=None, careful=True), Status.NONFINITE
            )
        next_state = state._replace(jac=jac, fresh=True, solver=None, careful=True)
        return Step.failed(t, h, 0.5, next_state, Status.NEWTON)

    @staticmethod
    def _factorise(
        field: VectorField, stages: Any, jacobian: Jacobian, t: float, h: float, ys: Tensor
    ) -> Factorised:
        """The factorisation of I x M - h a x J, (s n, s n), with a Jacobian for each stage. ys: the
        states of the stages, (s n,)."""
        ys = ys.view(len(stages.offsets), -1)
        s, n = ys.shape
        blocks = torch.stack([jacobian(t + offset, v) for offset, v in zip(stages.offsets, ys)])
        coupled = (stages.a.view(s, 1, s, 1) * blocks.transpose(0, 1)).reshape(s * n, s * n)
        mass_matrix = torch.eye(s * n, dtype=ys.dtype, device=ys.device)
        projector = None
        if field.mass is not None:
            unit = torch.eye(s, dtype=ys.dtype, device=ys.device)
            mass_matrix = torch.kron(unit, field.mass.to_dense())
            if field.mass.projector is not None:
                projector = torch.kron(unit, field.mass.projector)
        return Factorised(mass_matrix, coupled, h, field.stats, projector)

    def with_derivatives(
        self, field: VectorField, t: float, y: Tensor, h: float, ys: Tensor
    ) -> Tensor:
        """The states of all stages, (s n,), with their derivatives in y, (n,), and the parameters.
        ys: their values, detached."""
        stages = _Stages(field, self.tableau, h, _tensors(self.tableau, y.dtype, y.device)[0])
        return self._implicit_diff(field, stages, Jacobian(field), t, y, h, ys)

    def _implicit_diff(
        self,
        field: VectorField,
        stages: Any,
        jacobian: Jacobian,
        t: float,
        y: Tensor,
        h: float,
        ys: Tensor,
    ) -> Tensor:
        """The states of all stages, (s n,), with derivatives by the implicit function theorem."""
        with torch.no_grad():
            exact = self._factorise(field, stages, jacobian, t, h, ys)
        return implicit_diff(stages, t, y.repeat(self.tableau.stages), 0.0, h, exact, ys)

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        """(s + 1, n) coefficients of the powers of theta: the collocation polynomial."""
        ys = step.tape
        return torch.cat(
            (
                step.start.unsqueeze(0),
                products.mm(_tensors(self.tableau, ys.dtype, ys.device)[4], ys - step.start),
            )
        )


_REFERENCE = "Hairer & Wanner, Solving Ordinary Differential Equations II, sec. IV.8"
RadauIIA3, RadauIIA5, RadauIIA9 = (
    of_tableau(Radau, RadauIIA(f"RadauIIA{2 * s - 1}", s, _REFERENCE)) for s in (2, 3, 5)
)
