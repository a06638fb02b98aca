"""Does a learned model depend on the solver? The same field under fixed steps, adaptive explicit
and implicit methods.

A network that was trained through coarse steps has learned the steps as well: under another solver
it is another model (Queiruga, Erichson, Taylor & Mahoney, Continuous-in-depth neural networks,
2020; Ott et al., ResNet after all?, ICLR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..methods import registry
from ..problems import Problem, get
from .runs import deviation, output_times, reference, solve_problem
from .tables import PlottableTable

FIXED = ("euler", "rk4")
STEPS = (100, 1000)
ADAPTIVE = ("tsit5", "fbdf")
RTOLS = (1e-3, 1e-6)
MAX_NFE = 20_000


@dataclass(frozen=True)
class Dependent:
    """One solve. setting: its steps or its tolerance; deviation: the largest from the reference, of
    each component relative to its largest value, None where the solve did not finish or left all
    bounds; nfe: evaluations of f."""

    method: str
    setting: str
    deviation: float | None
    nfe: int
    status: str


@dataclass(frozen=True)
class Dependence(PlottableTable):
    """What ``solver_dependence`` found. str() is a table."""

    name: str
    rows: tuple[Dependent, ...]
    reference: str

    @property
    def cells(self) -> list:
        told = [
            (
                r.method,
                r.setting,
                "-" if r.deviation is None else f"{r.deviation:.1e}",
                r.nfe,
                r.status,
            )
            for r in self.rows
        ]
        return [("method", "setting", "deviation", "evals", "ended"), *told]

    @property
    def note(self) -> str:
        return (
            f"{self.name}: deviation from {self.reference}, relative to each component's largest"
            " value."
        )

    def figure(self):
        """The deviations as bars, a matplotlib Figure."""
        from .pictures import bars

        labels = [f"{row.method}, {row.setting}" for row in self.rows]
        return bars(
            labels,
            [row.deviation for row in self.rows],
            f"{self.name} under different solvers",
            "deviation",
        )


def solver_dependence(
    problem: Problem | str, fixed=FIXED, steps=STEPS, adaptive=ADAPTIVE, rtols=RTOLS, exact=None
) -> Dependence:
    """Solve one problem by fixed-step methods with so many equal steps, and by adaptive ones at
    these tolerances.

    exact: (states, what they are) as ``reference`` gives them, by default made here.
    ValueError for unknown names; SolveError where not even the reference can be had.
    """
    if isinstance(problem, str):
        problem = get(problem)
    times = output_times(problem)
    span = abs(float(times[-1] - times[0]))
    rows = []
    with torch.no_grad():
        exact, label = exact or reference(problem, times)
        cases = [
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
            if solution.success:
                far = deviation(solution.y, exact)
            else:
                far = None
            if solution.success:
                status = "at the end"
            else:
                status = solution.status.sentence
            if far is not None and not far < 1e6:
                far = None
                status = "left all bounds"
            rows.append(Dependent(method.name, setting, far, solution.stats.nfe, status))
    return Dependence(problem.name, tuple(rows), label)
