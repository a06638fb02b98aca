"""Gradients of one solve by different adjoints, compared with each other."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..core.status import SolveError
from ..problems import Problem, get
from .runs import output_times, solve_problem, weighted_gradients
from .tables import PlottableTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADJOINTS = (
    "discrete",
    "gauss",
    "gausskronrod",
    "quadrature",
    "interpolating",
    "backsolve",
    "forward",
)
METHOD = "fbdf"
RTOL = 1e-6
# The reference is the discrete adjoint of this method, with rtol times this factor.
TIGHT = "rodas5p"
FACTOR = 1e-3


@dataclass(frozen=True)
class GradientRow:
    """One adjoint.

    deviation: the largest of its gradients, with respect to y0 and to each parameter, relative to
        the largest entry. None if it failed.
    forward, backward: seconds.
    nfe: evaluations in the forward solve.
    work: evaluations, products and Jacobians (n each) in the backward solve.
    """

    adjoint: str
    deviation: float | None
    forward: float
    backward: float
    nfe: int
    work: int
    status: str


@dataclass(frozen=True)
class GradientComparison(PlottableTable):
    """The result of ``compare_gradients``. str() is a table."""

    name: str
    method: str
    rtol: float
    rows: tuple[GradientRow, ...]
    reference: str

    @property
    def cells(self) -> list[tuple[Any, ...]]:
        rows = [
            (
                r.adjoint,
                "-" if r.deviation is None else f"{r.deviation:.1e}",
                f"{r.forward:.3f}",
                f"{r.backward:.3f}",
                r.nfe,
                r.work,
                r.status,
            )
            for r in self.rows
        ]
        return [
            ("adjoint", "deviation", "forward s", "backward s", "evals", "backward work", "ended"),
            *rows,
        ]

    @property
    def note(self) -> str:
        return (
            f"{self.name} by {self.method} at rtol {self.rtol:g}: deviation from {self.reference},"
            " relative to the largest entry of each gradient."
        )

    def figure(self) -> Figure:
        """The deviations as dots, a matplotlib Figure."""
        from .pictures import deviations

        title = f"{self.name}: gradients by different adjoints, {self.method} at rtol {self.rtol:g}"
        return deviations(
            [row.adjoint for row in self.rows],
            [row.deviation for row in self.rows],
            title,
            "largest deviation, relative to each gradient's largest entry",
        )


def compare_gradients(
    problem: Problem | str,
    adjoints: Sequence[str] = ADJOINTS,
    method: str = METHOD,
    rtol: float = RTOL,
) -> GradientComparison:
    """The gradient of a fixed random weighting of the outputs, with respect to y0 and the
    parameters of the field, by each adjoint.

    An adjoint that refuses, or whose reverse solve fails, is a row with the reason, not an error.
    Raises SolveError if the forward solve fails.
    """
    if isinstance(problem, str):
        problem = get(problem)
    times = output_times(problem)
    exact, *_ = _gradient(problem, times, TIGHT, FACTOR * rtol, "discrete")
    rows = [_row(problem, times, method, rtol, name, exact) for name in adjoints]
    label = f"the discrete adjoint of {TIGHT} at rtol {FACTOR * rtol:g}"
    return GradientComparison(problem.name, method, rtol, tuple(rows), label)


def _gradient(problem, times, method, rtol, adjoint):
    """(gradients, seconds forward, seconds backward, stats)."""
    start = problem.y0.detach().clone().requires_grad_()
    inputs = [start, *(p for p in problem.field.parameters() if p.requires_grad)]
    began = time.perf_counter()
    solution = solve_problem(problem, times, method, rtol, start=start, adjoint=adjoint)
    middle = time.perf_counter()
    gradients = weighted_gradients(solution.y, inputs)
    return gradients, middle - began, time.perf_counter() - middle, solution.stats


def _row(problem, times, method, rtol, adjoint, exact) -> GradientRow:
    try:
        gradients, forward, backward, stats = _gradient(problem, times, method, rtol, adjoint)
    except (SolveError, ValueError, RuntimeError) as error:
        return GradientRow(adjoint, None, 0.0, 0.0, 0, 0, str(error).split(". ")[0])
    scales = [g.abs().max().clamp_min(torch.finfo(g.dtype).tiny) for g in exact]
    parts = [
        ((a - b).abs() / scale).max()
        for a, b, scale in zip(gradients, exact, scales, strict=True)
        if a.numel()
    ]
    distance = float(torch.stack(parts).max())  # torch's max returns NaN if one is NaN
    work = (
        stats.backward_nfe
        + stats.backward_nvjp
        + stats.backward_njvp
        + len(problem.y0) * stats.backward_njac
    )
    if not math.isfinite(distance):
        status = "the gradient is not finite"
        return GradientRow(adjoint, None, forward, backward, stats.nfe, work, status)
    return GradientRow(adjoint, distance, forward, backward, stats.nfe, work, "at the end")
