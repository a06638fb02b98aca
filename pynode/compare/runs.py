"""A Problem solved at its output times, and how far one solution is from another."""

from __future__ import annotations

import torch

from ..core.cotangents import none_to_zeros
from ..solve import solve

# The reference: this method at each tolerance in turn, until one can be reached.
REFERENCE = "rodas5p"
REFERENCE_RTOLS = (1e-11, 1e-10, 1e-9)


def output_times(problem) -> torch.Tensor:
    """(T,) output times from the start to the end of the span: the problem's own, or a hundred
    evenly spaced."""
    t0, t1 = problem.tspan
    if problem.t_eval is None:
        return torch.linspace(t0, t1, 101, dtype=torch.float64)
    if t1 > t0:
        inner = problem.t_eval[problem.t_eval > t0]
    else:
        inner = problem.t_eval[problem.t_eval < t0]
    return torch.cat((torch.tensor([t0], dtype=torch.float64), inner))


def atol_at(problem, rtol) -> torch.Tensor:
    """atol, () or (n,), that follows rtol in the proportion that the problem suggests."""
    return torch.as_tensor(problem.atol, dtype=problem.y0.dtype) * (rtol / problem.rtol)


def solve_problem(problem, times, method, rtol, start=None, **options):
    """Its Solution from start, by default its own; atol follows rtol."""
    if start is None:
        start = problem.y0
    atol = atol_at(problem, rtol)
    return solve(problem.field, start, times, method=method, rtol=rtol, atol=atol, **options)


def weighted_gradients(states, inputs) -> list:
    """The gradients, in the inputs, of a fixed random weighting of states (T, n), each component in
    units of its largest value, so that they see all; zero in what the states do not depend on."""
    weights = torch.randn(
        states.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    largest = states.detach().abs().amax(0)
    loss = (weights.to(states) / torch.where(largest > 0, largest, 1.0) * states).sum()
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    return none_to_zeros(found, inputs)


def reference(problem, times):
    """The states (T, n) of a tight solve, and what to call it. SolveError where the loosest
    tolerance fails, too."""
    for rtol in REFERENCE_RTOLS:
        solution = solve_problem(problem, times, REFERENCE, rtol, throw=False)
        if solution.success:
            return solution.y, f"{solution.method} at rtol {rtol:g}"
    return solution.check(), ""


def deviation(y, exact) -> float:
    """Largest difference of the states y, (m, n), from the first m exact ones, relative to each
    component's largest value."""
    scale = exact.abs().amax(0).clamp_min(torch.finfo(exact.dtype).tiny)
    return float(((y - exact[: len(y)]).abs() / scale).max())
