"""The short way of a native solve without gradients (pynode/solve_short.py): the numbers and the
errors of the long way."""

import pytest
import torch

from pynode import SolveError, solve
from pynode.core.arguments import Arguments
from pynode.solve_short import short_solve
from tests.support.cases import Forced, smooth, smooth_exact, tensor
from tests.support.engine_pairs import TIMES


def both_ways(f, y0, t, **options):
    """(by the short way, by the long way). With gradients enabled a solve takes the long way."""
    with torch.no_grad():
        arguments = Arguments(f=f, y0=y0, t=t, backend="native", **options)
        short = short_solve(arguments, arguments.problem())
    assert short is not None
    return short, solve(f, y0, t, backend="native", **options)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf"])
@pytest.mark.parametrize(
    "options",
    [{}, {"first_step": 1e-3}, {"max_step": 0.1, "rtol": 1e-4}, {"atol": tensor(1e-8, 1e-9)}],
    ids=["defaults", "first step", "largest step", "atol"],
)
def test_the_same_solution(method, options):
    times = torch.linspace(0.0, 2.0, 9, dtype=torch.float64)
    short, long = both_ways(smooth, smooth_exact(0.0), times, method=method, **options)
    assert torch.equal(short.y, long.y.detach())
    assert torch.equal(short.t, long.t)
    assert short.stats == long.stats
    assert short.message == long.message
    assert (short.status, short.method, short.backend) == (long.status, long.method, "native")
    assert (short.adjoint, short.adjoint_choice) == (long.adjoint, long.adjoint_choice)
    assert short.reached == long.reached


def test_backwards_and_with_arguments():
    short, long = both_ways(
        lambda t, y, k, p: -k * y * p,
        tensor(1.0, 2.0),
        [1.0, 0.2],
        method="fbdf",
        args=(2.0, tensor(0.5)),
    )
    assert torch.equal(short.y, long.y.detach())


def test_other_solves_take_the_long_way():
    field = Forced(3)
    start = torch.ones(3, dtype=torch.float64)
    given = {"f": field, "y0": start, "t": TIMES, "method": "tsit5", "backend": "native"}
    for option in (
        {"dense": True},
        {"callback": print},
        {"tstops": [0.5]},
        {"nonnegative": True},
        {"adjoint": "gauss"},
        {"method": "auto"},
        {"y0": start.reshape(1, 3)},
    ):
        with torch.no_grad():
            arguments = Arguments(**{**given, **option})
            assert short_solve(arguments, arguments.problem()) is None
    arguments = Arguments(**given)
    assert short_solve(arguments, arguments.problem()) is None  # with gradients


def test_failures_are_those_of_the_long_way():
    start = tensor(1.0)
    messages = []
    for mode in (torch.no_grad, torch.enable_grad):
        with mode(), pytest.raises(SolveError) as caught:
            solve(lambda t, y: y * y, start, (0.0, 2.0), method="tsit5", backend="native")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    with torch.no_grad(), pytest.raises(ValueError, match="Python number"):
        solve(lambda t, y: y * float(y[0]), start, (0.0, 1.0), method="tsit5", backend="native")
    with torch.no_grad(), pytest.raises(TypeError, match="convert the module or y0"):
        solve(lambda t, y: y.float(), start, (0.0, 1.0), method="tsit5", backend="native")
