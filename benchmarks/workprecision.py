"""Work against precision: pynode's methods beside SciPy, torchdiffeq, torchode and diffrax over a
ladder of tolerances.

  points     every problem, contestant and rtol: error, median time, its ratio to SciPy's (BDF on
             stiff problems, LSODA on the others), calls of f (nfe), Jacobians, steps
  at error   the least time of any rung of the ladder whose error is at most 1e-2, 1e-4, 1e-6, 1e-8;
             empty: none is
  stopped    who took longer than --limit, or gave up, and at which rtol; tighter ones are then left
             out

atol goes with rtol (the problem's own atol at rtol 1e-6). Errors are the largest over the output
times, relative to the largest value of the component: against the reference data on the stiff
problems, against DOP853 at 1e-12 on the others. All contestants of a rung run in turn, round after
round, on one thread and the same torch field; nfe of the peers counts every call, finite
differences included, pynode's Jacobians are one batched call each and counted apart. diffrax runs a
JAX twin of the field, compiled once a problem; that time stands in a table of its own. The times
--limit and --seconds are of the same clock. Of the explicit methods, on stiff problems one of every
package shows where it ends; torchode has no others.
"""

from benchmarks.contestants import Contestant, by_pynode, timed
from benchmarks.peers import PEERS
from benchmarks.problems import PROBLEMS, SMOOTH, STIFF, names

import functools  # isort: skip
import statistics

from benchmarks import report
from pynode.core.drawing.palette import look
from pynode.methods import registry

NAMES = (*names(STIFF, network=False), *names(SMOOTH, network=False))
# One of each family; "--methods all" takes the registry.
STIFF_METHODS = ("QNDF", "FBDF", "Rodas5P", "RadauIIA5", "RadauIIA9", "KenCarp47", "Tsit5")
SMOOTH_METHODS = ("Tsit5", "DP5", "Vern7", "DP8", "AdamsPECE", "QNDF", "AutoTsit5(Rodas5P())")
TARGETS = (1e-2, 1e-4, 1e-6, 1e-8)
LADDER = (1e-3, 1e-5, 1e-7, 1e-9)
BESIDE = tuple(peer.name for peer in PEERS.values() if peer.ladder and peer.name != "scipy")


def contestants(kind: str, methods, packages) -> list:
    """pynode's methods, then the peers among the packages, the base of the ratios first."""
    base, *others = [
        Contestant(solver.label, peer.name, solver.make)
        for peer in PEERS.values()
        for solver in peer.ladder.get(kind, ())
    ]
    mine = [
        Contestant(registry.get(name).name, None, functools.partial(by_pynode, name))
        for name in methods
    ]
    return [base, *mine, *(peer for peer in others if peer.package in packages)]


def rung(case, running, base, args) -> list:
    """Rows of all contestants at the case's rtol with their median times; base: whom these are
    compared with."""
    rows, times = timed(case, running, args)
    medians = [1e3 * statistics.median(taken) if taken else None for taken in times]
    compared = medians[running.index(base)] if base in running else None
    for row, taken, median in zip(rows, times, medians):
        if taken:
            row.update(ms=median, rounds=len(taken), ratio=compared and median / compared)
    return rows


def measure(name: str, args, packages) -> list:
    """All rows of one problem; who was stopped at a tolerance is left out at the tighter ones."""
    kind = PROBLEMS[name].kind
    case = PROBLEMS[name].case(1e-6)
    methods = args.methods or (STIFF_METHODS if kind == STIFF else SMOOTH_METHODS)
    rows = []
    running = contestants(kind, methods, packages)
    base = running[0]
    for rtol in args.ladder:
        report.progress(name, f"rtol {rtol:g}")
        found = rung(case.at(rtol), running, base, args)
        rows += found
        running = [contestant for contestant, row in zip(running, found) if "note" not in row]
        if not running:
            break
    return rows


def at_error(rows: list) -> list:
    """One row a problem and contestant: the least time with an error of at most each target."""
    found = []
    for key in dict.fromkeys((row["problem"], row["contestant"]) for row in rows):
        mine = [row for row in rows if (row["problem"], row["contestant"]) == key and "ms" in row]
        line = {"problem": key[0], "contestant": key[1]}
        for target in TARGETS:
            times = [row["ms"] for row in mine if row["error"] <= target]
            line[f"ms {target:.0e}"] = min(times) if times else None
        found.append(line)
    return found


