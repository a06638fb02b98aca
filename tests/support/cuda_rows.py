"""Rows by the native engine's kernel in numba's simulator, beside the same rows on the CPU.

    NUMBA_ENABLE_CUDASIM=1 python -m tests.support.cuda_rows tape order    # without names: all

It runs in a process of its own, because numba reads the variable for the simulator once, when it is
imported. It prints one line of JSON: for each case what ``CASES`` returns.
"""

import functools
import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from pynode import DiscreteAdjoint, NativeBackend, SolveError, solve
from tests.support import ROOT
from tests.support.cases import leaf, tensor

KERNEL = NativeBackend(device="cuda")
ROWS = 64
CASES = {}


@functools.cache
def simulated(*names):
    """The results of these cases, from another process."""
    return in_simulator("tests.support.cuda_rows", *names)


def in_simulator(module, *arguments):
    """What a script prints as JSON, in a process with numba's simulator."""
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def case(function):
    CASES[function.__name__] = function
    return function


# ------------------------------------------------------------------------------------- problems


class Oscillators(nn.Module):
    """Van der Pol's oscillators, of a stiffness mu for each row, with a common gain."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(tensor(1.1))

    def forward(self, t, y, mu):
        a = y[..., 0]
        b = y[..., 1]
        return torch.stack((b, mu * self.gain * (1 - a * a) * b - a + 0.1 * torch.sin(t[:, 0])), -1)


def robertson(t, y, rates):
    """Robertson's reaction, with rates for each row."""
    a, b, c = rates.unbind(-1)
    slow = a * y[:, 0] - b * y[:, 1] * y[:, 2]
    fast = c * y[:, 1] ** 2
    return torch.stack((-slow, slow - fast, fast), -1)


class Network(nn.Module):
    """Tanh layers 3-6-3 with a decay: all rows share the parameters."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 6).double()
        self.second = nn.Linear(6, 3).double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.4 * torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def forward(self, t, y):
        return self.second(torch.tanh(self.first(y))) - y


def oscillators(rows=ROWS):
    """(f, starts, args, times)."""
    start = tensor(2.0, 0.0).repeat(rows, 1) + 0.01 * torch.arange(rows).unsqueeze(1)
    mu = leaf(torch.logspace(0, 1, rows, dtype=torch.float64))
    return Oscillators(), leaf(start), (mu,), torch.linspace(0.0, 0.5, 4, dtype=torch.float64)


def reactions(rows=ROWS):
    spread = torch.logspace(-1, 1, rows, dtype=torch.float64).unsqueeze(1)
    rates = leaf(tensor(0.04, 1e4, 3e7) * spread)
    times = tensor(0.0, 0.1, 1.0)
    return robertson, leaf(tensor(1.0, 0.0, 0.0).repeat(rows, 1)), (rates,), times


def network(rows=ROWS):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn((rows, 3), generator=generator, dtype=torch.float64)
    return Network(), leaf(start), (), torch.linspace(0.0, 1.0, 3, dtype=torch.float64)


# ---------------------------------------------------------------------------------- comparisons


def solved(backend, problem, method, loss=None, **options):
    """(solution, gradients in the starts, the args and the parameters)."""
    f, start, args, times = problem
    options = {"rtol": 1e-6, "atol": 1e-9, "t": times, **options}
    t = options.pop("t")
    solution = solve(
        f, start, t, args=args, batched=True, method=method, backend=backend, **options
    )
    wanted = [start, *(x for x in args if x.requires_grad)]
    if isinstance(f, nn.Module):
        wanted += f.parameters()
    if loss is None:
        weight = torch.linspace(0.5, 1.5, solution.y.numel()).to(solution.y)
        value = (weight.reshape(solution.y.shape) * solution.y).square().nansum()
    else:
        value = loss(solution)
    return solution, torch.autograd.grad(value, wanted, allow_unused=True)


def compared(problem, method, **options):
    """The kernel beside the CPU: the counts, how the rows ended, and the largest differences of the
    states, relative to the largest number of the row, and of each gradient."""
    kernel, mine = solved(KERNEL, problem, method, **options)
    native, theirs = solved("native", problem, method, **options)
    names = ("accepted", "rejected", "nfe", "njac", "nlu", "nsolve", "backward_nvjp")
    return {
        "backend": kernel.backend,
        "counts": [getattr(kernel.stats, name) for name in names],
        "expected": [getattr(native.stats, name) for name in names],
        "statuses": [status.name for status in kernel.statuses],
        "expected_statuses": [status.name for status in native.statuses],
        "reached": kernel.reached,
        "expected_reached": native.reached,
        "states": difference(kernel.y, native.y, (0, 2)),
        "gradients": [difference(a, b) for a, b in zip(mine, theirs, strict=True)],
        "finite": [bool(torch.isfinite(x).all()) for x in mine],
        "nan": int(torch.isnan(kernel.y).sum()),
        "expected_nan": int(torch.isnan(native.y).sum()),
    }


def difference(actual, expected, axes=None):
    """The largest difference relative to the largest number of all, or along these axes. NaN equals
    NaN."""
    actual = actual.detach().nan_to_num()
    expected = expected.detach().nan_to_num()
    size = expected.abs().amax(axes, keepdim=True).clamp(min=1e-30)
    return float(((actual - expected).abs() / size).max())


for _method in ("tsit5", "rodas5p"):
    for _problem in (oscillators, network):
        CASES[f"{_problem.__name__} {_method}"] = functools.partial(
            lambda problem, method: compared(problem(), method), _problem, _method
        )
CASES["reactions rodas5p"] = lambda: compared(reactions(), "rodas5p", atol=1e-12)
# Another tableau of each family; the explicit one has further stages for its dense output.
CASES["oscillators bs3"] = lambda: compared(oscillators(6), "bs3")
CASES["oscillators dp8"] = lambda: compared(oscillators(4), "dp8", rtol=1e-9)
CASES["reactions rosenbrock23"] = lambda: compared(
    reactions(4), "rosenbrock23", t=tensor(0.0, 0.1, 1.0), rtol=1e-4, atol=1e-9
)


def explosive(t, y, rate):
    """y' = rate y^2: y is infinite at t = 1 / (rate y0)."""
    return rate * y * y


