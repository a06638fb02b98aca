"""Random solves of problems whose solutions are known, each made again from its number."""

import math
import random
from dataclasses import dataclass, field

import numpy as np
import torch

import pynode
from pynode.methods import registry
from pynode.solve_batched import serves
from tests.support.cases import METHODS, MULTISTEP
from tests.support.random_problems import KINDS, decades

# Besides those of the registry: the choice, and a pair that is made where it is asked for.
CHOICES = ("auto", "auto", "AutoDP5(KenCarp4())")
ROWS = [name for name in METHODS if serves(registry.get(name))]
ALLOWED = 100  # tolerances, times the condition of the problem
# Evaluations in which SciPy may show that a solve can be done. Twice as many are allowed.
FEW = 10_000
# From here an explicit method may give up: stability, not the error, decides its steps.
STIFF = 200


@dataclass(frozen=True)
class Plan:
    """A solve of problems of a kind, one or a batch of rows: y = scale u, t = t0 + pace s.

    floor: atol in units of rtol and of the scale; points: number of outputs.
    """

    number: int
    kind: str
    method: str
    rtol: float
    floor: float
    dtype: torch.dtype
    rows: int
    n: int
    hard: bool
    scale: tuple
    pace: float
    t0: float
    points: int
    options: dict = field(default_factory=dict)


def accuracy(method, dtype):
    """(least, largest) rtol that is asked of a method: low orders would take steps without end."""
    order = 5 if method in CHOICES else registry.get(method).order
    least, most = {1: (1e-3, 1e-2), 2: (1e-4, 1e-2), 3: (1e-5, 1e-3), 4: (1e-7, 1e-3)}.get(
        order, (1e-9, 1e-3)
    )
    return max(least, 1e-5 if dtype == torch.float32 else 0.0), most


def units(r, n, narrow):
    """(scale (n,), pace, t0), of which at most two are far from one."""
    far, kind = (
        (12 if narrow else 30),
        r.choice(("plain", "plain", "state", "apart", "time", "late")),
    )
    scale, pace, t0 = np.ones(n), r.choice((1.0, 1.0, -1.0)), 0.0
    if kind == "state":
        scale = scale * 10 ** r.uniform(-far, far)
    elif kind == "apart":
        scale = 10 ** np.array([r.uniform(-far / 4, far / 4) for _ in range(n)])
    elif kind == "time":
        pace *= decades(r, -far, far)
    elif kind == "late" and not narrow:
        t0 = r.choice((1e6, -1e6, 1.7e9))
        pace *= r.choice((1.0, 60.0, 86400.0))
    return tuple(scale.tolist()), pace, t0


def plan(number):
    """The Plan of this number."""
    r = random.Random(f"solve {number}")
    rows = r.choice((0, 0, 0, 3))
    method = r.choice(["auto", *ROWS] if rows else [*CHOICES, *METHODS])
    implicit = method in CHOICES or registry.get(method).implicit
    dtype = torch.float32 if r.random() < 0.2 else torch.float64
    rtol = 10 ** r.uniform(*map(math.log10, accuracy(method, dtype)))
    n = r.choice((1, 2, 3))
    kind = r.choice(list(KINDS))
    n = {"oscillation": 3, "triangle": 2, "turning": 2, "kaps": 2}.get(kind, n)
    hard = r.random() < (0.6 if implicit else 0.1)
    return Plan(
        number,
        kind,
        method,
        rtol,
        r.choice((1.0, 1e-2, 1e-3, 0.0)),
        dtype,
        rows,
        n,
        hard,
        *units(r, n, dtype == torch.float32),
        r.choice((2, 2, 5, 30)),
        asked(r, method, rows),
    )


def asked(r, method, rows):
    """Options beyond the tolerances: what a user may pass without any need."""
    found, chosen = {}, None if method in CHOICES else registry.get(method)
    for name in ("tstops", "first_step", "max_step", "tensor times"):
        if r.random() < 0.15:
            found[name] = r.choice((1e-12, 1e-4, 0.1, 10.0)) if name == "first_step" else True
    if chosen is not None and chosen.implicit and not rows and r.random() < 0.3:
        found[r.choice(("jac", "mass", "structure"))] = r.choice(("sparse", "krylov", "banded"))
    if chosen is not None and hasattr(chosen, "tableau") and r.random() < 0.1:
        found["controller"] = r.choice(("I", "PI", "PID"))
    if not rows:
        found.update({name: True for name in ("dense", "nonnegative") if r.random() < 0.15})
    return found


