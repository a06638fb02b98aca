"""Does a learned model depend on the solver? The same field with fixed steps, and with adaptive
explicit and implicit methods.

A network that was trained with coarse steps has also learned the steps: with another solver it is
another model (Queiruga, Erichson, Taylor & Mahoney, Continuous-in-depth neural networks, 2020; Ott
et al., ResNet after all?, ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..methods import registry
from ..problems import Problem, get
from .defaults import REFERENCE_RTOLS
from .runs import deviation, output_times, reference, solve_problem
from .tables import PlottableTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIXED = ("euler", "rk4")
STEPS = (100, 1000)
ADAPTIVE = ("tsit5", "fbdf")
RTOLS = (1e-3, 1e-6)
MAX_NFE = 20_000


@dataclass(frozen=True)
class Dependent:
    """One solve.

    setting: its steps or its tolerance.
    deviation: the largest from the reference, relative to the largest value of each component. None
        if the solve did not finish or diverged.
    nfe: evaluations of f.
    """

    method: str
    setting: str
    deviation: float | None
    nfe: int
    status: str


@dataclass(frozen=True)
class Dependence(PlottableTable):
    """The result of ``solver_dependence``. str() is a table."""

    name: str
    rows: tuple[Dependent, ...]
    reference: str

    @property
    def cells(self) -> list[tuple[Any, ...]]:
        rows = [
            (
                r.method,
                r.setting,
                "-" if r.deviation is None else f"{r.deviation:.1e}",
                r.nfe,
                r.status,
            )
            for r in self.rows
        ]
        return [("method", "setting", "deviation", "evals", "ended"), *rows]

    @property
    def note(self) -> str:
        return (
            f"{self.name}: deviation from {self.reference}, relative to each component's largest"
            " value."
        )

    def figure(self) -> Figure:
        """The deviations as dots, a matplotlib Figure."""
        from .pictures import deviations

        labels = [f"{row.method}, {row.setting}" for row in self.rows]
        return deviations(
            labels,
            [row.deviation for row in self.rows],
            f"{self.name} under different solvers",
            "largest deviation, relative to each component's largest value",
        )


def solver_dependence(
    problem: Problem | str,
    fixed: Sequence[str] = FIXED,
    steps: Sequence[int] = STEPS,
    adaptive: Sequence[str] = ADAPTIVE,
    rtols: Sequence[float] = RTOLS,
    exact: tuple[torch.Tensor, str] | None = None,
    reference_rtols: Sequence[float] = REFERENCE_RTOLS,
) -> Dependence:
    """Solve one problem by fixed-step methods with these numbers of equal steps, and by adaptive
    methods at these tolerances.

    exact: (states, their description), as ``reference`` returns them. By default they are computed
        here.
    reference_rtols: tolerances of that solve; it uses the first that succeeds.

    Raises ValueError for unknown names, SolveError if even the reference solve fails.
    """
    if isinstance(problem, str):
        problem = get(problem)
    times = output_times(problem)
    span = abs(float(times[-1] - times[0]))
    rows = []
    with torch.no_grad():
        states, label = exact or reference(problem, times, reference_rtols)
        cases: list[tuple[str, str, float, dict[str, Any]]] = [
            (name, f"{n:,} steps", problem.rtol, {"step_size": span / n})
            for name in fixed
            for n in steps
        ]
        cases += [(name, f"rtol {rtol:g}", rtol, {}) for name in adaptive for rtol in rtols]
        for name, setting, rtol, options in cases:
            method = registry.get(name)
            solution = solve_problem(
                problem,
                times,
                method,
                rtol,
                throw=False,
                max_nfe=MAX_NFE,
                max_steps=MAX_NFE,
                **options,
            )
            distance = None
            status = solution.status.sentence
            if solution.success:
                distance = deviation(solution.y, states)
                status = "at the end"
            if distance is not None and not distance < 1e6:
                distance = None
                status = "left all bounds"
            rows.append(Dependent(method.name, setting, distance, solution.stats.nfe, status))
    return Dependence(problem.name, tuple(rows), label)
