"""Implicit against explicit: the same dynamics solved by each method, accuracy against work.

    print(compare("robertson", ["fbdf", "rodas5p", "tsit5"]))
"""

from __future__ import annotations

import csv
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from .backends.julia import algorithms
from .methods import registry
from .problems import Problem, get
from .solve import solve

METHODS = ("fbdf", "rodas5p", "tsit5", "dp5")
RTOLS = (1e-3, 1e-5, 1e-7)
MAX_NFE = 50_000
JULIA = "julia:"
# The reference: this method at each tolerance in turn, until one can be reached.
REFERENCE, REFERENCE_RTOLS = "rodas5p", (1e-11, 1e-10, 1e-9)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^v<>P"


@dataclass(frozen=True)
class Row:
    """One solve. work: evaluations of f with a Jacobian counted as n; error: largest difference from the reference at
    the output times reached, of each component relative to its largest value over the span; reached: fraction of the
    span."""

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
class Comparison:
    """The rows, and what they were measured on. str() is a table."""

    name: str
    rows: tuple[Row, ...]
    reference: str
    max_nfe: int | None

    def table(self) -> str:
        """The rows as lines of text, with a note on those that did not finish."""
        head = ("method", "rtol", "steps", "rejected", "evals", "jacobians", "LUs", "seconds", "error", "finished")
        cells = [head] + [
            (
                row.method, f"{row.rtol:g}", *map(str, (row.accepted, row.rejected, row.nfe, row.njac, row.nlu)),
                f"{row.seconds:.3f}", f"{row.error:.1e}" if row.finished else "-", _reached(row),
            )
            for row in self.rows
        ]
        widths = [max(len(line[k]) for line in cells) for k in range(len(head))]
        align = [str.ljust, *[str.rjust] * (len(head) - 2), str.ljust]
        cells.insert(1, tuple("-" * width for width in widths))
        lines = ["  ".join(put(*c) for put, *c in zip(align, line, widths, strict=True)).rstrip() for line in cells]
        limit = f", at most {self.max_nfe:,} evaluations a solve" if self.max_nfe else ""
        lines.append(f"{self.name}{limit}; error against {self.reference}, relative to each component's largest value.")
        lines += [f"Not finished: {reason}." for reason in {row.status: 0 for row in self.rows if not row.finished}]
        return "\n".join(lines)

    __str__ = table

    def to_csv(self, path) -> Path:
        """Write one line a row, with the names of Row's fields as header; returns the path."""
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows)
        return Path(path)

    def plot(self, path) -> Path:
        """Error against evaluations and against time, log-log, a line a method; returns the path. Needs matplotlib.

        Crosses at the top stand for solves that did not finish.
        """
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot, ticker

        figure, axes = pyplot.subplots(1, 2, figsize=(10.5, 4.8), sharey=True)
        solved = [row.error for row in self.rows if row.finished and row.error > 0]
        top = 10 * max(solved, default=1.0)
        for k, method in enumerate(dict.fromkeys(row.method for row in self.rows)):
            rows = [row for row in self.rows if row.method == method]
            style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
            style |= {"ls": "-", "ms": 6} if rows[0].implicit else {"ls": "--", "ms": 6, "mfc": "white"}
            kind = "implicit" if rows[0].implicit else "explicit"
            done = [row for row in rows if row.finished]
            lost = [row for row in rows if not row.finished]
            for axis, x in zip(axes, ("work", "seconds"), strict=True):
                axis.plot([getattr(r, x) for r in done], [r.error for r in done], label=f"{method} ({kind})", **style)
                # Stacked a little apart, because methods that meet the same limit end at the same place.
                height = top * 1.6 ** (k % len(COLOURS))
                axis.plot([getattr(r, x) for r in lost], [height] * len(lost), "x", color=style["color"], ms=8, mew=2)
        for axis, label in zip(axes, ("evaluations of f (a Jacobian counts as n)", "seconds"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel=label)
            low, high = axis.get_xlim()
            # Less than two decades need labels between the powers of ten, more have no room for them.
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
            axis.xaxis.set_minor_formatter(ticker.NullFormatter())
            axis.grid(alpha=0.25, which="major")
        axes[0].set_ylabel("error relative to largest value")
        if any(not row.finished for row in self.rows):
            axes[1].plot([], [], "x", color="0.3", ms=8, mew=2, label="did not finish")
        figure.suptitle(self.name)
        figure.tight_layout(rect=(0, 0.09, 1, 1))
        figure.legend(*axes[1].get_legend_handles_labels(), loc="lower center", ncols=5, fontsize=9, frameon=False)
        figure.savefig(path, dpi=150)
        pyplot.close(figure)
        return Path(path)


def compare(problem: Problem | str, methods=METHODS, rtols=RTOLS, max_nfe=MAX_NFE, report=None) -> Comparison:
    """Solve one problem with each method at each tolerance.

    problem: a Problem or the name of one. methods: names; 'julia:FBDF' is SciML's FBDF, solved once before it is timed, because
    Julia compiles it then. atol follows rtol in the proportion that the problem suggests. max_nfe:
    limit on evaluations of f in one solve, None for none. report(row) is called after each solve. A failing solve is
    a row, not an error. ValueError for unknown names, SolveError where not even the reference succeeds.
    """
    problem = get(problem) if isinstance(problem, str) else problem
    methods = [_method(name) for name in methods]
    rtols = [rtols] if isinstance(rtols, float) else list(rtols)
    if not methods or not rtols:
        raise ValueError("compare needs at least one method and one rtol")
    for rtol in rtols:
        if not rtol > 0:
            raise ValueError(f"rtol must be positive, not {rtol!r}; 1e-6 is a good start")
    times = _times(problem)
    with torch.no_grad():
        reference, label = _reference(problem, times)
        rows = []
        for name, method in methods:
            if name.startswith(JULIA):
                _solve(problem, times[:2], method, max(rtols), throw=False)
            for rtol in rtols:
                rows.append(_row(problem, times, name, method, rtol, max_nfe, reference))
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


def _times(problem) -> torch.Tensor:
    """(T,) output times from the start to the end of the span: the problem's own, or a hundred evenly spaced."""
    t0, t1 = problem.tspan
    if problem.t_eval is None:
        return torch.linspace(t0, t1, 101, dtype=torch.float64)
    inner = problem.t_eval[problem.t_eval > t0] if t1 > t0 else problem.t_eval[problem.t_eval < t0]
    return torch.cat((torch.tensor([t0], dtype=torch.float64), inner))


def _solve(problem, times, method, rtol, **limits):
    atol = torch.as_tensor(problem.atol, dtype=problem.y0.dtype) * (rtol / problem.rtol)
    return solve(problem.field, problem.y0, times, method=method, rtol=rtol, atol=atol, **limits)


def _reference(problem, times):
    """The states (T, n) of a tight solve, and what to call it. SolveError where the loosest tolerance fails, too."""
    for rtol in REFERENCE_RTOLS:
        solution = _solve(problem, times, REFERENCE, rtol, throw=False)
        if solution.success:
            return solution.y, f"{solution.method} at rtol {rtol:g}"
    return solution.check(), ""


def _row(problem, times, name, method, rtol, max_nfe, reference) -> Row:
    began = time.perf_counter()
    # max_nfe is the limit that matters, so the limit on steps must not end a solve before it.
    steps = 10_000_000 if max_nfe else 100_000
    solution = _solve(problem, times, method, rtol, throw=False, max_nfe=max_nfe, max_steps=steps)
    seconds, stats = time.perf_counter() - began, solution.stats
    scale = reference.abs().amax(0).clamp_min(torch.finfo(reference.dtype).tiny)
    error = ((solution.y - reference[: len(solution.y)]).abs() / scale).max()
    start, end = float(times[0]), float(times[-1])
    return Row(
        method=name, implicit=method.implicit, rtol=rtol, finished=solution.success,
        reached=1.0 if solution.success else (float(solution.t[-1]) - start) / (end - start),
        accepted=stats.accepted, rejected=stats.rejected, nfe=stats.nfe, njac=stats.njac, nlu=stats.nlu,
        work=stats.nfe + problem.y0.numel() * stats.njac, seconds=seconds, error=float(error),
        status=solution.status.sentence,
    )


def _reached(row) -> str:
    return "yes" if row.finished else f"no, {100 * row.reached:.2g} % of the span"
