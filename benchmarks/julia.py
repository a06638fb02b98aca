"""SciML's solvers through pynode, beside every other way to the same solution.

  solve     the stiff problems of the suite by FBDF, QNDF and Rodas5P at --rtol:
              torch           pynode's torch engine
              native          pynode's native engine
              julia python    Julia, which calls the torch field
              julia native    Julia with native functions of the torch field
              julia f         f written in Julia, SciML's defaults, many solves in one call of Julia
              julia f called  the same, one solve in a call from Python
              cvode           SUNDIALS' CVODE with the torch field (scikit-sundae), once a problem
              cvode native    the same by Julia's Sundials with native functions
  means     geometric means over the problems and methods of the ratios that matter
  gradient  forward and backward of a 3-32-3 network on Robertson's data with 20 outputs, and of the
            pollution problem with its constants; "error" against RadauIIA9 at rtol 1e-11, relative
            to the length of the gradient; "difference" the largest one from the torch engine's
            gradient, relative to the largest entry
  fixed     y' = -y in about three steps: a solve, and how much of it is pynode's Python
  first     seconds on the wall in fresh processes: start of Julia, first solve, first gradient,
            second solve. The packages of the project decide how much of it is compilation

All contestants of a problem and method run in turn. Times are medians over the rounds. The last
lines are the table of docs/julia.md.
"""

from benchmarks.pairs import CLOCKS, in_turn  # before torch: one thread

import torch  # isort: skip

import gc
import statistics
import time
from functools import partial

from benchmarks import report
from benchmarks.apart import apart
from benchmarks.contestants import gradient_by_pynode
from benchmarks.julia_cases import network_gradient, pollution_gradient
from benchmarks.julia_field import Written
from benchmarks.julia_tables import means, summary, wide
from benchmarks.problems import PROBLEMS, STIFF, names
from pynode import JuliaBackend, solve
from pynode.backends.julia.runtime import start
from pynode.backends.julia.setup.locate import locate

TABLES = ("solve", "gradient", "fixed", "first")
METHODS = ("FBDF", "QNDF", "Rodas5P")
FIRST = ("FBDF", "QNDF", "Rodas5P", "KenCarp4", "Tsit5")
PYTHON = JuliaBackend(hooks="python")
NATIVE = JuliaBackend(hooks="native")
BACKENDS = {"torch": "torch", "native": "native", "julia python": PYTHON, "julia native": NATIVE}
CONTESTANTS = (*BACKENDS, "julia f", "julia f called", "cvode", "cvode native")
GRADIENTS = {"robertson network": network_gradient, "pollution": pollution_gradient}
# Contestant -> (engine, adjoint).
ADJOINTS = {
    "torch": ("torch", "discrete"),
    "native": ("native", "discrete"),
    "julia python": (PYTHON, "NativeGauss"),
    "julia native": (NATIVE, "NativeGauss"),
    "julia native, GaussAdjoint": (NATIVE, "gauss"),
}
MANY = 20  # solves in one call of Julia


def measured(runs, args) -> dict:
    """Name -> the median, the quartiles (ms) and the number of the rounds."""
    found = {}
    for name, times in in_turn(runs, args.seconds, args.clock).items():
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        found[name] = {
            "ms": 1e3 * middle,
            "low": 1e3 * low,
            "high": 1e3 * high,
            "rounds": len(times),
        }
    return found


def solves(name, method, args, packages) -> list:
    """One row a contestant, of a problem by a method. packages: which optional ones are there."""
    case = PROBLEMS[name].case(args.rtol)
    runs = {}
    work = {}
    for label, backend in BACKENDS.items():
        if label in args.contestants:
            runs[label] = case.pynode(method, backend=backend, max_steps=10**6)
            work[label] = case.pynode_work(runs[label]())
    if {"julia f", "julia f called"} & set(args.contestants):
        written = Written(start().main, case)
        work["julia f"] = work["julia f called"] = written.work(method)
        runs["julia f"] = partial(written.repeated(method), MANY)
        runs["julia f called"] = written.called(method)
    if method == args.methods[0]:
        _add_cvode(case, runs, work, packages)
    runs = {label: run for label, run in runs.items() if label in args.contestants}
    for run in runs.values():
        run()
    rows = []
    for label, timed in measured(runs, args).items():
        if label == "julia f":
            timed.update({key: timed[key] / MANY for key in ("ms", "low", "high")})
        shown = "CVODE_BDF" if label.startswith("cvode") else method
        rows.append({"problem": name, "method": shown, "contestant": label, **timed, **work[label]})
    return rows


def _add_cvode(case, runs, work, packages):
    if "scikit-sundae" in packages:
        runs["cvode"] = case.cvode()
        work["cvode"] = case.cvode_work(runs["cvode"]())
    if "Sundials" in packages:
        runs["cvode native"] = case.pynode("CVODE_BDF", backend=NATIVE)
        work["cvode native"] = case.pynode_work(runs["cvode native"]())


