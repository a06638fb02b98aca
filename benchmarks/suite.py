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

import numpy as np
import torch

from benchmarks import explicit, peers, report, stiff
from benchmarks.fields import MLP, StiffMLP, start
from benchmarks.pairs import Pair
from benchmarks.precision import line
from benchmarks.workprecision import Smooth
from pynode.problems.base import Problem
from pynode.solve import solve

# Of every problem its kind: what is compared with what follows from it.
KINDS = {
    **dict.fromkeys((*stiff.PROBLEMS, "stiff mlp"), "stiff"),
    **dict.fromkeys(("lotka_volterra", "spiral", "mlp"), "not stiff"),
    "mlp gradient": "gradient",
    "stiff mlp gradient": "stiff gradient",
}
METHODS = {"stiff": "QNDF", "not stiff": "Tsit5", "gradient": "Tsit5", "stiff gradient": "QNDF"}
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
# Packages that take the field in a language of their own; all others call the same torch module.
LANGUAGES = {
    "diffrax": "JAX, compiled",
    "casadi": "casadi expression",
    "pydiffsol": "DiffSL, compiled",
}
NETWORKS = {"mlp": MLP, "stiff mlp": StiffMLP}


class Network(stiff.Case):
    """A 3-50-50-3 tanh network, or the stiff one, with 50 outputs to t = 5; the reference is
    SciPy's DOP853 at 1e-12."""

    def __init__(self, name: str, rtol: float):
        made = explicit.Case("mlp x1", rtol)
        made.field = NETWORKS[name]()
        problem = Problem(
            name, made.field, start(), (0.0, 5.0), rtol, made.atol, name.startswith("stiff"), ""
        )
        self._set(problem, rtol, False, made.t.tolist(), made.reference().numpy()[1:])


class Gradient(Network):
    """The gradient in y0 and all weights of the mean square of the outputs, each component divided
    by its largest value.

    Errors are relative to the length of the gradient, against pynode's RadauIIA9 at rtol 1e-11.
    """

    def __init__(self, name: str, rtol: float):
        super().__init__(name.removesuffix(" gradient"), rtol)
        self.name, self.parameters = name, tuple(self.problem.field.parameters())
        self.scale = tuple(self.largest)
        field = self.problem.field
        self.reference = self.gradient(
            lambda y0: solve(field, y0, self.times, method="radauiia9", rtol=1e-11, atol=1e-13).y
        )

    def gradient(self, states):
        """(n + p,) gradient by autograd. states: y0 (n,) -> (T + 1, n), the start first."""
        y0 = self.problem.y0.clone().requires_grad_()
        loss = (states(y0)[1:] / y0.new_tensor(self.scale)).square().mean()
        return torch.cat(
            [part.flatten() for part in torch.autograd.grad(loss, (y0, *self.parameters))]
        ).numpy()

    def error(self, found) -> float:
        return float(np.linalg.norm(found - self.reference) / np.linalg.norm(self.reference))


def case(name: str):
    """The problem of that name with its reference."""
    if KINDS[name].endswith("gradient"):
        return Gradient(name, 1e-6)
    if name in NETWORKS:
        return Network(name, 1e-6)
    if name not in stiff.PROBLEMS:
        return Smooth(name, 1e-6)
    return stiff.Case(name, 1e-6, False)


def contestants(kind: str, method: str | None, packages, compile: bool = False) -> list:
    """pynode's method, with compile=True or as it is, then the solvers of the packages that are for
    this kind of problem."""
    bdf = {"options": {"solver": "BDF"}}
    adjoint = {"adjoint": True}
    table = {
        "stiff": [
            ("scipy", "SciPy BDF", run.by_scipy, "BDF"),
            ("scipy", "SciPy LSODA", run.by_scipy, "LSODA"),
            (
                "torchdiffeq",
                "torchdiffeq scipy_solver BDF",
                run.by_eager,
                peers.torchdiffeq,
                "scipy_solver",
                bdf,
            ),
            ("torchode", "torchode Tsit5", run.by_eager, peers.torchode, "Tsit5", {}),
            ("diffrax", "diffrax Kvaerno5", run.by_diffrax, "Kvaerno5"),
            ("scikit-sundae", "scikit-sundae CVODE BDF", run.by_cvode, "BDF"),
            ("casadi", "casadi CVODES BDF", run.by_casadi, "bdf"),
            ("pydiffsol", "pydiffsol BDF", run.by_diffsol, "bdf"),
        ],
        "not stiff": [
            ("scipy", "SciPy RK45", run.by_scipy, "RK45"),
            ("scipy", "SciPy LSODA", run.by_scipy, "LSODA"),
            ("torchdiffeq", "torchdiffeq dopri5", run.by_eager, peers.torchdiffeq, "dopri5", {}),
            ("torchode", "torchode Tsit5", run.by_eager, peers.torchode, "Tsit5", {}),
            ("diffrax", "diffrax Tsit5", run.by_diffrax, "Tsit5"),
            ("scikit-sundae", "scikit-sundae CVODE Adams", run.by_cvode, "Adams"),
            ("casadi", "casadi CVODES Adams", run.by_casadi, "adams"),
            ("pydiffsol", "pydiffsol Tsit45", run.by_diffsol, "tsit45"),
        ],
        "gradient": [
            (
                "torchdiffeq",
                "torchdiffeq dopri5",
                run.gradient_by_eager,
                peers.torchdiffeq,
                "dopri5",
                lambda case: {},
            ),
            (
                "torchdiffeq",
                "torchdiffeq dopri5, adjoint",
                run.gradient_by_eager,
                peers.torchdiffeq,
                "dopri5",
                lambda case: {**adjoint, "parameters": case.parameters},
            ),
            (
                "torchode",
                "torchode Tsit5",
                run.gradient_by_eager,
                peers.torchode,
                "Tsit5",
                lambda case: {},
            ),
            ("diffrax", "diffrax Tsit5", run.gradient_by_diffrax, "Tsit5"),
            ("casadi", "casadi CVODES Adams", run.by_casadi, "adams"),
        ],
        "stiff gradient": [
            (
                "torchdiffeq",
                "torchdiffeq scipy_solver BDF, adjoint",
                run.gradient_by_eager,
                peers.torchdiffeq,
                "scipy_solver",
                lambda case: {**adjoint, **bdf, "parameters": case.parameters},
            ),
            (
                "torchode",
                "torchode Tsit5",
                run.gradient_by_eager,
                peers.torchode,
                "Tsit5",
                lambda case: {},
            ),
            ("diffrax", "diffrax Kvaerno5", run.gradient_by_diffrax, "Kvaerno5"),
            ("casadi", "casadi CVODES BDF", run.by_casadi, "bdf"),
        ],
    }
    name = method or (COMPILED if compile else METHODS)[kind]
    by = run.gradient_by_pynode if "gradient" in kind else run.by_pynode
    if compile:
        mine = run.Contestant(
            f"{name}, compiled", None, functools.partial(run.by_compiled, by, name)
        )
    else:
        mine = run.Contestant(name, None, functools.partial(by, name))
    return [mine] + [
        run.Contestant(label, package, functools.partial(make, *options))
        for package, label, make, *options in table[kind]
        if package in packages
    ]


def measure(name: str, args, packages) -> list:
    """One row a contestant and tolerance, with `times`, a list of seconds; who took too long is
    left out at tighter ones."""
    made, rows = case(name), []
    running = contestants(KINDS[name], args.method, packages, args.compile)
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
            "field": LANGUAGES.get(theirs[0]["package"], "torch"),
            **compared(points, theirs),
        }
        for name, theirs in others
    ]


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