class Built:
    """The problems of a plan, and the arguments of the solve."""

    def __init__(self, plan):
        self.plan = plan
        r = random.Random(f"problem {plan.number}")
        self.problems = [KINDS[plan.kind](r, plan.n, plan.hard)]
        for i in range(1, plan.rows):
            self.problems.append(self._like(r, i))
        first, double = self.problems[0], torch.float64
        self.scale = torch.tensor(plan.scale, dtype=double)
        # (T, rows): every row has times of its own.
        self.times = plan.t0 + plan.pace * np.stack(
            [np.linspace(0.0, p.length, plan.points) for p in self.problems], -1
        )
        self.atol = plan.rtol * plan.floor
        if plan.floor == 0 and not all(p.leaving for p in self.problems):
            self.atol = 1e-3 * plan.rtol
        self.implicit = plan.method in CHOICES or registry.get(plan.method).implicit
        self.stiff = max(p.fastest * p.length for p in self.problems) > STIFF
        self.excused = self.stiff and not self.implicit
        data = zip(*(p.data for p in self.problems))
        self.data = [
            torch.tensor(np.stack(x) if plan.rows else x[0], dtype=plan.dtype) for x in data
        ]
        u0 = np.stack([p.u0 for p in self.problems]) if plan.rows else first.u0
        self.y0 = (torch.tensor(u0, dtype=double) * self.scale).to(plan.dtype)
        self.mass = (
            torch.linspace(0.5, 2.0, plan.n, dtype=plan.dtype) if "mass" in self._taken() else None
        )

    def _like(self, r, i):
        """The problem of row i, the next one whose data have the shapes of the first row's."""
        plan, wanted = self.plan, [x.shape for x in self.problems[0].data]
        while True:
            r.seed(f"problem {plan.number} row {i}")
            found = KINDS[plan.kind](r, plan.n, plan.hard)
            if [x.shape for x in found.data] == wanted:
                return found
            i += plan.rows

    def _taken(self):
        """The options that the method has."""
        plan, chosen = self.plan, dict(self.plan.options)
        method = None if plan.method in CHOICES else registry.get(plan.method)
        if "mass" in chosen and not method.takes_mass:
            del chosen["mass"]
        if "structure" in chosen and chosen["structure"] not in method.structures:
            del chosen["structure"]
        if "controller" in chosen and not hasattr(method, "controller"):
            del chosen["controller"]
        return chosen

    def field(self, dtype=None):
        """f(t, y, *data)."""
        plan, rate, mass = self.plan, self.problems[0].rate, self.mass
        scale = self.scale.to(dtype or plan.dtype)

        def f(t, y, *data):
            slope = rate((t - plan.t0) / plan.pace, y / scale, *data) * scale / plan.pace
            return slope if mass is None else mass.to(y.dtype) * slope

        return f

    def _method(self, taken):
        """The method with the options that belong to it."""
        name, options = self.plan.method, {}
        if "structure" in taken:
            banded = pynode.Banded(self.plan.n - 1, self.plan.n - 1)
            structure = taken["structure"]
            options["jacobian"] = banded if structure == "banded" else structure
            name = "qndf" if name == "auto" else name
        if "controller" in taken:
            options["controller"] = taken["controller"]
        return registry.get(name, **options) if options else name

    def call(self):
        """solve's arguments, by name."""
        plan, taken, f = self.plan, self._taken(), self.field()
        duration = abs(plan.pace) * self.problems[0].length
        jumps = [plan.t0 + plan.pace * k for k in self.problems[0].knots]
        found = {
            "f": f,
            "y0": self.y0,
            "t": self.times[:, 0].tolist(),
            "args": tuple(self.data),
            "method": self._method(taken),
            "rtol": plan.rtol,
            "atol": (self.atol * self.scale).to(plan.dtype),
            "jumps": jumps,
            "max_nfe": (3000 if self.excused else 2 * FEW) * max(1, plan.rows),
            "max_steps": 2 * FEW,
        }
        if "tensor times" in taken or (self.times != self.times[:, :1]).any():
            found["t"] = torch.tensor(self.times if plan.rows else self.times[:, 0])
        if "tstops" in taken:
            start, end = self.times[[0, -1], 0].tolist()
            middle = start + 0.3 * (end - start)
            found["tstops"] = [middle, middle, math.nextafter(middle, math.inf), start, end, *jumps]
        if "first_step" in taken:
            found["first_step"] = taken["first_step"] * duration
        if "max_step" in taken:
            found["max_step"] = 0.1 * duration
        if "jac" in taken:
            found["jac"] = lambda t, y, *data: torch.func.jacrev(f, argnums=1)(t, y, *data)
        if "mass" in taken:
            found["mass"] = torch.diag(self.mass)
        if "dense" in taken:
            found["dense"] = taken["dense"]
        if plan.kind == "prothero" and plan.hard and plan.method not in MULTISTEP:
            # The error estimates of one-step methods see little of what drives a fast component.
            # Their steps become so long (SciPy's Radau's, too) that only their ends are accurate.
            found["tstops"] = [*found.get("tstops", ()), *self.times.flatten().tolist()]
            found["dense"] = False
        if "nonnegative" in taken and all(
            p.leaving and (p.exact(np.array([0.1])) > 0).all() for p in self.problems
        ):
            found["nonnegative"] = True
        return {**found, "batched": True} if plan.rows else {**found, "max_seconds": 600}

    def tolerance(self, i, outputs):
        """What the condition of problem i makes of one tolerance, at outputs (T,): (T, n)."""
        plan, problem = self.plan, self.problems[i]
        grid = np.linspace(0, problem.length, 400)
        s = np.sort(np.concatenate((grid, outputs)))
        u = problem.exact(s)
        local = self.atol + plan.rtol * np.abs(u)
        if problem.flow is None:  # components act on one another
            grown = np.maximum.accumulate(local.max(-1, keepdims=True))
        else:
            flow = problem.flow(s)
            grown = np.maximum.accumulate(local / flow) * flow
        at = np.searchsorted(s, outputs)
        rounding = self._rounding(
            problem, np.abs(u).max(), np.abs(np.diff(problem.exact(grid), axis=0)).max() / grid[1]
        )
        return problem.growth * (1 + problem.turns) * (grown[at] + rounding)

    def _rounding(self, problem, size, steepest):
        """What times and states are known to, in tolerances of which ALLOWED are."""
        plan = self.plan
        coarse = np.finfo(np.float32 if plan.dtype == torch.float32 else np.float64).eps
        eps = coarse if problem.timed else np.finfo(np.float64).eps
        shift = eps * np.abs(self.times).max() / abs(plan.pace) + coarse * problem.length
        return (64 * coarse * size + 10 * shift * max(steepest, self._slope(problem))) / ALLOWED

    def _slope(self, problem):
        data = [torch.tensor(x) for x in problem.data]
        return problem.rate(torch.tensor(0.0), torch.tensor(problem.u0), *data).abs().max().item()
