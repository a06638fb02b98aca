"""Implicit against explicit: the same dynamics solved by each method, accuracy against work.

print(compare("robertson", ["fbdf", "rodas5p", "tsit5"]))
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..backends.julia import algorithms
from ..core.csv_records import write_csv
from ..methods import registry
from ..problems import Problem, get
from .runs import deviation, output_times, reference, solve_problem
from .tables import PlottableTable

METHODS = ("fbdf", "rodas5p", "tsit5", "dp5")
RTOLS = (1e-3, 1e-5, 1e-7)
MAX_NFE = 50_000
JULIA = "julia:"


@dataclass(frozen=True)
class Row:
    """One solve. work: evaluations of f with a Jacobian counted as n; error: largest difference
    from the reference at the output times reached, of each component relative to its largest value
    over the span; reached: fraction of the span."""

    method: str
    implicit: bool
    rtol: float
    finished: bool
    reached: float
    accepted: int
    rejected: int
    nfe: int
    njac: int
    nlu: int
    work: int
    seconds: float
    error: float
    status: str


@dataclass(frozen=True)
class Comparison(PlottableTable):
    """The rows, and what they were measured on. str() is a table."""

    name: str
    rows: tuple[Row, ...]
    reference: str
    max_nfe: int | None

    @property
    def cells(self) -> list:
        head = (
            "method",
            "rtol",
            "steps",
            "rejected",
            "evals",
            "jacobians",
            "LUs",
            "seconds",
            "error",
            "finished",
        )
        return [head] + [
            (
                row.method,
                f"{row.rtol:g}",
                row.accepted,
                row.rejected,
                row.nfe,
                row.njac,
                row.nlu,
                f"{row.seconds:.3f}",
                f"{row.error:.1e}" if row.finished else "-",
                _reached(row),
            )
            for row in self.rows
        ]

    @property
    def note(self) -> str:
        """What was compared with what, and why some did not finish."""
        if self.max_nfe:
            limit = f", at most {self.max_nfe:,} evaluations a solve"
        else:
            limit = ""
        lines = [
            f"{self.name}{limit}; error against {self.reference}, relative to each component's"
            " largest value."
        ]
        lines += [
            f"Not finished: {reason}."
            for reason in {row.status: 0 for row in self.rows if not row.finished}
        ]
        return "\n".join(lines)

    def to_csv(self, path) -> Path:
        """Write one line a row, with the names of Row's fields as header; returns the path."""
        return write_csv(path, Row, self.rows)

    def figure(self):
        """Error against evaluations and against time, log-log, a line a method: a matplotlib
        Figure.

        Crosses at the top stand for solves that did not finish.
        """
        from .pictures import work_precision

        return work_precision(self)


def compare(
    problem: Problem | str, methods=METHODS, rtols=RTOLS, max_nfe=MAX_NFE, report=None, exact=None
) -> Comparison:
    """Solve one problem with each method at each tolerance.

    problem: a Problem or the name of one. methods: names; 'julia:FBDF' is SciML's FBDF, solved once
    before it is timed, because Julia compiles it then. atol follows rtol in the proportion that the
    problem suggests. max_nfe: limit on evaluations of f in one solve, None for none. report(row) is
    called after each solve. exact: (states, what they are) as ``reference`` gives them, by default
    made here. A failing solve is a row, not an error. ValueError for unknown names, SolveError
    where not even the reference succeeds.
    """
    if isinstance(problem, str):
        problem = get(problem)
    methods = [_method(name) for name in methods]
    if isinstance(rtols, float):
        rtols = [rtols]
    else:
        rtols = list(rtols)
    if not methods or not rtols:
        raise ValueError("compare needs at least one method and one rtol")
    for rtol in rtols:
        if not rtol > 0:
            raise ValueError(f"rtol must be positive, not {rtol!r}; 1e-6 is a good start")
    times = output_times(problem)
    with torch.no_grad():
        exact, label = exact or reference(problem, times)
        rows = []
        for name, method in methods:
            if name.startswith(JULIA):
                solve_problem(problem, times[:2], method, max(rtols), throw=False)
            for rtol in rtols:
                rows.append(_row(problem, times, name, method, rtol, max_nfe, exact))
                if report:
                    report(rows[-1])
    return Comparison(problem.name, tuple(rows), label, max_nfe)


def _method(name):
    """(what to call it, the method) for a name, "julia:" before it for SciML's."""
    if isinstance(name, str) and name.lower().startswith(JULIA):
        method = algorithms.get(name[len(JULIA) :])
        return JULIA + method.name, method
    method = registry.get(name)
    return method.name, method


def _row(problem, times, name, method, rtol, max_nfe, exact) -> Row:
    began = time.perf_counter()
    # max_nfe is the limit that matters, so the limit on steps must not end a solve before it.
    if max_nfe:
        steps = 10_000_000
    else:
        steps = 100_000
    solution = solve_problem(
        problem, times, method, rtol, throw=False, max_nfe=max_nfe, max_steps=steps
    )
    seconds = time.perf_counter() - began
    stats = solution.stats
    error = deviation(solution.y, exact)
    start = float(times[0])
    end = float(times[-1])
    return Row(
        method=name,
        implicit=method.implicit,
        rtol=rtol,
        finished=solution.success,
        reached=1.0 if solution.success else (float(solution.t[-1]) - start) / (end - start),
        accepted=stats.accepted,
        rejected=stats.rejected,
        nfe=stats.nfe,
        njac=stats.njac,
        nlu=stats.nlu,
        work=stats.nfe + problem.y0.numel() * stats.njac,
        seconds=seconds,
        error=error,
        status=solution.status.sentence,
    )


def _reached(row) -> str:
    if row.finished:
        return "yes"
    return f"no, {100 * row.reached:.2g} % of the span"
