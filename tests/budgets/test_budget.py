"""Budgets: kernels and synchronisations a step, counted as torch dispatches them.

A kernel costs about a microsecond on a CPU and five on a GPU, where a synchronisation stops the
queue besides. These counts are what the speed of small systems is made of, and unlike times they
are the same on every machine.
"""

from collections import Counter

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pynode import solve
from pynode.methods import registry
from pynode.methods.rosenbrock import RosenbrockMethod
from tests.support.cases import METHODS, ONE_STEP, Forced, tensor

SYNCHRONISING = ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "allclose")
VIEWS = (
    "detach",
    "slice",
    "select",
    "view",
    "expand",
    "unsqueeze",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "alias",
    "lift_fresh",
    "resolve_conj",
    "resolve_neg",
    "split_with_sizes",
    "reshape",
)


class Kernels(TorchDispatchMode):
    """Counts kernels by name, those that only make a view left out."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))

    @property
    def kernels(self):
        return sum(count for name, count in self.names.items() if name not in VIEWS)

    @property
    def synchronisations(self):
        return sum(self.names[name] for name in SYNCHRONISING)


class Lists(TorchFunctionMode):
    """Counts tolist(), which reads the memory of a tensor without a kernel."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += getattr(func, "__name__", "") == "tolist"
        return func(*args, **(kwargs or {}))


SPIRAL = tensor([-0.1, 2.0], [-2.0, -0.1])


def field(t, y):
    """One kernel an evaluation."""
    return torch.mv(SPIRAL, y)


def counted(method, end, outputs=2, grad=False):
    """(kernels, synchronisations, stats) of one solve."""
    y0 = tensor(1.0, 0.5).requires_grad_(grad)
    rtol = 1e-2 if method == "Euler" else 1e-4
    times = torch.linspace(0.0, end, outputs, dtype=torch.float64)
    # What is found out once of a field is known then.
    solve(field, y0, [0.0, 0.01], method=method, rtol=rtol, atol=1e-6)
    with Kernels() as seen, Lists() as lists:
        stats = solve(field, y0, times, method=method, rtol=rtol, atol=1e-6).stats
    return seen.kernels, seen.synchronisations + lists.count, stats


def per_step(method, **options):
    """(kernels, synchronisations) of one attempted step: the difference of a long and a short
    solve."""
    short, long = counted(method, 3.0, **options), counted(method, 12.0, **options)
    steps = [stats.accepted + stats.rejected for _, _, stats in (short, long)]
    assert steps[1] - steps[0] >= 8
    return [(a - b) / (steps[1] - steps[0]) for a, b in zip(long[:2], short[:2], strict=True)]


@pytest.mark.parametrize("grad", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("method", ["Tsit5", "DP5"])
def test_kernels_of_an_explicit_step(method, grad):
    """At most 50, the field's own among them, and as many where a gradient will be asked for."""
    assert per_step(method, grad=grad)[0] <= 50


@pytest.mark.parametrize(("method", "limit"), [("Rodas5P", 88), ("FBDF", 22), ("QNDF", 22)])
def test_kernels_of_an_implicit_step(method, limit):
    """Guards what was reached, with a margin of a fifth. Rodas5P makes a Jacobian, a factorisation
    and eight solves."""
    assert per_step(method)[0] <= limit


@pytest.mark.parametrize("grad", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("method", [m for m in ONE_STEP if not registry.get(m).implicit])
def test_one_synchronisation_a_step(method, grad):
    assert per_step(method, grad=grad)[1] == 1


@pytest.mark.parametrize(
    "method", [m for m in ONE_STEP if isinstance(registry.get(m), RosenbrockMethod)]
)
def test_two_synchronisations_a_rosenbrock_step(method):
    """The accept test, and on a CPU whether the factorisation went well."""
    assert per_step(method)[1] <= 2


@pytest.mark.parametrize("method", ["KenCarp4", "Kvaerno5", "TRBDF2", "RadauIIA5"])
def test_synchronisations_of_newton_stages(method):
    """One for each of Newton's iterations (at most one linear solve each), for each factorisation,
    for each step."""
    _, synchronisations, stats = counted(method, 12.0)
    assert synchronisations <= stats.nsolve + stats.nlu + stats.accepted + stats.rejected + 16


@pytest.mark.parametrize("method", ["FBDF", "QNDF"])
def test_synchronisations_of_bdf(method):
    """One for each of Newton's iterations and one more a step, over a whole solve; some at the
    start."""
    _, synchronisations, stats = counted(method, 12.0)
    assert synchronisations <= stats.nsolve + stats.accepted + stats.rejected + 25


@pytest.mark.parametrize("method", METHODS)
def test_outputs_do_not_synchronise(method):
    few, many = counted(method, 6.0, outputs=2), counted(method, 6.0, outputs=200)
    assert many[2].accepted == few[2].accepted
    assert many[1] == few[1]


@pytest.mark.parametrize("method", ["FBDF", "QNDF"])
def test_newton_uses_a_factorisation_several_times(method):
    """A stiff solve spends far fewer Jacobians than factorisations, and far fewer of these than
    steps."""
    stats = solve(
        lambda t, y: -1e3 * (y - torch.cos(t)), tensor(0.0), [0.0, 10.0], method=method, rtol=1e-7
    ).stats
    assert stats.nlu < 0.5 * stats.accepted
    assert stats.njac < 0.3 * stats.nlu
    assert stats.nsolve < 1.6 * (stats.accepted + stats.rejected)


@pytest.mark.parametrize(
    ("method", "limit"), [("Tsit5", 2), ("DP8", 2), ("Rodas5P", 2), ("FBDF", 8), ("QNDF", 9)]
)
def test_kernels_of_a_backward_step(method, limit):
    """All steps go back side by side; what is left for each step alone is one short recursion."""
    counts = []
    for end in (2.0, 8.0):
        f, y0 = Forced(2), tensor(1.0, 0.5).requires_grad_()
        solution = solve(f, y0, [0.0, end], method=method, rtol=1e-4, atol=1e-6)
        with Kernels() as seen:
            solution.y[-1].sum().backward()
        counts.append((seen.kernels, solution.stats.accepted))
    assert (counts[1][0] - counts[0][0]) / (counts[1][1] - counts[0][1]) <= limit


@pytest.mark.parametrize(("method", "limit"), [("QNDF", 54), ("FBDF", 51)])
def test_kernels_of_a_pass_of_a_batch(method, limit):
    """Of one evaluation of f for the whole batch, a Newton iteration of every row, with a margin of
    a fifth.

    All decisions are taken on the host, from norms that are copied there: no kernel waits for the
    device.
    """
    calls, rate = [], torch.logspace(0, 2, 64, dtype=torch.float64)

    def rows(t, y, rate):
        calls.append(len(y))
        return rate.unsqueeze(1) * (torch.cos(t) - y)

    found = []
    solve(
        rows,
        torch.zeros(64, 2, dtype=torch.float64),
        [0.0, 0.1],
        args=(rate,),
        method=method,
        batched=True,
    )
    for end in (0.5, 4.0):
        calls.clear()
        with Kernels() as seen, Lists() as lists:
            solve(
                rows,
                torch.zeros(64, 2, dtype=torch.float64),
                [0.0, end],
                args=(rate,),
                method=method,
                batched=True,
            )
        found.append((seen.kernels, seen.synchronisations + lists.count, len(calls)))
    kernels, synchronisations, passes = (b - a for a, b in zip(*found, strict=True))
    assert passes > 50 and kernels <= limit * passes
    assert synchronisations == 0
