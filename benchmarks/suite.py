"""What `python -m benchmarks` measures: problems, the contestants of every peer, and ratios at
equal error.

A ratio is made of lines: both contestants run at a ladder of tolerances, in turn, and for both a
straight line is laid through log(time) over log(error), as in benchmarks.precision. They are
compared at the geometric middle of the errors that both reach, once for the times of every round,
so that the ratio has a spread.
"""

from benchmarks import contestants as run

import functools  # isort: skip
import math
import statistics

from benchmarks import report
from benchmarks.pairs import Pair
from benchmarks.peers import EAGER, PEERS
from benchmarks.precision import line
from benchmarks.problems import GRADIENTS, PROBLEMS, SMOOTH, STIFF, names

# Of every problem its kind: what is compared with what follows from it.
KINDS = {
    name: PROBLEMS[name].kind
    for kinds in ((STIFF,), (SMOOTH,), (*GRADIENTS.values(),))
    for name in names(*kinds, suite=True)
}
METHODS = {"stiff": "QNDF", "not stiff": "Tsit5", "gradient": "Tsit5", "stiff gradient": "QNDF"}
# By compile=True, the native engine and Julia.
COMPILED = {
    "stiff": "Rodas5P",
    "not stiff": "Tsit5",
    "gradient": "Tsit5",
    "stiff gradient": "Rodas5P",
}
TITLES = {
    "stiff": "Stiff",
    "not stiff": "Not stiff",
    "gradient": "Training gradient, forward and backward",
    "stiff gradient": "Training gradient of a stiff field",
}


def case(name: str):
    """The problem of that name with its reference."""
    return PROBLEMS[name].case(1e-6)


def contestants(kind: str, method: str | None, packages, engine: str = "torch") -> list:
    """pynode's method, then the solvers of the packages that are for this kind of problem. engine:
    'torch', 'compiled' (compile=True), 'native' or 'julia'."""
    name = method or (METHODS if engine == "torch" else COMPILED)[kind]
    by = run.gradient_by_pynode if "gradient" in kind else run.by_pynode
    if engine == "torch":
        mine = run.Contestant(name, None, functools.partial(by, name))
    else:
        maker = run.by_compiled
        if engine != "compiled":
            maker = functools.partial(run.by_backend, engine)
        mine = run.Contestant(f"{name}, {engine}", None, functools.partial(maker, by, name))
    return [mine] + [
        run.Contestant(solver.label, peer.name, solver.make)
        for peer in PEERS.values()
        if peer.name in packages
        for solver in peer.suite.get(kind, ())
    ]


def measure(name: str, args, packages) -> list:
    """One row a contestant and tolerance, with `times`, a list of seconds; who took too long is
    left out at tighter ones."""
    made, rows = case(name), []
    running = contestants(KINDS[name], args.method, packages, args.engine)
    for rtol in args.ladder:
        report.progress(name, f"rtol {rtol:g}")
        found, times = run.timed(made.at(rtol), running, args)
        for contestant, row, taken in zip(running, found, times):
            rows.append({**row, "package": contestant.package, "kind": KINDS[name], "times": taken})
            if taken:
                rows[-1].update(ms=1e3 * statistics.median(taken), rounds=len(taken))
        running = [
            contestant
            for contestant, row in zip(running, found)
            if not row.get("note", "").startswith("longer")
        ]
        if not running:
            break
    return rows


def ratios(rows: list) -> list:
    """One row a peer, from the rows of one problem: pynode's time over its own at equal error, or a
    note."""
    by_name = {}
    for row in rows:
        by_name.setdefault(row["contestant"], []).append(row)
    (mine, points), *others = by_name.items()
    return [
        {
            "kind": theirs[0]["kind"],
            "problem": theirs[0]["problem"],
            "pynode": mine,
            "peer": name,
            "field": _language(theirs[0]["package"]),
            **compared(points, theirs),
        }
        for name, theirs in others
    ]


def _language(package: str | None) -> str:
    """The language of the field of a package; None is pynode."""
    return PEERS[package].language if package in PEERS else EAGER


def compared(mine: list, others: list) -> dict:
    """The times (Pair.row) of two contestants on their lines at the middle of the errors that both
    reach, or a note."""
    notes = [row["note"] for row in (*mine, *others) if "note" in row]
    mine, others = (
        [row for row in rows if row["times"] and 0 < row["error"] < math.inf]
        for rows in (mine, others)
    )
    spans = [sorted(row["error"] for row in rows) for rows in (mine, others)]
    if min(map(len, spans)) < 2:
        return {"note": notes[0] if notes else "fewer than two tolerances"}
    low, high = max(span[0] for span in spans), min(span[-1] for span in spans)
    if low > high:
        reached = ", ".join(f"{span[0]:.0e} to {span[-1]:.0e}" for span in spans)
        return {"note": f"no error that both reach: {reached}"}
    at = math.sqrt(low * high)
    rounds = min(len(row["times"]) for row in (*mine, *others))
    times = [
        [
            line([row["error"] for row in rows], [row["times"][i] for row in rows], at)
            for i in range(rounds)
        ]
        for rows in (mine, others)
    ]
    return {"at_error": at, **Pair(*times).row()}


def geometric_mean(values: list) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))
