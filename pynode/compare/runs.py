"""Solves of a Problem at its output times, and the distance between solutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..core.cotangents import none_to_zeros
from ..core.protocols import Times
from ..core.solution import Solution
from ..core.status import SolveError
from ..integrate import solve
from ..methods.base import Method
from ..problems import Problem
from .defaults import REFERENCE_RTOLS

REFERENCE = "rodas5p"  # the method of the reference solve


def output_times(problem: Problem) -> torch.Tensor:
    """(T,) output times from the start to the end of the span: the problem's own, or a hundred
    evenly spaced ones."""
    t0, t1 = problem.tspan
    if problem.t_eval is None:
        return torch.linspace(t0, t1, 101, dtype=torch.float64)
    if t1 > t0:
        inner = problem.t_eval[problem.t_eval > t0]
    else:
        inner = problem.t_eval[problem.t_eval < t0]
    return torch.cat((torch.tensor([t0], dtype=torch.float64), inner))


def atol_at(problem: Problem, rtol: float) -> torch.Tensor:
    """atol, () or (n,). It is proportional to rtol, in the ratio that the problem suggests."""
    return torch.as_tensor(problem.atol, dtype=problem.y0.dtype) * (rtol / problem.rtol)


def solve_problem(
    problem: Problem,
    times: Times,
    method: str | Method,
    rtol: float,
    start: torch.Tensor | None = None,
    **options: Any,
) -> Solution:
    """Solve the problem from start, by default its own. atol is proportional to rtol."""
    if start is None:
        start = problem.y0
    atol = atol_at(problem, rtol)
    return solve(problem.field, start, times, method=method, rtol=rtol, atol=atol, **options)


def weighted_gradients(states: torch.Tensor, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The gradients, with respect to the inputs, of a fixed random weighting of states (T, n). Each
    component is in units of its largest value, so that all components count. The gradient is zero
    for inputs that the states do not depend on."""
    weights = torch.randn(
        states.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    largest = states.detach().abs().amax(0)
    loss = (weights.to(states) / torch.where(largest > 0, largest, 1.0) * states).sum()
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    return none_to_zeros(gradients, inputs)


def reference(
    problem: Problem,
    times: Times,
    rtols: Sequence[float] = REFERENCE_RTOLS,
    backend: str = "auto",
) -> tuple[torch.Tensor, str]:
    """(the states (T, n) of a tight solve, its description). The solve uses the first of rtols that
    succeeds. Raises SolveError if even the last one fails."""
    for rtol in rtols:
        solution = solve_problem(problem, times, REFERENCE, rtol, throw=False, backend=backend)
        if solution.success:
            return solution.y, f"{solution.method} at rtol {rtol:g}"
    raise SolveError(solution)


def deviation(y: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest difference between the states y, (m, n), and the first m exact ones, relative to
    the largest value of each component."""
    scale = exact.abs().amax(0).clamp_min(torch.finfo(exact.dtype).tiny)
    return float(((y - exact[: len(y)]).abs() / scale).max())
