"""Implicit against explicit methods: each solves the same problem, and accuracy is compared with
work.

print(compare("robertson", ["fbdf", "rodas5p", "tsit5"]))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..backends import registry as backends
from ..backends.julia import algorithms
from ..core.csv_records import write_csv
from ..methods.base import Method
from ..problems import Problem, get
from .defaults import MAX_NFE, METHODS, REFERENCE_RTOLS, RTOLS
from .runs import deviation, output_times, reference, solve_problem
from .tables import PlottableTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JULIA = "julia:"
BACKENDS = ("auto", "torch", "native")  # the engines of methods without this prefix


@dataclass(frozen=True)
class Row:
    """One solve.

    reached: the fraction of the span that was solved.
    work: evaluations of f; a Jacobian counts as n of them.
    error: the largest difference from the reference at the output times reached, relative to the
        largest value of each component over the span.
    """

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
    """The rows and their problem. str() is a table. backend: of the solves."""

    name: str
    rows: tuple[Row, ...]
    reference: str
    max_nfe: int | None
    backend: str = "auto"

    @property
    def cells(self) -> list[tuple[Any, ...]]:
        head = (
            "method",
            "rtol",
            "steps",
            "refused",
            "evals",
            "jacobians",
            "LUs",
            "seconds",
            "error",
            "ended",
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
        """What was compared, and why some solves did not finish."""
        if self.max_nfe:
            limit = f", at most {self.max_nfe:,} evaluations a solve"
        else:
            limit = ""
        if self.backend == "native":
            limit += ", in native code"
        lines = [
            f"{self.name}{limit}; error against {self.reference}, relative to each component's"
            " largest value."
        ]
        lines += [
            f"Not finished: {reason}."
            for reason in dict.fromkeys(row.status for row in self.rows if not row.finished)
        ]
        return "\n".join(lines)

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write one line for each row, with the names of Row's fields as header; returns the
        path."""
        return write_csv(path, Row, self.rows)

    def figure(self) -> Figure:
        """Error against evaluations and against time, log-log, a line for each method: a matplotlib
        Figure.

        Open symbols in the strip at the top are solves that did not finish.
        """
        from .pictures import work_precision

        return work_precision(self)


def compare(
    problem: Problem | str,
    methods: Sequence[str | Method] = METHODS,
    rtols: float | Sequence[float] = RTOLS,
    max_nfe: int | None = MAX_NFE,
    report: Callable[[Row], None] | None = None,
    exact: tuple[torch.Tensor, str] | None = None,
    reference_rtols: Sequence[float] = REFERENCE_RTOLS,
    backend: str = "auto",
) -> Comparison:
    """Solve one problem with each method at each tolerance.

    problem: a Problem or the name of one.
    methods: names. 'julia:FBDF' is SciML's FBDF. It is solved once before it is timed, because
        Julia compiles it then.
    backend: the engine of the other methods and of the reference. 'auto' is the torch engine.
        'native' is compiled code (docs/native.md), also solved once before it is timed.
    rtols: tolerances. atol is proportional to rtol, in the ratio that the problem suggests.
    max_nfe: limit on evaluations of f in one solve, None for none.
    report: report(row) is called after each solve.
    exact: (states, their description), as ``reference`` returns them. By default they are computed
        here.
    reference_rtols: tolerances of that solve; it uses the first that succeeds.

    A failing solve is a row, not an error. Raises ValueError for unknown names, for methods and
    fields that have no native code if it is asked for, SolveError if even the reference solve
    fails.
    """
    if isinstance(problem, str):
        problem = get(problem)
    if backend not in BACKENDS:
        raise ValueError(
            f"compare has no backend {backend!r}: choose one of {', '.join(BACKENDS)}; write"
            " julia:NAME for a method of SciML"
        )
    named = [_method(name, backend) for name in methods]
    if isinstance(rtols, float):
        rtols = [rtols]
    else:
        rtols = list(rtols)
    if not named or not rtols:
        raise ValueError("compare needs at least one method and one rtol")
    for rtol in (*rtols, *reference_rtols):
        if not rtol > 0:
            raise ValueError(f"rtol must be positive, not {rtol!r}; 1e-6 is a good start")
    times = output_times(problem)
    with torch.no_grad():
        states, label = exact or reference(problem, times, reference_rtols, backend)
        rows = []
        for name, method, engine in named:
            if name.startswith(JULIA) or engine == "native":
                solve_problem(problem, times[:2], method, max(rtols), throw=False, backend=engine)
            for rtol in rtols:
                rows.append(_row(problem, times, name, (method, engine), rtol, max_nfe, states))
                if report:
                    report(rows[-1])
    return Comparison(problem.name, tuple(rows), label, max_nfe, backend)


def _method(name, backend):
    """(label, method, engine) for a name. "julia:" before the name means SciML's method."""
    if isinstance(name, str) and name.lower().startswith(JULIA):
        method = algorithms.get(name[len(JULIA) :])
        return JULIA + method.name, method, "auto"
    if backend == "auto":
        backend = "torch"
    _, method = backends.choose(backend, name)
    return method.name, method, backend


def _row(problem, times, name, by, rtol, max_nfe, exact) -> Row:
    """The Row of one solve. by: (method, engine)."""
    method, engine = by
    began = time.perf_counter()
    # The limit on steps must not end a solve before max_nfe does.
    if max_nfe:
        steps = 10_000_000
    else:
        steps = 100_000
    solution = solve_problem(
        problem,
        times,
        method,
        rtol,
        throw=False,
        max_nfe=max_nfe,
        max_steps=steps,
        backend=engine,
    )
    seconds = time.perf_counter() - began
    stats = solution.stats
    error = deviation(solution.y, exact)
    start = float(times[0])
    end = float(times[-1])
    if solution.success:
        reached = 1.0
    else:
        reached = (float(solution.t[-1]) - start) / (end - start)
    return Row(
        method=name,
        implicit=method.implicit,
        rtol=rtol,
        finished=solution.success,
        reached=reached,
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
    return f"to {100 * row.reached:.2g} %"
