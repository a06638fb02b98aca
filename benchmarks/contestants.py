"""What the benchmarks run in rounds: pynode's methods, the torch packages, and the rounds.

by_X(..., case, field) makes a solver as benchmarks.peers describes it. gradient_by_X does the same
with a Gradient.
"""

from benchmarks.pairs import CLOCKS, once
from pynode.methods import registry

import gc  # isort: skip
import warnings
from typing import NamedTuple

import torch

from pynode import solve as pynode_solve

MAX_STEPS = 100_000


class OutOfTime(Exception):
    """Raised by a field to end a solve that has no limit of its own."""


class Watched:
    """The field for a first run: counts its calls and raises OutOfTime from the time `end` of the
    clock on."""

    def __init__(self, field, clock):
        self.field, self.clock, self.calls, self.end = field, clock, 0, float("inf")

    def __call__(self, t, y):
        self.calls += 1
        if self.clock() > self.end:
            raise OutOfTime
        return self.field(t, y)


class Contestant(NamedTuple):
    """make: a solver as benchmarks.peers describes it; package: None for pynode."""

    name: str
    package: str | None
    make: object


def by_pynode(method, case, field, **options):
    run = case.pynode(method, field=field, max_steps=MAX_STEPS, **options)

    def solve():
        solution = run()
        work = case.pynode_work(solution)
        return solution.y[1:].numpy() if solution.success else None, {
            key: work[key] for key in ("nfe", "njac", "steps")
        }

    return solve


def by_compiled(by, method, case, field):
    """by_pynode or gradient_by_pynode with compile=True, which watches no field; the first solve
    compiles."""
    return _prepared(by(registry.get(method, compile=True), case, case.problem.field), case, method)


def by_backend(backend, by, method, case, field):
    """by_pynode or gradient_by_pynode with another engine, 'native' or 'julia', which watches no
    field; the first solve translates the field, and compiles the loop or reads it from the disk.
    Julia starts at its first solve."""
    run = by(method, case, case.problem.field, backend=backend)
    return _prepared(run, case, f"{method}, {backend}")


def _prepared(run, case, name):
    """run with the seconds of its first call among the counts."""
    began = CLOCKS["wall"]()
    run()
    seconds = _compiling.setdefault((case.name, name), CLOCKS["wall"]() - began)

    def solve():
        found, counts = run()
        return found, {**counts, "compile_s": seconds}

    return solve


_compiling = {}


def by_eager(function, method, options, case, field):
    """torchdiffeq or torchode."""
    t = torch.tensor(case.times, dtype=torch.float64)

    def solve():
        with torch.no_grad(), warnings.catch_warnings():
            # Torchdiffeq gives SciPy arguments that it does not take.
            warnings.simplefilter("ignore")
            return function(field, case.problem.y0, t, method, case.rtol, case.atol, **options)[
                1:
            ].numpy(), {}

    return solve


def gradient_by_pynode(method, case, field, **options):
    options = {
        "method": method,
        "rtol": case.rtol,
        "atol": torch.from_numpy(case.atol),
        "max_steps": MAX_STEPS,
        **options,
    }

    def states(y0):
        return pynode_solve(field, y0, case.times, params=case.parameters, **options).y

    return lambda: (case.gradient(states), {})


def gradient_by_eager(function, method, options, case, field):
    """torchdiffeq or torchode."""
    t = torch.tensor(case.times, dtype=torch.float64)

    def states(y0):
        return function(field, y0, t, method, case.rtol, float(case.atol.min()), **options(case))

    def solve():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return case.gradient(states), {}

    return solve


def first(contestant, case, args):
    """(a function to time or None, row, seconds): one run that counts, for the error, and as a
    warm-up."""
    row = {"problem": case.name, "contestant": contestant.name, "rtol": case.rtol}
    clock = CLOCKS[args.clock]
    watched = Watched(case.problem.field, clock)
    try:
        run = contestant.make(case, watched)
        began = clock()
        watched.end = began + args.limit
        states, counts = run()
        seconds = clock() - began
    except OutOfTime:
        return None, {**row, "note": f"longer than {args.limit:g} s"}, 0.0
    # A peer may fail in its own ways; the rest of the table stands without it.
    except Exception as error:
        return None, {**row, "note": " ".join(f"{type(error).__name__}: {error}".split())[:60]}, 0.0
    if states is None:
        return (
            None,
            {
                **row,
                "note": f"gave up after {counts.get('steps', watched.calls)} steps or calls of f",
            },
            0.0,
        )
    error = case.error(states)
    if watched.calls and contestant.package is not None:
        counts["nfe"] = watched.calls
    return contestant.make(case, case.problem.field), {**row, "error": error, **counts}, seconds


def timed(case, running, args) -> tuple:
    """(rows, times) of all contestants at the case's rtol, a list of seconds each, from rounds in
    which everyone runs once.

    Slow ones run in the first rounds alone; of those that take longer than --seconds the first run
    stands for all.
    """
    runs, rows, seconds = zip(*(first(contestant, case, args) for contestant in running))
    most = [
        0 if run is None else min(args.rounds, int(args.seconds / spent))
        for run, spent in zip(runs, seconds)
    ]
    times = [
        [spent] if run is not None and count == 0 else []
        for run, spent, count in zip(runs, seconds, most)
    ]
    gc.collect()
    for i in range(max(most)):
        for run, count, taken in zip(runs, most, times):
            if i < count:
                taken.append(once(run, args.clock))
    return rows, times