def explosions():
    rate = leaf(tensor([0.2], [2.0], [0.1], [0.5]))
    return explosive, leaf(torch.ones((4, 1), dtype=torch.float64)), (rate,), tensor(0.0, 0.4, 1.0)


@case
def failing_row():
    """One row of four cannot reach the end."""
    return compared(explosions(), "tsit5", throw=False)


@case
def failing_row_implicit():
    return compared(explosions(), "rodas5p", throw=False)


@case
def max_steps():
    """Some rows have more steps than are allowed."""
    return compared(oscillators(6), "tsit5", max_steps=22, throw=False)


@case
def own_times():
    """Each row has output times and an end of its own, and is differentiable in them."""
    problem = oscillators(4)
    times = leaf(tensor(0.0, 0.2, 0.4).unsqueeze(1) * tensor(1.0, 0.5, 2.0, 1.5))
    result = compared(problem, "rodas5p", t=times)
    f, start, args, _ = problem
    gradients = []
    for backend in (KERNEL, "native"):
        solution = solve(
            f, start, times, args=args, batched=True, method="rodas5p", backend=backend
        )
        gradients += torch.autograd.grad(solution.y.square().sum(), times)
    return {**result, "times": difference(*gradients)}


@case
def backwards_in_time():
    return compared(oscillators(4), "rodas5p", t=tensor(0.3, 0.1, 0.0))


@case
def stops_and_jumps():
    """Steps end at given times; a jump divides the solve into two."""
    return compared(oscillators(4), "tsit5", tstops=(0.13,), jumps=(0.21,))


@case
def fixed_steps():
    return compared(oscillators(4), "rodas5p", step_size=0.05)


@case
def nonnegative():
    return compared(reactions(4), "rodas5p", atol=1e-8, nonnegative=True)


