"""What one solve of a system costs with implicit and with explicit methods, and therefore what
training would cost with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from ..compare.runs import atol_at, solve_problem
from ..problems import Problem


@dataclass(frozen=True)
class Cost:
    """One solve, which stops after max_nfe evaluations. engine: torch, native or another package;
    reached: fraction of the time span; seconds: of this solve."""

    system: str
    method: str
    engine: str
    evaluations: int
    reached: float
    seconds: float

    @property
    def whole(self) -> float:
        """Evaluations for the whole span, if they continued at this rate."""
        if self.reached:
            return self.evaluations / self.reached
        return float("inf")

    @property
    def whole_seconds(self) -> float:
        """Seconds for the whole span, likewise."""
        if self.reached:
            return self.seconds / self.reached
        return float("inf")


def costs(problem: Problem, max_nfe: int, rtol: float = 1e-6, backend: str = "torch") -> list[Cost]:
    """Costs of FBDF, of Tsit5 and, if torchdiffeq is installed, of its dopri5. Each may take at
    most max_nfe evaluations of the field.

    atol is proportional to rtol, in the ratio that the problem suggests. backend: the engine of
    FBDF and Tsit5.
    """
    ours = [_ours(problem, method, max_nfe, rtol, backend) for method in ("fbdf", "tsit5")]
    return ours + _dopri5(problem, max_nfe, rtol)


def _ours(problem, method, max_nfe, rtol, backend):
    if backend == "native":
        # Not timed: the first solve compiles.
        solve_problem(problem, problem.tspan, method, rtol, max_nfe=1, throw=False, backend=backend)
    latest = problem.tspan[0]
    began = time.perf_counter()

    def note(t: torch.Tensor | float, y: Any, stats: Any) -> None:
        nonlocal latest
        latest = float(t)

    limits = {"max_nfe": max_nfe, "max_steps": max_nfe, "callback": note, "throw": False}
    with torch.no_grad():
        solution = solve_problem(problem, problem.tspan, method, rtol, backend=backend, **limits)
    if solution.success:
        reached = 1.0
    else:
        reached = _fraction(latest, problem.tspan)
    return Cost(
        problem.name,
        solution.method,
        solution.backend,
        solution.stats.nfe,
        reached,
        time.perf_counter() - began,
    )


def _fraction(t, span) -> float:
    return (t - span[0]) / (span[1] - span[0])


def _dopri5(problem, max_nfe, rtol):
    try:
        from torchdiffeq import odeint
    except ImportError:
        return []
    latest = problem.tspan[0]
    count = 0
    began = time.perf_counter()
    reached = 1.0

    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal latest, count
        if count == max_nfe:
            raise _Enough
        latest = max(latest, float(t))
        count = count + 1
        return problem.field(t, y)

    try:
        with torch.no_grad():
            times = torch.tensor(problem.tspan, dtype=torch.float64)
            odeint(
                field, problem.y0, times, method="dopri5", rtol=rtol, atol=atol_at(problem, rtol)
            )
    except (_Enough, AssertionError):  # torchdiffeq asserts that its step does not underflow
        reached = _fraction(latest, problem.tspan)
    seconds = time.perf_counter() - began
    return [Cost(problem.name, "dopri5", "torchdiffeq", count, reached, seconds)]


class _Enough(Exception):
    """All evaluations are used."""
