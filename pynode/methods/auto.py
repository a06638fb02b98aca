"""Automatic switching between an explicit method and a stiff one, by the stiffness seen in the steps themselves.

The rule of OrdinaryDiffEq.jl's AutoSwitch: h rho, with rho an estimate of the spectral radius of df/dy, is held against
the boundary of the explicit method's stability on the negative axis. In explicit steps rho is the quotient of two
stages at the same time (Shampine 1977; Hairer & Wanner II, sec. IV.2), in stiff ones it comes from the Jacobian in use.

At tight tolerances that rule alone never speaks: the error of the modes that have decayed holds the steps of a method of high
order well inside its stability. After many such steps a look at the Jacobian tells whether the fastest mode is damped; if it
is, the stiff method is tried, and the rule above brings the explicit one back where its steps stay short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from ..algebra.combine import Row, combine
from .base import Method, OneStep
from .explicit import ExplicitRungeKutta

TO_STIFF, TO_NONSTIFF = 10, 3  # consecutive steps that must speak for a change
LIMIT = 0.9  # of the stability boundary
STEP_FACTOR = 2.0  # by which the step grows on the way to the stiff method, and shrinks on the way back
ITERATIONS = 2  # of the power method in a stiff step, from the last step's vector on
WORTH = 1.0  # h rho from which an explicit step may be held back by a mode that has decayed
PATIENCE, LONGER = 100, 4  # such steps in a row before a trial, and by which factor more before the next one
DAMPED = -0.9  # cosine of the angle between v and J v, from which on the mode that grows most under J is damped


class State(NamedTuple):
    """stiff: which method runs; inner: its state; count: steps in a row that speak for stiffness, negative: against;
    vector: (n,) direction that grew most under the last Jacobian, None where there was none; waited: explicit steps in a
    row with h rho above WORTH; patience: how many of them lead to a trial of the stiff method."""

    stiff: bool
    inner: object
    count: int
    vector: torch.Tensor | None
    waited: int = 0
    patience: int = PATIENCE


@dataclass(frozen=True)
class AutoSwitch(Method):
    """Starts with the explicit method; after TO_STIFF stiff steps in a row goes over to the other one, and back."""

    explicit: ExplicitRungeKutta = None
    stiff: OneStep = None
    implicit = True

    @classmethod
    def of(cls, explicit, stiff):
        """ValueError where one of the two cannot play its part."""
        if not isinstance(explicit, ExplicitRungeKutta) or explicit.tableau.stages_at_one_time is None:
            raise ValueError(f"{explicit.name} cannot detect stiffness: switch from Tsit5, DP5 or Vern7")
        if not hasattr(stiff, "linearised"):
            raise ValueError(f"{stiff.name} cannot be switched to: take a one-step stiff method such as Rodas5P")
        name = f"Auto{explicit.name}({stiff.name}())"
        return cls(name, min(explicit.order, stiff.order), f"{explicit.reference}; {stiff.reference}", explicit, stiff)

    @property
    def error_order(self):
        return self.explicit.error_order

    @property
    def memory(self):
        return self.stiff.memory[0] + 1, self.stiff.memory[1]

    def controlled(self, kind):
        return AutoSwitch.of(self.explicit.controlled(kind), self.stiff.controlled(kind))

    @cached_property
    def comparison(self):
        """(i, j, row): the stages compared, and h row k the difference of their states."""
        i, j = self.explicit.tableau.stages_at_one_time
        a = self.explicit.tableau.matrix()
        return i, j, Row(a[i] - a[j])

    @property
    def boundary(self) -> float:
        """Where the explicit method's stability ends on the negative axis."""
        return self.explicit.tableau.stability_boundary

    def init(self, field, t, y, f0, h, tol):
        return State(False, self.explicit.init(field, t, y, f0, h, tol), 0, None)

    def step(self, field, t, y, h, state, tol):
        """One step of the method that runs; y: (n,). One synchronisation more, for the estimate."""
        method, inner, vector, jac = self.explicit, state.inner, state.vector, None
        if state.stiff:
            method = self.stiff
            jac, inner = method.linearised(field, t, y, inner)
        step = method.step(field, t, y, h, inner, tol)
        step.method = method
        if not step.accepted:
            step.state = state._replace(inner=step.state)
            return step
        scale = tol.scale(y).detach()
        if state.stiff:
            radius, _, vector = fastest_mode(jac, scale, vector)
        else:
            radius = self._quotient(step, scale)
        size, waited, patience = abs(h) * radius, 0, state.patience
        speaks = size > LIMIT * self.boundary
        count = max(state.count, 0) + 1 if speaks else min(state.count, 0) - 1
        switch = count < -TO_NONSTIFF if state.stiff else count > TO_STIFF
        if not state.stiff and not switch:
            waited = state.waited + 1 if size > WORTH else 0
            if waited >= patience:
                switch = self._damped(field, t + h, step.y, h, tol)
                waited, patience = 0, LONGER * patience
        if not switch:
            step.state = State(state.stiff, step.state, count, vector, waited, patience)
            return step
        field.stats.switches += 1
        following = self.explicit if state.stiff else self.stiff
        step.factor = 1 / STEP_FACTOR if state.stiff else STEP_FACTOR
        inner = following.init(field, t + h, step.y, None, h, tol)
        step.state = State(not state.stiff, inner, 0, None, 0, patience)
        return step

    def _damped(self, field, t, y, h, tol) -> bool:
        """Whether the fastest mode at (t, y) is damped: the dominant eigenvalue lies near the negative axis."""
        with torch.no_grad():
            jac, _ = self.stiff.linearised(field, t, y, self.stiff.init(field, t, y, None, h, tol))
            return fastest_mode(jac, tol.scale(y), None)[1] < DAMPED

    def _quotient(self, step, scale) -> float:
        """|k_i - k_j| / |Y_i - Y_j| in the norm of the tolerances: the growth of f between two states at one time."""
        i, j, row = self.comparison
        with torch.no_grad():
            slopes = (step.tape[i] - step.tape[j]) / scale
            states = combine(None, step.h, row, step.tape) / scale
            value = (torch.dot(slopes, slopes) / torch.dot(states, states)).item()
        return math.sqrt(value) if math.isfinite(value) else 0.0

    def slim(self, tape):
        raise AssertionError("a step of automatic switching knows the method that took it")

    def parked(self, state):
        return state._replace(inner=self._running(state).parked(state.inner))

    def restored(self, state):
        return state._replace(inner=self._running(state).restored(state.inner))

    def _running(self, state):
        return self.stiff if state.stiff else self.explicit

    def polynomial(self, field, step):
        return step.method.polynomial(field, step)


def fastest_mode(jac, scale, vector):
    """(estimate of the largest |eigenvalue| of jac, cosine of the angle between v and J v, the vector v to go on from).

    By the power method in units of scale. The cosine is near -1 where that eigenvalue is real and negative. One step's
    Jacobian hardly differs from the last one's, so that few iterations each are enough.
    """
    with torch.no_grad():
        first = vector is None
        v = torch.cos(torch.arange(len(scale), dtype=scale.dtype, device=scale.device)) if first else vector
        jac = jac.detach() * scale / scale.unsqueeze(1)
        for _ in range(4 * ITERATIONS if first else ITERATIONS):
            before = v / v.norm()
            v = torch.mv(jac, before)
        size = v.norm().item()
        if not 0 < size < math.inf:
            return 0.0, 0.0, None
        return size, float(torch.dot(before, v)) / size, v / size