@case
def single_precision():
    """Rounding can tip a decision: the values are compared with a tolerance of float32."""
    f, start, args, times = network(4)
    problem = (f.float(), leaf(start.detach().float()), args, times.float())
    return compared(problem, "tsit5", rtol=1e-3, atol=1e-5)


@case
def order():
    """The results do not depend on the threads, and on which of them takes which row."""
    from pynode.backends.native.cuda import launch

    found = []
    for threads in ((1, 1), (2, 3)):
        launch.SIMULATED = threads
        for _ in range(2):  # the second solve takes the rows by the steps of the first
            solution, gradients = solved(KERNEL, oscillators(6), "tsit5")
            found.append([solution.y.detach(), *gradients])
    equal = [[torch.equal(a, b) for a, b in zip(found[0], other)] for other in found[1:]]
    return {"equal": equal}


@case
def groups():
    """Rows that go back in several launches give the same sums."""
    from pynode.adjoints.native import cuda

    before = cuda.NUMBERS
    cuda.NUMBERS = 100  # of 45 parameters: two rows
    try:
        return compared(network(5), "tsit5")
    finally:
        cuda.NUMBERS = before


@case
def tape():
    """The record of all rows: each begins where the one before ends, at the starts of its steps."""
    from pynode.backends.native.cuda import batch

    kept = []
    made = batch.solve_rows
    batch.solve_rows = lambda *arguments: kept.append(made(*arguments)) or kept[-1]
    try:
        solved(KERNEL, oscillators(6), "rodas5p")
    finally:
        batch.solve_rows = made
    (results,) = kept
    offsets = results.batch.offsets
    accepted = results.of("accepted")
    t = results.batch.tape_t
    h = results.batch.tape_h
    ends = [t[a : a + n] + h[a : a + n] for a, n in zip(offsets.tolist(), accepted.tolist())]
    starts = [t[a : a + n] for a, n in zip(offsets.tolist(), accepted.tolist())]
    return {
        "offsets": offsets.tolist(),
        "expected": [0, *accepted.cumsum(0).tolist()[:-1]],
        "room": len(t) - int(accepted.sum()),
        "firsts": [float(x[0]) for x in starts],
        "lasts": [float(x[-1]) for x in ends],
        "gaps": max(float((a[:-1] - b[1:]).abs().max()) for a, b in zip(ends, starts)),
    }


@case
def changed():
    """A parameter that changes between the solve and its gradient."""
    f, start, args, times = oscillators(3)
    solution = solve(f, start, times, args=args, batched=True, method="tsit5", backend=KERNEL)
    with torch.no_grad():
        f.gain.add_(1.0)
    return {"error": error(solution.y.sum().backward)}


@case
def refusals():
    """The sentences of what the kernel does not take."""
    f, start, args, times = oscillators(3)
    wide = torch.ones((2, 17), dtype=torch.float64)
    given = {"args": args, "batched": True, "method": "tsit5", "backend": KERNEL}
    asked = {
        "callback": lambda t, y, stats: False,
        "domain": lambda t, y: torch.ones(len(y), dtype=torch.bool),
        "max_seconds": 10.0,
        "max_nfe": 1000,
        "method": "qndf",
        "adjoint": DiscreteAdjoint(checkpoints=2),
        "batched": False,
    }
    found = {}
    for name, value in asked.items():
        found[name] = error(solve, f, start, times, **{**given, name: value})
    f, start, args, times = explosions()
    found["failure"] = error(solve, f, start, times, **{**given, "args": args})
    found["wide"] = error(solve, lambda t, y: -y, wide, times, **{**given, "args": ()})
    return found


def error(call, *arguments, **options):
    """The message of the error that a call raises; '' if it raises none."""
    try:
        call(*arguments, **options)
    except (ValueError, RuntimeError, SolveError) as reason:
        return str(reason)
    return ""


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(CASES)
    torch.set_num_threads(1)
    print(json.dumps({name: CASES[name]() for name in chosen}))
