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
    converges_slowly,
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
    """first: slope at the start of the step, or None; past: ratios of the last two steps.

    jac: the current Jacobian, or None; origin: (t, y, scale): the point of jac, and the weights of
    the norm for solver; fresh: whether this is the start of the step; solver: the factorisation of
    M - c jac; rate: the rate of Newton's convergence with it, UNKNOWN without a measurement.
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


def below_rounding(h: float, c: float, rounding_floor: float) -> bool:
    """Whether the slope from a step with diagonal c is too coarse for a step of h. The slope
    (Y - base) / c has the rounding error of y divided by c, which is large if a stop cut that step
    to almost nothing. rounding_floor: see Tolerance."""
    return abs(h) * rounding_floor > abs(c) > 0


@dataclass(frozen=True, kw_only=True, repr=False)
class DIRK(ReusesJacobian, Controlled, OneStep):
    """Runs a diagonally implicit tableau. With a companion it integrates split fields as an
    additive pair.

    It keeps the Jacobian while Newton's iteration converges, and the factorisation while the step
    stays the same.

    With a mass matrix M the slopes k_i are those of the state, M k_i = f_i. A singular M does not
    determine all of their components; k_i = (Y_i - base_i) / (h gamma) gives them, except in an
    explicit first stage. Therefore the end of the step (``takes_mass``), its error (``filtered``)
    and the dense output (``dense_weights``) must not depend on these components of that stage. With
    a mass matrix it integrates a split field as the sum of its parts. Hairer & Wanner II, sec.
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
        """Rows of the companion's a, and its b minus its last row."""
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
        last = np.eye(self.tableau.stages)[-1]
        return self.stiffly_accurate and abs(self._first_slope_weight(last)) < 1e-10

    def _first_slope_weight(self, weights: np.ndarray) -> Any:
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
        excess = self._first_slope_weight(dense)
        if np.abs(excess).max(initial=0.0) < 1e-10:
            return dense
        # q: sum_i q_i k_i is the slope at the start, exact for parabolas, of least norm.
        conditions = np.array(self.nodes) ** np.arange(min(3, self.tableau.stages - 1))[:, None]
        conditions = np.vstack(
            (conditions, [self._first_slope_weight(row) for row in np.eye(self.tableau.stages)])
        )
        wanted = np.eye(len(conditions))[0]
        q = np.linalg.lstsq(conditions, wanted, rcond=None)[0]
        return dense - np.outer(np.eye(len(q))[0] - q, excess)

    @cached_property
    def predictors(self) -> list[CoefficientRow]:
        """Row i gives the start of Newton's iteration at stage i: y + h sum_j row_ij k_j. The k_j
        are the slope at the start of the step (j = 0) and the slopes of the earlier stages. The sum
        is the integral of the polynomial through k_0 and the nearest others."""
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
        """Whether the error estimate grows with the stiffness. Then (I - gamma h J)^-1 filters it,
        so that it does not count what the step damps (Hosea & Shampine 1996, sec. 4). For other
        methods the filter would hide true errors."""
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
        """The field to linearise: for a split field its implicit part, with the structure of the
        whole."""
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
        """(Jacobian at the start of the step, state that holds it)."""
        if state.jac is None:
            state = self.with_jacobian(state, t, y)
        return state.jac, state

    def trim_tape(self, tape: Any) -> tuple:
        return None, tape[1]

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: State, tol: Tolerance
    ) -> Step:
        """One step; y: (n,). Each Newton iteration synchronises once, and so does the norm of the
        error."""
        c = self.gamma * h
        if (
            state.first is not None
            and field.mass is None
            and below_rounding(h, state.c, tol.rounding_floor)
        ):
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
        if converges_slowly(rate, SLOW):
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
        """Newton's iteration failed with a Jacobian at this point itself: halve the step. state:
        before the step; used: with the Jacobian; stages: None if the matrix was singular."""
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
        """All stages of one step; y is None if Newton's iteration failed."""
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
                # The slope follows from the stage's equation. An evaluation of f would multiply the
                # remaining error of the iteration by the stiffness.
                ks.append((result.y - base) / c)
            if split:
                ls.append(explicit(t + node * h, ys[-1]))
        y1, last = self._end(y, h, ks, ys, ls, split)
        if split:
            ks = [k + x for k, x in zip(ks, ls)]
        return Stages(ks, ys, first, last, max(rates, default=UNKNOWN), most, y1)

    def _parts(self, field: VectorField) -> tuple[Any, Any]:
        """(implicit part, explicit part) of the field. The second is None for a field without
        parts."""
        if self.splits(field):
            return field.parts
        return field, None

    def _end(
        self, y: Tensor, h: float, ks: list[Tensor], ys: list[Tensor], ls: list[Tensor], split: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(y, slope) at the end of the step, (n,). The slope is None if no stage gives it. ks, ys:
        slopes and states of all stages; ls: slopes of the explicit part of a split field."""
        if self.stiffly_accurate:
            y1 = ys[-1]
        else:
            y1 = combine(y, h, self.rows[1], ks)
        if split:
            return combine(y1, h, self.rows_explicit[1], ls), None
        if self.stiffly_accurate:
            return y1, ks[-1]
        return y1, None

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
        """Newton's iteration for one stage, from guess (n,). If a graph is recorded, the solution
        has its derivatives with respect to base (n,) and the parameters."""
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
