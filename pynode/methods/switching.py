"""Automatic switching between an explicit and a stiff method. The steps themselves show the
stiffness.

The rule is that of OrdinaryDiffEq.jl's AutoSwitch. It compares h rho with the boundary of the
explicit method's stability on the negative axis; rho estimates the spectral radius of df/dy. In
explicit steps rho is the quotient of two stages at the same time (Shampine 1977; Hairer & Wanner
II, sec. IV.2). In stiff steps it comes from the current Jacobian.

At tight tolerances this rule never sees stiffness. The error of the decayed modes keeps the steps
of a high-order method well inside its stability region, and the quotient of two stages may not see
these modes. After many explicit steps a power method in f therefore tests whether the fastest mode
is damped and fast enough to hold the steps back. If so, the stiff method is tried. If its steps
stay short, the rule above switches back to the explicit method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..algebra.combine import CoefficientRow, combine
from ..algebra.power_method import (
    any_direction,
    power_method,
    scaled_difference_product,
    scaled_matrix_product,
)
from .base import Method
from .explicit import ExplicitRungeKutta

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField
    from .base import Step


# Consecutive steps that must indicate a change.
TO_STIFF = 10
TO_NONSTIFF = 3
LIMIT = 0.9  # of the stability boundary
# The step grows by this factor when the stiff method begins, and shrinks by it when it ends.
STEP_FACTOR = 2.0
ITERATIONS = 2  # of the power method in a stiff step; it starts from the last step's vector
WORTH = 1.0  # for a larger h rho a decayed mode may limit an explicit step
SUSPECT = 4  # an explicit step with h rho above WORTH counts as so many
# Explicit steps before the first test of f, and the factor on this number for each next test.
PATIENCE = 400
LONGER = 4
# The mode that grows most under J is damped if the cosine of the angle between v and J v is
# smaller.
DAMPED = -0.9


class State(NamedTuple):
    """stiff: whether the stiff method runs. inner: the state of the method that runs. count: the
    number of consecutive steps that indicate stiffness; negative if they indicate the contrary.
    vector: (n,), the direction that grew most under the last Jacobian, or None. waited: explicit
    steps since the last test of f; a suspect step counts as SUSPECT steps. patience: the number of
    these steps before the next test."""

    stiff: bool
    inner: Any
    count: int  # type: ignore[assignment]
    vector: torch.Tensor | None
    waited: int = 0
    patience: int = PATIENCE


@dataclass(frozen=True, repr=False)
class AutoSwitch(Method):
    """Starts with the explicit method. After TO_STIFF stiff steps in a row it switches to the stiff
    method; after TO_NONSTIFF others it switches back. Raises ValueError if a method does not fit
    its part."""

    explicit: Any
    stiff: Any
    family = "automatic switching"
    implicit = True

    def __post_init__(self) -> None:
        explicit = self.explicit
        stiff = self.stiff
        if (
            not isinstance(explicit, ExplicitRungeKutta)
            or explicit.tableau.stages_at_one_time is None
        ):
            raise ValueError(
                f"{explicit.name} cannot detect stiffness: switch from Tsit5, DP5 or Vern7"
            )
        if not hasattr(stiff, "linearised"):
            raise ValueError(
                f"{stiff.name} cannot be switched to: take a one-step stiff method such as Rodas5P"
            )

    @property
    def name(self) -> str:
        return f"Auto{self.explicit.name}({self.stiff.name}())"

    @property
    def order(self) -> int:
        return min(self.explicit.order, self.stiff.order)

    @property
    def reference(self) -> str:
        return f"{self.explicit.reference}; {self.stiff.reference}"

    @property
    def jacobian(self) -> Any:
        return self.stiff.jacobian

    @property
    def error_order(self) -> int:
        return self.explicit.error_order

    @property
    def memory(self) -> tuple[int, int]:
        return self.stiff.memory[0] + 1, self.stiff.memory[1]

    @cached_property
    def comparison(self) -> tuple[int, int, CoefficientRow]:
        """(i, j, row): the two compared stages; h row k is the difference of their states."""
        i, j = self.explicit.tableau.stages_at_one_time
        a = self.explicit.tableau.matrix()
        return i, j, CoefficientRow(a[i] - a[j])

    @property
    def boundary(self) -> float:
        """The point on the negative axis where the stability of the explicit method ends."""
        return self.explicit.tableau.stability_boundary

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor, h: float, tol: Tolerance
    ) -> State:
        return State(False, self.explicit.init(field, t, y, f0, h, tol), 0, None)

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: State, tol: Tolerance
    ) -> Step:
        """One step of the method that runs; y: (n,). The estimate adds one synchronisation."""
        method = self.explicit
        inner = state.inner
        vector: Any = state.vector
        jac: Any = None
        if state.stiff:
            method = self.stiff
            jac, inner = method.linearised(field, t, y, inner)
        step = method.step(field, t, y, h, inner, tol)
        step.method = method
        if not step.accepted:
            step.state = state._replace(inner=step.state)
            return step
        if state.stiff:
            iterations = ITERATIONS
            if vector is None:
                vector = any_direction(y.detach())
                iterations = 4 * ITERATIONS
            mode = power_method(scaled_matrix_product(jac, y.detach(), tol), vector, iterations)
            radius = mode.radius
            vector = mode.vector
        else:
            radius = self._quotient(step, tol.scale(y).detach())
        size = abs(h) * radius
        waited = 0
        patience = state.patience
        if size > LIMIT * self.boundary:
            count = max(state.count, 0) + 1
        else:
            count = min(state.count, 0) - 1
        if state.stiff:
            switch = count < -TO_NONSTIFF
        else:
            switch = count > TO_STIFF
        if not state.stiff and not switch:
            if size > WORTH:
                waited = state.waited + SUSPECT
            else:
                waited = state.waited + 1
            if waited >= patience:
                switch = _held_back(field, t + h, step.y, h, tol)
                waited = 0
                patience = LONGER * patience
        if not switch:
            step.state = State(state.stiff, step.state, count, vector, waited, patience)
            return step
        field.stats.switches += 1
        if state.stiff:
            next_method = self.explicit
            step.factor = 1 / STEP_FACTOR
        else:
            next_method = self.stiff
            step.factor = STEP_FACTOR
        inner = next_method.init(field, t + h, step.y, None, h, tol)
        step.state = State(not state.stiff, inner, 0, None, 0, patience)
        return step

    def _quotient(self, step: Step, scale: Tensor) -> float:
        """|k_i - k_j| / |Y_i - Y_j| in the norm of the tolerances: the growth of f between two
        states at one time."""
        i, j, row = self.comparison
        with torch.no_grad():
            slopes = (step.tape[i] - step.tape[j]) / scale
            states = combine(None, step.h, row, step.tape) / scale
            value = (torch.dot(slopes, slopes) / torch.dot(states, states)).item()
        if math.isfinite(value):
            return math.sqrt(value)
        return 0.0

    def trim_tape(self, tape: Any) -> Any:
        raise AssertionError("a step of automatic switching knows the method that took it")

    def compress_state(self, state: State) -> State:
        return state._replace(inner=self._running(state).compress_state(state.inner))

    def restore_state(self, state: State) -> State:
        return state._replace(inner=self._running(state).restore_state(state.inner))

    def _running(self, state: State) -> Any:
        if state.stiff:
            return self.stiff
        return self.explicit

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        return step.method.polynomial(field, step)


@torch.no_grad()
def _held_back(field: VectorField, t: float, y: Tensor, h: float, tol: Tolerance) -> bool:
    """Whether the fastest mode at (t, y), in the direction of h, is damped and may limit steps of
    h.

    Costs 4 ITERATIONS + 1 evaluations of f.
    """
    product = scaled_difference_product(field, t, y, field(t, y), tol)
    mode = power_method(product, any_direction(y), 4 * ITERATIONS)
    return abs(h) * mode.radius > WORTH and math.copysign(1.0, h) * mode.cosine < DAMPED