def gradients(name, method, args, packages) -> list:
    """One row a contestant, of the gradient of a case."""
    case = GRADIENTS[name]().at(args.rtol)
    runs = {}
    found = {}
    for label, (backend, adjoint) in ADJOINTS.items():
        if adjoint == "gauss" and "SciMLSensitivity" not in packages:
            continue
        field = case.problem.field
        runs[label] = gradient_by_pynode(method, case, field, backend=backend, adjoint=adjoint)
        found[label] = runs[label]()[0]
        runs[label]()
    base = found["torch"]
    rows = []
    for label, timed in measured(runs, args).items():
        difference = abs(found[label] - base).max() / abs(base).max()
        row = {"field": name, "method": method, "contestant": label, **timed}
        rows.append({**row, "error": case.error(found[label]), "difference": float(difference)})
    torch_ms = next(row["ms"] for row in rows if row["contestant"] == "torch")
    python_ms = next(row["ms"] for row in rows if row["contestant"] == "julia python")
    for row in rows:
        row["over torch"] = row["ms"] / torch_ms
        row["over julia python"] = row["ms"] / python_ms
    return rows


class Watched:
    """Julia's forward entry, with a clock around it."""

    def __init__(self, entries, clock):
        self.entry = entries.forward
        self.clock = CLOCKS[clock]
        self.spent = 0.0

    def __call__(self, request):
        began = self.clock()
        answer = self.entry(request)
        self.spent += self.clock() - began
        return answer


def fixed(args, solves=500) -> list:
    """A short solve, with and without a gradient: milliseconds of it, in Julia and in Python."""
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y0 = torch.ones(1, dtype=torch.float64)

    def decay(t, y):
        return -rate * y

    entries = start().entries
    rows = []
    for method in args.methods:
        for label, graph in (("forward", False), ("with a graph", True)):

            def run(method=method, graph=graph):
                with torch.set_grad_enabled(graph):
                    return solve(decay, y0, [0.0, 0.1], method=method, backend="julia")

            for _ in range(3):
                solution = run()
            watched = Watched(entries, args.clock)
            entries.forward = watched
            times = []
            inside = []
            gc.collect()
            for _ in range(solves):
                watched.spent = 0.0
                began = watched.clock()
                run()
                times.append(watched.clock() - began)
                inside.append(watched.spent)
            del entries.forward
            rows.append(
                {
                    "method": method,
                    "what": label,
                    "ms": 1e3 * statistics.median(times),
                    "julia_ms": 1e3 * statistics.median(inside),
                    "python_ms": 1e3 * statistics.median(a - b for a, b in zip(times, inside)),
                    "steps": solution.stats.accepted,
                }
            )
    return rows


def first(methods) -> list:
    """One row a method, of a fresh process."""
    rows = []
    for method in methods:
        report.progress("first", method)
        began = time.perf_counter()
        found = apart("benchmarks.julia_first", method)
        rows.append({"method": method, **found, "process_s": time.perf_counter() - began})
    return rows


def _arguments(argv):
    parser = report.parser(__doc__)
    parser.prog = "python -m benchmarks.julia"
    stiff = names(STIFF, suite=True)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--problems", nargs="+", default=stiff, choices=stiff)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    parser.add_argument(
        "--gradients", nargs="+", default=tuple(GRADIENTS), choices=tuple(GRADIENTS)
    )
    parser.add_argument(
        "--gradient-methods", nargs="+", default=("Rodas5P", "FBDF"), choices=METHODS
    )
    parser.add_argument("--first", nargs="+", default=FIRST, help="methods of the table 'first'")
    args = parser.parse_args(argv)
    found = locate()
    if not found.ready:
        parser.exit(1, f"no Julia: {found.problem}\n")
    return args


def _packages(tables) -> set:
    """The optional packages that are there."""
    if not {"solve", "gradient"} & set(tables):
        return set()
    found = {name for name in ("Sundials", "SciMLSensitivity") if start().loads(name)}
    if not report.missing("sksundae.cvode", "scikit-sundae"):
        found.add("scikit-sundae")
    return found


def main(argv=None):
    args = _arguments(argv)
    report.heading()
    tables = {}
    # Before this process has a Julia of its own, which takes memory.
    if "first" in args.tables:
        tables["first"] = first(args.first)
        columns = ("method", "import_s", "start_s", "solve_s", "gradient_s", "second_s")
        report.table("first: seconds on the wall", tables["first"], (*columns, "workloads"))
    if "fixed" in args.tables:
        tables["fixed"] = fixed(args)
        columns = ("method", "what", "ms", "julia_ms", "python_ms", "steps")
        report.table("fixed: a short solve", tables["fixed"], columns)
    packages = _packages(args.tables)
    if "solve" in args.tables:
        rows = []
        for name in args.problems:
            for method in args.methods:
                report.progress(name, method)
                rows += solves(name, method, args, packages)
        tables["solve"] = rows
        columns = ("problem", "method", "contestant", "ms", "low", "high", "rounds")
        report.table(
            f"solve: rtol {args.rtol:g}", rows, (*columns, "error", "nfe", "njac", "steps")
        )
        report.table("milliseconds", wide(rows), ("problem", "method", *args.contestants))
        tables["means"] = means(rows)
        columns = ("ratio", "geometric mean", "least", "most", "of")
        report.table("means: of ratios of time", tables["means"], columns)
    if "gradient" in args.tables:
        rows = []
        for name in args.gradients:
            for method in args.gradient_methods:
                report.progress(name, method, "gradient")
                rows += gradients(name, method, args, packages)
        tables["gradient"] = rows
        columns = ("field", "method", "contestant", "ms", "low", "high", "rounds")
        more = ("over torch", "over julia python", "error", "difference")
        report.table("gradient: forward and backward", rows, (*columns, *more))
    if "solve" in args.tables:
        lines = summary(tables["solve"], tables.get("gradient", []))
        print("\n" + "\n".join(lines))
    report.save("julia", tables, args)


if __name__ == "__main__":
    main()
