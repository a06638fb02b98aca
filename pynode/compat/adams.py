"""Adams methods of fixed order on a grid: explicit_adams and implicit_adams. Hairer, Norsett &
Wanner I, sec. III.1."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..methods.base import Step
from .call import BadInput
from .field import CallField
from .methods import RK38, runner

LEAST = 4
MOST = 12
# The default order if the state has a lower precision than float64: above it rounding errors grow.
COARSE = 8


@lru_cache(maxsize=4096)  # random grids never repeat
def weights(nodes: tuple[float, ...]) -> tuple[float, ...]:
    """Weights of f at theta = nodes. The weighted sum is the integral over [0, 1] of the
    interpolating polynomial."""
    integrals = []
    for i, node in enumerate(nodes):
        basis = np.polynomial.Polynomial([1.0])
        for j, other in enumerate(nodes):
            if i != j:
                basis = basis * np.polynomial.Polynomial([-other, 1.0]) / (node - other)
        integrals.append(float(basis.integ()(1.0)))
    return tuple(integrals)


class GridAdams:
    """Adams-Bashforth; with ``corrected`` Adams-Moulton, by functional iteration from it; with up
    to max_order - 1 slopes.

    The first steps use Kutta's three eighths rule. State: ((t, f), ...) of the last steps, the
    latest first. The weights fit the grid also where it is uneven.
    """

    implicit = False  # no Jacobian

    def __init__(self, corrected: bool, max_order: int, max_iters: int = 4) -> None:
        if not 1 <= max_order <= MOST:
            raise BadInput(f"max_order must be at most {MOST} and at least 1, not {max_order}")
        if max_order < LEAST:
            warnings.warn(
                f"max_order is below {LEAST}, so the solver reduces to `rk4`.", stacklevel=5
            )
        self.corrected = corrected
        self.slopes = int(max_order) - 1
        self.iterations = max_iters
        self.starter = runner(RK38).fixed()

    def init(
        self,
        field: CallField,
        t: float,
        y: torch.Tensor,
        f0: torch.Tensor | None,
        h: float,
        tol: Any,
    ) -> tuple:
        return ()

    def step(
        self, field: CallField, t: float, y: torch.Tensor, h: float, state: tuple, tol: Any
    ) -> Step:
        """One step from y, (n,), to t + h."""
        rate = field.rate(y)
        clock = field.clock
        first = field(t, y)
        # Stored slopes are those of func, without the factor of this step's moving time.
        past = ((t, first / rate, None if clock is None else clock[0]), *state)[
            : max(self.slopes, 1)
        ]
        if len(past) < LEAST - 1:
            y1, _, _ = self.starter.attempt(field, t, y, h, first)
            return Step(t, h, y, y1, 0.0, 1.0, past)
        # Always in float64: the weights of high orders are large and of both signs.
        slopes = torch.stack([f for _, f, _ in past]).double()
        size = h * rate
        nodes = [(s - t) / h for s, _, _ in past]
        if clock is None:
            moved = None
        else:
            moved = torch.stack([s for _, _, s in past]).sub(clock[0]) / (clock[1] - clock[0])
        rise = size * (_weights(nodes, moved, slopes) @ slopes).to(y.dtype)
        if not self.corrected:
            return Step(t, h, y, y + rise, 0.0, 1.0, past)
        if moved is not None:
            moved = torch.cat((torch.ones_like(moved[:1]), moved))
        corrector = _weights([1.0, *nodes], moved, slopes)
        explicit = size * (corrector[1:] @ slopes).to(y.dtype)
        converged = False
        for _ in range(self.iterations):
            old = rise
            rise = explicit + h * corrector[0].to(y.dtype) * field(t + h, y + rise)
            # torchdiffeq's test compares the increments, component by component.
            with torch.no_grad():
                converged = bool(
                    ((rise - old).abs() < tol.scale(torch.maximum(old.abs(), rise.abs()))).all()
                )
            if converged:
                break
        if not converged:
            warnings.warn(
                "Functional iteration did not converge. Solution may be incorrect.", stacklevel=2
            )
            past = past[:-1]
        return Step(t, h, y, y + rise, 0.0, 1.0, past)


def _weights(nodes, moved, like):
    """(k,) weights at these nodes. moved: None, or the same nodes as a tensor, (k,), whose gradient
    the weights then have."""
    result = torch.tensor(
        weights(tuple(round(x, 12) for x in nodes)), dtype=torch.float64, device=like.device
    )
    if moved is not None:
        powers = torch.arange(len(nodes), device=like.device)
        table = moved.to(torch.float64) ** powers.unsqueeze(1)
        solved = torch.linalg.solve(table, 1 / (powers + 1).to(torch.float64))
        result = result + (solved - solved.detach())
    return result
