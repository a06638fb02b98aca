"""The steady state that a trajectory reaches: solves to growing times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..integrate import solve

if TYPE_CHECKING:
    from .newton import Equations
    from .rows import BatchOfSystems, SingleSystem

GROWTH = 10.0
MAX_GROWTHS = 14
# Of one solve. A trajectory that comes to rest needs some hundreds. After the first limit it is
# examined whether it ever will.
FIRST_STEPS = 1_000
MAX_STEPS = 10_000


class Frozen(torch.nn.Module):
    """f at one time, as a function that does not depend on t."""

    def __init__(self, f: Callable, t: float) -> None:
        super().__init__()
        self.f = f
        self.t = t

    def forward(self, t: Tensor, y: Any, *args: Any) -> Any:
        return self.f(torch.zeros_like(t) + self.t, y, *args)


class Trajectory:
    """Solves of dy/dt = f(t, y), with t as it was given, from y0 to a later time.

    options: of the solve (method, rtol, atol, backend).
    """

    def __init__(self, rows: SingleSystem | BatchOfSystems, options: dict[str, Any]) -> None:
        self.rows = rows
        self.options = options
        self.f: Callable = rows.problem.f
        if not rows.still():
            self.f = Frozen(rows.problem.f, rows.t)

    def end(self, start: Tensor, which: Tensor, span: float, max_steps: int = MAX_STEPS) -> Tensor:
        """The states, (m, n), a time span after start, (m, n), with their graph.

        Raise SolveError if the solve fails.
        """
        solution = self.solved(start, which, span, {"max_steps": max_steps})
        return self.rows.flat(solution.y)

    def solved(self, start: Tensor, which: Tensor, span: float, options: dict[str, Any]) -> Any:
        """The Solution or BatchSolution of this solve. options: of ``solve``, instead of the usual
        ones."""
        rows = self.rows
        if rows.batched:
            options = {**options, "batched": True, "by_row": rows.by_row}
        return solve(
            self.f,
            rows.state(start),
            [rows.t, rows.t + span],
            args=rows.arguments(which),
            **{**self.options, **options},
        )


def first_span(equations: Equations, which: Tensor) -> float:
    """Ten times the longest time constant of the rows at their starts."""
    start = equations.rows.y0.detach()[which]
    jacobians = equations.rows.jacobians(start, which).to(torch.float64).cpu().numpy()
    longest = 0.0
    for i, jacobian in zip(which.tolist(), jacobians, strict=True):
        reduced = equations.conserved[i].reduced(jacobian)
        if not len(reduced) or not np.isfinite(reduced).all():
            continue
        rates = np.abs(np.linalg.eigvals(reduced).real)
        rates = rates[rates > 1e-12 * rates.max(initial=0.0)]
        if len(rates):
            longest = max(longest, 1 / rates.min())
    return 10 * longest or 1.0
