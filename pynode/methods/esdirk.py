"""Diagonally implicit Runge-Kutta methods with one gamma: SDIRK and ESDIRK, and additive pairs for
split fields.

Hairer & Wanner II, sec. IV.6 and IV.8; additive pairs: Kennedy & Carpenter, Appl. Numer. Math. 44
(2003), sec. 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..algebra.combine import CoefficientRow, combine
from ..algebra.newton import UNKNOWN, implicit_diff, newton_to_rounding, simplified_newton
from ..algebra.structure import linearise
from ..core.arithmetic import Floats
from ..core.status import Status
from .base import Controlled, OneStep, Step
from .jacobian_reuse import (
    ITERATIONS,
    SLOW,
    ReusesJacobian,
    graph_disabled,
    growth_after_newton,
    remembered_rate,
)

if TYPE_CHECKING:
    from ..algebra.mass import Mass
    from ..algebra.newton import Newton
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField


# Slopes from which the next stage is extrapolated: more of them amplify the errors of stiff stages.
PREDICTING = 3


class State(NamedTuple):
    """first: slope at the start of the step, None where it is not known; past: ratios of the last
    two steps.

    jac: Jacobian in use, None if there is none; origin: (t, y) at which it was made, and the scale
    with which solver was; fresh: whether that is the start of this step; solver: M - c jac
    factorised; rate: of Newton's convergence with it, UNKNOWN where nothing told.
    """

    first: torch.Tensor | None
    past: tuple
    jacobian: Any
    jac: Any
    origin: tuple | None
    fresh: bool
    solver: Any
    c: float
    rate: float


class Stages(NamedTuple):
    """ks: slopes of all stages (sums of both parts of a split field). ys: states of all stages.
    first, last: slopes at the ends of the step; last is None if no stage gives it. rate,
    iterations: of the slowest stage's Newton iteration; rate is UNKNOWN if no stage measured one,
    and infinite if a value was not finite. y: (n,), the end of the step, None if an iteration
    failed."""

    ks: list
    ys: list
    first: torch.Tensor | None
    last: torch.Tensor | None
    rate: float
    iterations: int
    y: torch.Tensor | None


@dataclass(frozen=True, kw_only=True, repr=False)
class DIRK(ReusesJacobian, Controlled, OneStep):
    """Runs a diagonally implicit tableau; with a companion, split fields are integrated as an
    additive pair.

    The Jacobian is kept while Newton's iteration converges, its factorisation while the step stays
    the same.

    With a mass matrix M the slopes k_i are those of the state, M k_i = f_i. A singular M does not
    determine all of their components; k_i = (Y_i - base_i) / (h gamma) gives them, except in an
    explicit first stage. Therefore the end of the step (``takes_mass``), its error (``filtered``)
    and the dense output (``dense_weights``) must not depend on these components of that stage. With
    a mass matrix a split field is integrated as the sum of its parts. Hairer & Wanner II, sec.
    VI.1.
    """

    jacobian: object = "dense"
    companion: ClassVar[Any] = None
    family = "diagonally implicit Runge-Kutta"
    implicit = True
    structures = ("dense", "sparse", "banded", "krylov")

    @cached_property
    def gamma(self) -> float:
        return float(self.tableau.a[-1][self.tableau.stages - 1])

    @cached_property
    def rows(self) -> tuple[list[CoefficientRow], CoefficientRow, CoefficientRow]:
        """Rows of a left of the diagonal, b, b_err."""
        tb = self.tableau
        return (
            [CoefficientRow(row[:i]) for i, row in enumerate(tb.a)],
            CoefficientRow(tb.b),
            CoefficientRow(tb.b_err),
        )

    @cached_property
    def rows_explicit(self) -> tuple[list[CoefficientRow], CoefficientRow]:
        """Rows of the companion's a, and what its b adds to the last stage."""
        b = self.companion.b
        last = self.companion.matrix()[-1]
        return [CoefficientRow(row) for row in self.companion.a], CoefficientRow(
            [float(x) - y for x, y in zip(b, last)]
        )

    @cached_property
    def nodes(self) -> list[float]:
        return [float(c) for c in self.tableau.c]

    @cached_property
    def begins_explicitly(self) -> bool:
        return not any(self.tableau.a[0])

    @cached_property
    def stiffly_accurate(self) -> bool:
        """The last stage is the end of the step."""
        return tuple(self.tableau.a[-1]) == tuple(self.tableau.b)

    @cached_property
    def takes_mass(self) -> bool:  # type: ignore[override]
        """Whether the algebraic equations of a singular M hold at the end of a step, and the next
        step does not depend on slopes that they do not determine. This is so for stiffly accurate
        methods whose stability function vanishes at infinity."""
        return self.stiffly_accurate and abs(self._carried(np.eye(self.tableau.stages)[-1])) < 1e-10

    def _carried(self, weights: np.ndarray) -> Any:
        """The coefficient of an explicit first stage's slope in sum_i weights_i k_i if all Y_i are
        given. weights: (stages, ...)."""
        if not self.begins_explicitly:
            return 0.0 * weights[0]
        a = self.tableau.matrix()
        return weights[0] - np.linalg.solve(a[1:, 1:], a[1:, 0]) @ weights[1:]

    def dense_weights(self, mass: Mass | None) -> np.ndarray:
        """(stages, degree) weights of the continuous extension. With a mass matrix the Y_i do not
        determine all of an explicit first stage's slope. The missing part comes from the polynomial
        through the other slopes."""
        if mass is None:
            return self.tableau.dense_weights
        return self._dense_with_mass

    @cached_property
    def _dense_with_mass(self) -> np.ndarray:
        dense = self.tableau.dense_weights
        excess = self._carried(dense)
        if np.abs(excess).max(initial=0.0) < 1e-10:
            return dense
        # q: sum_i q_i k_i is the slope at the start, exact for parabolas, of least norm.
        conditions = np.array(self.nodes) ** np.arange(min(3, self.tableau.stages - 1))[:, None]
        conditions = np.vstack(
            (conditions, [self._carried(row) for row in np.eye(self.tableau.stages)])
        )
        wanted = np.eye(len(conditions))[0]
        q = np.linalg.lstsq(conditions, wanted, rcond=None)[0]
        return dense - np.outer(np.eye(len(q))[0] - q, excess)

    @cached_property
    def predictors(self) -> list[CoefficientRow]:
        """Row i gives the start of Newton's iteration at stage i: y + h sum_j row_ij k_j over the
        slope at the start of the step (j = 0) and those of the earlier stages: the integral of the
        polynomial through the first and the nearest of them."""
        if self.begins_explicitly:
            shift = 0
        else:
            shift = 1
        nodes = [0.0] * shift + self.nodes
        rows = []
        for i in range(shift, len(nodes)):
            chosen = [0][:i]
            for j in sorted(range(1, i), key=lambda j: abs(nodes[j] - nodes[i])):
                if len(chosen) < PREDICTING and all(
                    abs(nodes[j] - nodes[m]) > 0.05 for m in chosen
                ):
                    chosen.append(j)
            row = np.zeros(i)
            if chosen:
                powers = np.arange(len(chosen))
                moments = nodes[i] ** (powers + 1) / (powers + 1)
                row[chosen] = np.linalg.solve(
                    np.vander([nodes[j] for j in chosen], increasing=True).T, moments
                )
            rows.append(CoefficientRow(row))
        return rows

    @cached_property
    def filtered(self) -> bool:
        """Whether the error estimate grows with the stiffness: then it takes (I - gamma h J)^-1, so
        that it does not count what the step damps (Hosea & Shampine 1996, sec. 4). Otherwise that
        would hide errors that are there."""
        a = self.tableau.matrix()
        weights = np.array([float(x) for x in self.tableau.b_err])
        stiff = -1e6
        grown = stiff * weights @ np.linalg.solve(np.eye(len(a)) - stiff * a, np.ones(len(a)))
        return bool(abs(grown) > 1)

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor | None, h: float, tol: Tolerance
    ) -> State:
        if self.splits(field):
            first = None
        else:
            first = f0
        return State(
            first,
            (1.0, 1.0),
            linearise(self.implicit_part(field)),
            None,
            None,
            False,
            None,
            0.0,
            UNKNOWN,
        )

    def implicit_part(self, field: VectorField) -> VectorField:
        """The field that is linearised: the implicit part of a split one, in the structure given
        for the whole."""
        if not self.splits(field):
            return field
        part = field.parts[0]
        part.structure = field.structure
        return part

    def splits(self, field: VectorField) -> bool:
        """Whether the field is integrated in two parts."""
        return self.companion is not None and field.parts is not None and field.mass is None

    def linearised(
        self, field: VectorField, t: float, y: Tensor, state: State
    ) -> tuple[Any, State]:
        """(Jacobian that a step from here starts with, state that holds it)."""
        if state.jac is None:
            state = self.with_jacobian(state, t, y)
        return state.jac, state

    def trim_tape(self, tape: Any) -> tuple:
        return None, tape[1]

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: State, tol: Tolerance
    ) -> Step:
        """One step; y: (n,). Newton's iterations synchronise once each, the norm of the error
        once."""
        c = self.gamma * h
        if state.first is not None and field.mass is None and self._below_rounding(h, state.c, tol):
            state = state._replace(first=None)
        if torch.is_grad_enabled():
            start = y.detach()
        else:
            start = y
        scale = tol.scale(start)
        if state.c == c:
            used = state
        else:
            used = state._replace(c=c, solver=None)
        solve = partial(self._solve, field, t, y, h, state, scale, tol)
        stages, used = self.converged(used, t, start, scale, solve)
        if stages is None or stages.y is None:
            return self._newton_failed(field, t, h, state, used, stages)
        y1 = stages.y
        tape = stages.ks, stages.ys
        rate = remembered_rate(Floats, stages.rate, stages.iterations > 1)
        if SLOW < rate < UNKNOWN:
            jac = None
        else:
            jac = used.jac
        ended = used._replace(first=stages.last, jac=jac, fresh=False, rate=rate)
        if not self.adaptive:
            return Step(t, h, y, y1, 0.0, 1.0, ended, tape)
        ratio = self._ratio(field, h, y, stages, used.solver, tol)
        factor, past = self.next_factor(ratio, state.past)
        if ratio <= 1.0:
            factor = growth_after_newton(Floats, factor, stages.iterations, ITERATIONS)
            return Step(t, h, y, y1, ratio, factor, ended._replace(past=past), tape)
        next_state = used._replace(first=stages.first, rate=rate)
        return Step.refused(t, h, y, y1, ratio, factor, next_state)

    @staticmethod
    def _newton_failed(
        field: VectorField, t: float, h: float, state: State, used: State, stages: Stages | None
    ) -> Step:
        """Newton's iteration failed with a Jacobian of this very point: halve the step. state:
        before the step; used: with the Jacobian; stages: None where the matrix was singular."""
        field.stats.newton_failures += 1
        finite = stages is not None and stages.rate < math.inf
        if stages is None:
            first = state.first
        else:
            first = stages.first
        next_state = state._replace(
            first=first,
            jac=used.jac if finite else None,
            origin=used.origin,
            fresh=finite,
            solver=None,
        )
        return Step.failed(
            t, h, 0.5, next_state, Status.NEWTON if finite or stages is None else Status.NONFINITE
        )

    def _ratio(
        self, field: VectorField, h: float, y: Tensor, stages: Any, solver: Any, tol: Tolerance
    ) -> float:
        """The scaled error of a step."""
        with graph_disabled():
            error = combine(None, h, self.rows[2], stages.ks)
            if self.filtered:
                error = solver.solve(error if field.mass is None else field.mass.times(error))
                field.stats.nsolve += 1
            return tol.ratio(error, y, stages.y)

    @staticmethod
    def _below_rounding(h: float, c: float, tol: Tolerance) -> bool:
        """Whether the slope from a step with diagonal c is too coarse for a step of h. The slope
        (Y - base) / c has the rounding error of y divided by c, which is large if a stop cut that
        step to almost nothing."""
        return abs(h) * tol.rounding_floor > abs(c) > 0

    def _solve(
        self,
        field: VectorField,
        t: float,
        y: Tensor,
        h: float,
        before: State,
        scale: Tensor,
        tol: Tolerance,
        solver: Any,
        rate: float,
    ) -> Stages:
        """All stages of one step; y is None where Newton's iteration failed."""
        implicit, explicit = self._parts(field)
        split = explicit is not None
        c = self.gamma * h
        rates = []
        most = 0
        ks = []
        ys = []
        ls: list[Any] = []
        if before.first is None:
            first = implicit(t, y)
        else:
            first = before.first
        if self.begins_explicitly:
            known = []
        else:
            known = [first]
        for i, node in enumerate(self.nodes):
            if i == 0 and self.begins_explicitly:
                ys.append(y)
                ks.append(first)
            else:
                base = combine(y, h, self.rows[0][i], ks)
                guess = combine(y, h, self.predictors[i], known + ks)
                if split:
                    base = combine(base, h, self.rows_explicit[0][i], ls)
                    guess = combine(guess, h, self.rows_explicit[0][i], ls)
                result = self._stage(
                    implicit,
                    t + node * h,
                    base,
                    guess,
                    c,
                    before.jacobian,
                    solver,
                    scale,
                    tol,
                    rate,
                )
                most = max(most, result.iterations)
                if result.y is None:
                    if math.isfinite(result.norm):
                        rate = result.rate
                    else:
                        rate = math.inf
                    return Stages(ks, ys, first, None, rate, most, None)
                rate = result.rate
                if rate < UNKNOWN:
                    rates.append(rate)
                ys.append(result.y)
                # The slope that the stage's equation implies: f would multiply the iteration's rest
                # by the stiffness.
                ks.append((result.y - base) / c)
            if split:
                ls.append(explicit(t + node * h, ys[-1]))
        y1, last = self._end(y, h, ks, ys, ls, split)
        if split:
            ks = [k + x for k, x in zip(ks, ls)]
        return Stages(ks, ys, first, last, max(rates, default=UNKNOWN), most, y1)

    def _parts(self, field: VectorField) -> tuple[Any, Any]:
        """(implicit part, explicit part) of the field, the latter None where it is not split."""
        if self.splits(field):
            return field.parts
        return field, None

    def _end(
        self, y: Tensor, h: float, ks: list[Tensor], ys: list[Tensor], ls: list[Tensor], split: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(y (n,) at the end of the step, slope (n,) there, None where no stage gives it). ks, ys:
        slopes and states of all stages; ls: slopes of the explicit part of a split field."""
        if self.stiffly_accurate:
            y1 = ys[-1]
        else:
            y1 = combine(y, h, self.rows[1], ks)
        if split:
            return combine(y1, h, self.rows_explicit[1], ls), None
        return y1, ks[-1] if self.stiffly_accurate else None

    def _stage(
        self,
        field: Any,
        t: float,
        base: Tensor,
        guess: Tensor,
        c: float,
        jacobian: Any,
        solver: Any,
        scale: Tensor,
        tol: Tolerance,
        rate: float,
    ) -> Newton:
        """Newton's iteration for one stage, from guess (n,); where a graph is recorded, its
        solution has the derivatives in base (n,) and in the parameters."""
        if not torch.is_grad_enabled():
            return self._newton(field, t, base, guess, c, jacobian, solver, scale, tol, rate)
        with torch.no_grad():
            result = self._newton(
                field, t, base.detach(), guess.detach(), c, jacobian, solver, scale, tol, rate
            )
        if result.y is None:
            return result
        exact = jacobian.factorised(jacobian(t, result.y), c)
        return result._replace(y=implicit_diff(field, t, base, 0.0, c, exact, result.y))

    def _newton(
        self,
        field: Any,
        t: float,
        base: Tensor,
        guess: Tensor,
        c: float,
        jacobian: Any,
        solver: Any,
        scale: Tensor,
        tol: Tolerance,
        rate: float,
    ) -> Newton:
        """Newton's iteration for one stage."""
        history_term = guess - base
        if self.adaptive:
            return simplified_newton(
                field,
                t,
                guess,
                history_term,
                c,
                scale,
                tol,
                tol.stage_newton_tol,
                solver,
                rate,
                ITERATIONS,
            )

        def factorise(y: Tensor) -> Any:
            return jacobian.factorised(jacobian(t, y), c)

        return newton_to_rounding(
            field,
            t,
            guess,
            history_term,
            c,
            scale,
            tol,
            solver,
            rate,
            4 * ITERATIONS,
            factorise,
        )

    def stages(self, field: VectorField, step: Step) -> Tensor | list[Tensor]:
        return step.tape[0]
