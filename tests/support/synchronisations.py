"""Synchronisations in each step or pass of a solve on a strict device, with their places.

    python -m tests.support.synchronisations             # all cases: a table, then the places
    python -m tests.support.synchronisations qndf        # the cases whose names have these words
    python -m tests.support.synchronisations --json      # for tests/budgets

Of a long and a short solve the difference counts: what happens once in a solve (`start`) is apart.
A unit is an attempted step of one system, a pass of a batch (one call of its stepper), or a step of
an SDE. Linear solves of one system are counted, too.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from pynode import Event, solve
from pynode.backends.torch import masked_loop
from pynode.backends.torch.masked_pass import Passes
from pynode.methods import registry
from pynode.methods.batched.base import STEPPERS
from pynode.sde import solve_sde
from tests.support.strict_device import NAME, strict


@dataclass(frozen=True)
class Run:
    """One solve and its gradient. units: steps or passes; solves: of linear systems; forward,
    backward: the Waits."""

    units: int
    solves: int
    forward: list
    backward: list


@dataclass
class Counts:
    """Of one direction of a case, for each unit: read and sent in all, and by place; start: what a
    solve has besides."""

    read: float = 0.0
    sent: float = 0.0
    start: float = 0.0
    places: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """run(end) -> Run."""

    name: str
    run: Callable
    short: float
    long: float


def on_device(values):
    return torch.tensor(values, dtype=torch.float64).to(NAME)


def gradient(waits, result, leaves):
    """The Waits of the gradient of the sum of a result."""
    del waits[:]
    torch.autograd.grad(result.square().sum(), leaves)
    return list(waits)


def one_system(method, end, options=()):
    """A spiral that is driven in time, so that steps grow and shrink."""
    with strict() as waits:
        matrix = on_device([[-0.1, 2.0], [-2.0, -0.1]])
        matrix.requires_grad_()
        y0 = on_device([1.0, 0.5]).requires_grad_()

        def spiral(t, y):
            return torch.mv(matrix, y) + torch.sin(t)

        kinds = {"method": method, "rtol": 1e-5, "atol": 1e-7, **dict(options)}
        solve(spiral, y0, [0.0, 0.01], **kinds)
        del waits[:]
        solution = solve(spiral, y0, [0.0, end], **kinds)
        forward = list(waits)
        backward = gradient(waits, solution.y[-1], [y0, matrix])
    stats = solution.stats
    return Run(stats.accepted + stats.rejected, stats.nsolve, forward, backward)


def batch(method, end, options=(), owner=None):
    """Eight rows with rates of their own, driven in time. owner: of the function ``advance`` that
    makes a pass."""
    owner = owner or STEPPERS.get(registry.get(method))
    with strict() as waits:
        rate = on_device(torch.logspace(0, 1.5, 8).tolist()).requires_grad_()
        y0 = on_device([[0.5, 0.0]] * 8).requires_grad_()

        def rows(t, y, rate):
            return rate.unsqueeze(-1) * (torch.cos(t) - y)

        kinds = {"method": method, "rtol": 1e-5, "batched": True, **dict(options)}
        solve(rows, y0, [0.0, 0.01], args=(rate,), **kinds)
        del waits[:]
        with counted_calls(owner, "advance") as passes:
            solution = solve(rows, y0, [0.0, end], args=(rate,), **kinds)
        forward = list(waits)
        backward = gradient(waits, solution.y[-1], [y0, rate])
    return Run(passes[0], 0, forward, backward)


@contextmanager
def counted_calls(owner, name):
    """A Counter of the calls of a function of a class, at 0."""
    calls = Counter()
    function = getattr(owner, name)

    def counted(self, *args):
        calls[0] += 1
        return function(self, *args)

    setattr(owner, name, counted)
    try:
        yield calls
    finally:
        setattr(owner, name, function)


@contextmanager
def attending():
    """A block in which the host attends the passes of any rows on a device
    (backends/torch/attended.py)."""
    least = masked_loop.ATTENDED
    masked_loop.ATTENDED = 1
    try:
        yield
    finally:
        masked_loop.ATTENDED = least


def attended(method, end, options=()):
    """The rows of ``batch``, whose numbers stay on the device."""
    with attending():
        return batch(method, end, options, Passes)


def paths(method, end):
    """An SDE of four paths in steps of 0.05."""
    with strict() as waits:
        y0 = on_device([[1.0], [2.0], [3.0], [4.0]]).requires_grad_()
        torch.manual_seed(0)
        del waits[:]
        solution = solve_sde(
            lambda t, y: -y, lambda t, y: 0.1 * y, y0, [0.0, end], dt=0.05, method=method
        )
        forward = list(waits)
        backward = gradient(waits, solution.y[-1], [y0])
    return Run(round(end / 0.05), 0, forward, backward)


def crossing(t, y, *args):
    """Never zero, so that every step is searched and none is cut."""
    return y[..., 0] - 50.0


SINGLE = (
    "Tsit5",
    "Vern7",
    "RKC",
    "AdamsPECE",
    "Rodas5P",
    "Rosenbrock23",
    "Kvaerno5",
    "KenCarp4",
    "RadauIIA5",
    "QNDF",
    "FBDF",
    "ABDF2",
    "AutoTsit5(Rodas5P())",
)
BATCHED = ("Tsit5", "DP8", "Rodas5P", "Kvaerno5", "QNDF", "FBDF")
EVENT = (("events", Event(crossing)),)


def cases():
    """Every case by its name."""
    found = [Case(name, partial(one_system, name), 4.0, 10.0) for name in SINGLE]
    found += [Case(f"batched {name}", partial(batch, name), 0.5, 3.0) for name in BATCHED]
    found += [
        Case(f"attended {name}", partial(attended, name), 0.5, 3.0)
        for name in ("Tsit5", "Rodas5P", "QNDF", "FBDF")
    ]
    found += [
        Case(f"{name} with an event", partial(one_system, name, options=EVENT), 4.0, 10.0)
        for name in ("Tsit5", "Rodas5P", "QNDF")
    ]
    found += [
        Case(f"batched {name} with an event", partial(batch, name, options=EVENT), 0.5, 3.0)
        for name in ("Tsit5", "Rodas5P", "QNDF")
    ]
    found += [Case(f"SDE {name}", partial(paths, name), 1.0, 3.0) for name in ("EM", "ImplicitEM")]
    return {case.name: case for case in found}


def counted(case):
    """(Counts forward, Counts backward, Newton's solves for each unit)."""
    short = case.run(case.short)
    long = case.run(case.long)
    units = long.units - short.units
    assert units >= 8, f"{case.name}: {units} units"
    found = []
    for direction in ("forward", "backward"):
        few = Counter((wait.kind, wait.place) for wait in getattr(short, direction))
        many = Counter((wait.kind, wait.place) for wait in getattr(long, direction))
        counts = Counts()
        for kind, place in sorted(many | few):
            each = (many[kind, place] - few[kind, place]) / units
            counts.start += few[kind, place] - each * short.units
            if each:
                counts.places[f"{kind} {place}"] = each
                setattr(counts, kind, getattr(counts, kind) + each)
        found.append(counts)
    return (*found, (long.solves - short.solves) / units)


def main(words, as_json):
    chosen = [
        case for case in cases().values() if all(w.lower() in case.name.lower() for w in words)
    ]
    results = {}
    if not as_json:
        print(HEAD, flush=True)
    for case in chosen:
        results[case.name] = counted(case)
        if not as_json:
            print(row(case.name, *results[case.name]), flush=True)
    if as_json:
        plain = {
            name: {"forward": vars(forward), "backward": vars(backward)}
            for name, (forward, backward, _) in results.items()
        }
        print(json.dumps(plain))
        return
    for name, (forward, backward, _) in results.items():
        for title, counts in (("forward", forward), ("backward", backward)):
            print(f"\n{name}, {title}:")
            for place, each in sorted(counts.places.items(), key=lambda item: -item[1]):
                print(f"  {each:6.2f} {place}")


def row(name, forward, backward, solves):
    """A line of the table."""
    parts = [f"{c.read:6.2f} + {c.sent:6.2f} {c.start:7.0f}" for c in (forward, backward)]
    return f"{name:30} {parts[0]}   {parts[1]} {solves:8.2f}"


HEAD = (
    f"{'a unit: read + sent, start':30} {'forward':>15} {'start':>7}"
    f"   {'backward':>15} {'start':>7} {'solves':>8}"
)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Synchronisations of solves, by place.")
    parser.add_argument("words", nargs="*", help="of the names of the cases")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    main(given.words, given.json)
    sys.stdout.flush()
    # The thread of the device cannot end at exit.
    os._exit(0)
