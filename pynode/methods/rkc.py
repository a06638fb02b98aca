"""RKC: a stabilised explicit Runge-Kutta-Chebyshev method of order 2. Stability determines how many
stages a step has.

Sommeijer, Shampine & Verwer, RKC: an explicit solver for parabolic PDEs, J. Comput. Appl. Math. 88
(1998) 315-326. It suits mildly stiff problems with eigenvalues near the negative axis
(diffusion): s stages are stable up to 2/3 s^2 instead of 2 s, without Jacobian or linear system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..algebra.power_method import any_direction, power_method, scaled_difference_product
from ..core.status import Status
from .base import Controlled, Step

if TYPE_CHECKING:
    from ..core.norm import Tolerance
    from ..core.vector_field import VectorField


DAMPING = 2 / 13
AGE = 25  # accepted steps before a new estimate of the spectral radius
SAFETY = 1.2  # factor on the estimate, which is a lower bound
ITERATIONS = 50  # of the power method at most


class State(NamedTuple):
    """first: f at the start of the step; past: ratios of the last two steps; radius: estimate of
    the spectral radius of df/dy, None if a new one is due; vector: its direction, (n,); age: steps
    since the estimate."""

    first: torch.Tensor
    past: tuple
    radius: float | None
    vector: torch.Tensor | None
    age: int


@cache
def coefficients(s: int) -> tuple[float, list[tuple[float, float, float, float, float]]]:
    """(mu~_1, [(c_(j-1), mu_j, nu_j, mu~_j, gamma~_j) for j = 2 .. s]), eqs. (2.2) to (2.8) of the
    paper."""
    w0 = 1 + DAMPING / s**2
    t = [1.0, w0]
    d = [0.0, 1.0]
    dd = [0.0, 0.0]
    for _ in range(2, s + 1):
        dd.append(2 * w0 * dd[-1] + 4 * d[-1] - dd[-2])
        d.append(2 * w0 * d[-1] + 2 * t[-1] - d[-2])
        t.append(2 * w0 * t[-1] - t[-2])
    w1 = d[s] / dd[s]
    b = [0.0, 0.0] + [dd[j] / d[j] ** 2 for j in range(2, s + 1)]
    b[0] = b[1] = b[2]
    c = [0.0, 0.0] + [w1 * dd[j] / d[j] for j in range(2, s + 1)]
    c[1] = w1 * b[1]
    rows = []
    for j in range(2, s + 1):
        slope = 2 * b[j] * w1 / b[j - 1]
        rows.append(
            (
                c[j - 1],
                2 * b[j] * w0 / b[j - 1],
                -b[j] / b[j - 2],
                slope,
                -(1 - b[j - 1] * t[j - 1]) * slope,
            )
        )
    return b[1] * w1, rows


@dataclass(frozen=True, kw_only=True, repr=False)
class RKC(Controlled):
    """Order 2; the number of stages follows from h and the spectral radius."""

    name = "RKC"
    order = 2
    reference = (
        "Sommeijer, Shampine & Verwer, RKC: an explicit solver for parabolic PDEs,"
        " J. Comput. Appl. Math. 88 (1998)"
    )
    family = "stabilised Runge-Kutta"
    state_tensors = ("first",)
    memory = (3, 4)
    # One step may need 20,000 evaluations. Without this limit a stiff problem runs for hours.
    evaluations_a_step = 10

    @property
    def error_order(self) -> int:
        return 3

    def init(
        self, field: VectorField, t: float, y: Tensor, f0: Tensor, h: float, tol: Tolerance
    ) -> State:
        return State(f0, (1.0, 1.0), None, None, 0)

    def step(
        self, field: VectorField, t: float, y: Tensor, h: float, state: Any, tol: Tolerance
    ) -> Step:
        """One step; y: (n,). It synchronises once, at the error. Every AGE steps the power method
        synchronises too."""
        before = self, state, tol
        if state.radius is None:
            radius, vector = spectral_radius(
                field, t, y.detach(), state.first.detach(), state.vector, tol
            )
            state = state._replace(radius=radius, vector=vector, age=0)
        s = 2 + int(math.sqrt(1.54 * abs(h) * state.radius + 1))
        most = max(2, int(math.sqrt(max(tol.rtol, 1e-15) / (10 * torch.finfo(y.dtype).eps))))
        if s > most:
            # Rounding does not permit so many stages in one step.
            return Step.failed(t, h, 0.9 * (most / s) ** 2, state, Status.STEP_TOO_SMALL)
        first, rows = coefficients(s)
        f0 = state.first
        older = y
        newer = torch.add(y, f0, alpha=h * first)
        for c, mu, nu, slope, slope0 in rows:
            f = field(t + c * h, newer)
            value = y * (1 - mu - nu) + mu * newer + nu * older
            older = newer
            newer = torch.add(torch.add(value, f, alpha=h * slope), f0, alpha=h * slope0)
        y1 = newer
        f1 = field(t + h, y1)
        after = state._replace(first=f1, age=state.age + 1)
        if after.age >= AGE:
            after = after._replace(radius=None)
        ratio = 0.0
        factor = 1.0
        if self.adaptive:
            with torch.no_grad():
                error = torch.add(0.8 * (y - y1), f0 + f1, alpha=0.4 * h)
                ratio = tol.ratio(error, y, y1)
            factor, past = self.next_factor(ratio, state.past)
            if not ratio <= 1.0:
                if state.age > 0:
                    state = state._replace(radius=None)
                return Step.refused(t, h, y, y1, ratio, factor, state)
            after = after._replace(past=past)
        step = Step(t, h, y, y1, ratio, factor, after, (f0, f1))
        step.before = before
        return step

    def trim_tape(self, tape: Any) -> None:
        return None

    def polynomial(self, field: VectorField, step: Step) -> Tensor:
        """(4, n) coefficients of the powers of theta: the cubic through both ends with their
        slopes."""
        return hermite(step.start, step.y, step.tape[0] * step.h, step.tape[1] * step.h)


def hermite(y0: Tensor, y1: Tensor, slope0: Tensor, slope1: Tensor) -> Tensor:
    """(4, n) coefficients of the powers of theta of the cubic with values y0, y1 and slopes in
    theta slope0, slope1."""
    rise = y1 - y0
    return torch.stack((y0, slope0, 3 * rise - 2 * slope0 - slope1, slope0 + slope1 - 2 * rise))


def spectral_radius(
    field: VectorField, t: float, y: Tensor, f0: Tensor, vector: Tensor | None, tol: Tolerance
) -> tuple[float, Tensor | None]:
    """(SAFETY times the largest |eigenvalue| of df/dy at (t, y), its direction), as in the code
    RKC.

    f0: f(t, y); vector: the direction of the last estimate, None at first.
    """
    if vector is None:
        v = f0 / tol.scale_or_inf(tol.scale(y))
    else:
        v = vector
    if not 0 < v.norm().item() < math.inf:
        v = any_direction(y)
    product = scaled_difference_product(field, t, y, f0, tol)
    mode = power_method(product, v, ITERATIONS, accuracy=0.05)
    if mode.vector is None:
        return 0.0, None
    return SAFETY * mode.radius, mode.vector
