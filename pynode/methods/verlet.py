"""Velocity Verlet (Stoermer-Verlet, leapfrog): symplectic, symmetric, of order 2, on fixed steps.

Verlet, Phys. Rev. 159 (1967); Hairer, Lubich & Wanner, Geometric Numerical Integration, sec. I.1.4
and VI.3.

It takes only separable systems: y = (q, p), two parts of equal size, with dq/dt = v(t, p) and dp/dt
= a(t, q). f returns both. If dq/dt depends on q, or dp/dt on p, the result has order 1 at best and
is not symplectic.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .base import Method, Step
from .rkc import hermite

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField


class State(NamedTuple):
    """force: (n/2,) dp/dt at the start of the step."""

    force: torch.Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class VelocityVerlet(Method):
    """Kick, drift, kick: two evaluations of f in each step. It has no error estimate, so it needs
    step_size."""

    adaptive: bool = field(default=True, repr=False)
    name = "VelocityVerlet"
    order = 2
    reference = (
        "Verlet, Phys. Rev. 159 (1967); Hairer, Lubich & Wanner, Geometric Numerical Integration,"
        " sec. I.1.4"
    )
    family = "symplectic"
    state_tensors = ("force",)
    separable = True

    def fixed(self) -> VelocityVerlet:
        return replace(self, adaptive=False)

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor, h: float, tol: Tolerance
    ) -> State:
        if self.adaptive:
            raise ValueError(f"{self.name} does not estimate its error: give step_size")
        if len(y) % 2:
            raise ValueError(
                f"{self.name} needs a state (q, p) of two parts of equal size, not {len(y)}"
                " components"
            )
        return State(f0[len(y) // 2 :])

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: State, tol: Tolerance
    ) -> Step:
        """One step; y: (n,) with q in the first half and p in the second."""
        half = len(y) // 2
        q = y[:half]
        p = y[half:]
        middle = torch.add(p, state.force, alpha=h / 2)
        velocity = field(t + h / 2, torch.cat((q, middle)))[:half]
        q1 = torch.add(q, velocity, alpha=h)
        force = field(t + h, torch.cat((q1, middle)))[half:]
        y1 = torch.cat((q1, torch.add(middle, force, alpha=h / 2)))
        step = Step(t, h, y, y1, 0.0, 1.0, State(force))
        step.before = self, state, tol
        return step

    def trim_tape(self, tape: Any) -> None:
        return None

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        """(4, n) coefficients of the powers of theta: the cubic through both ends with their
        slopes."""
        first = field(step.t, step.start)
        last = field(step.t + step.h, step.y)
        return hermite(step.start, step.y, first * step.h, last * step.h)