def plot(rows: list, mine: set, path):
    """Median time over error, a panel a problem: pynode's methods as full lines, the peers
    dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["problem"] for row in rows))
    labels = sorted(
        dict.fromkeys(row["contestant"] for row in rows), key=lambda label: label not in mine
    )
    columns = min(3, len(names) + 1)
    lines = -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.8 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    handles = {}
    for axis, name in zip(axes, names):
        for i, label in enumerate(labels):
            points = [
                row
                for row in rows
                if row["problem"] == name and row["contestant"] == label and "ms" in row
            ]
            if not points:
                continue
            (handles[label],) = axis.loglog(
                [row["error"] for row in points],
                [row["ms"] for row in points],
                "-" if label in mine else "--",
                color=look(i).colour,
                marker=look(i).marker,
                markersize=4,
                linewidth=1.2,
            )
        axis.invert_xaxis()
        axis.set(title=name, xlabel="largest relative error", ylabel="median time, ms")
        axis.grid(alpha=0.3)
    for axis in axes[len(names) :]:
        axis.axis("off")
    axes[len(names)].legend(
        [handles[label] for label in labels if label in handles],
        [label for label in labels if label in handles],
        loc="upper left",
        fontsize=8,
        ncols=2,
        title="full: pynode; dashed: peers",
    )
    figure.savefig(path, dpi=130)
    print(f"written: {path.name}")


def main(argv=None):
    parser = report.parser(__doc__)
    parser.set_defaults(seconds=0.1)
    parser.add_argument(
        "--problems",
        nargs="+",
        default=NAMES,
        choices=NAMES,
    )
    parser.add_argument(
        "--methods", nargs="+", help="pynode's, by name; 'all': every method of the registry"
    )
    parser.add_argument(
        "--ladder",
        nargs="+",
        type=float,
        default=LADDER,
        help="values of rtol (1e-3 1e-5 1e-7 1e-9)",
    )
    parser.add_argument(
        "--limit", type=float, default=1.0, help="seconds after which a solve is stopped (1)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="most rounds at one tolerance (7)")
    parser.add_argument("--peers", nargs="*", default=BESIDE, choices=BESIDE, help="beside SciPy")
    parser.add_argument(
        "--quick", action="store_true", help="two tolerances, two rounds, one problem unless named"
    )
    args = parser.parse_args(argv)
    if args.quick:
        args.ladder = [1e-3, 1e-5]
        args.rounds = 2
        args.problems = args.problems if args.problems is not NAMES else ("oregonator",)
    if args.methods == ["all"]:
        args.methods = [name for name in registry.names() if not registry.get(name).separable]
    args.ladder = sorted(args.ladder, reverse=True)
    if report.missing(PEERS["scipy"].module, "scipy"):
        parser.exit(1, "this benchmark needs SciPy: pip install scipy\n")
    packages = [
        "scipy",
        *(name for name in args.peers if not report.missing(PEERS[name].module, name)),
    ]
    report.heading()
    rows = [row for name in args.problems for row in measure(name, args, packages)]
    columns = ("contestant", "rtol", "error", "ms", "ratio", "rounds", "nfe", "njac", "steps")
    for name in args.problems:
        report.table(
            f"points: {name}",
            [row for row in rows if row["problem"] == name and "ms" in row],
            columns,
        )
    best = at_error(rows)
    for name in args.problems:
        mine = [row for row in best if row["problem"] == name]
        report.table(
            f"at error: {name}", mine, ("contestant", *(f"ms {target:.0e}" for target in TARGETS))
        )
    stopped = [row for row in rows if "note" in row]
    if stopped:
        report.table("stopped", stopped, ("problem", "contestant", "rtol", "note"))
    compiled = [row for row in rows if row.get("compile_s") and row["rtol"] == args.ladder[0]]
    if compiled:
        report.table(
            "compilation, seconds on the wall, in no time above",
            compiled,
            ("problem", "contestant", "compile_s"),
        )
    report.save("workprecision", {"points": rows, "at error": best}, args)
    if not report.missing("matplotlib"):
        mine = {
            registry.get(name).name for name in args.methods or (*STIFF_METHODS, *SMOOTH_METHODS)
        }
        plot(rows, mine, args.out / "workprecision.png")


if __name__ == "__main__":
    main()
