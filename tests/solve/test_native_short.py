"""The short way of a native solve (pynode/solve_short.py): the numbers and the errors of the long
way."""

import math

import numpy as np
import pytest
import torch

from pynode import SolveError, solve
from pynode.core.arguments import Arguments
from pynode.solve_short import short_solve
from tests.support.cases import Forced, leaf, smooth, smooth_exact, tensor
from tests.support.engine_pairs import TIMES


def both_ways(f, y0, t, **options):
    """(by the short way, by the long way). A solve with a limit of time takes the long way, and so
    does the first solve of an f."""
    long = solve(f, y0, t, backend="native", max_seconds=1e6, **options)
    arguments = Arguments(f=f, y0=y0, t=t, backend="native", **options)
    short = short_solve(arguments, arguments.problem())
    assert short is not None
    return short, long


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
    moving = Arguments(**{**given, "t": TIMES.clone().requires_grad_()})
    assert short_solve(moving, moving.problem()) is None


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "fbdf"])
def test_the_same_gradient(method):
    """In y0, args, the weights and a leaf in a closure; one weight is not used."""

    class Field(Forced):
        def __init__(self):
            super().__init__(3)
            self.idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

        def forward(self, t, y, k):
            return super().forward(t, y) * k + closed * torch.cos(t)

    closed = leaf(tensor(0.3))
    field = Field()
    gradients = []
    for way in (0, 1):
        y0 = leaf(torch.ones(3, dtype=torch.float64))
        k = leaf(tensor(0.5, 1.0, 1.5))
        solution = both_ways(field, y0, TIMES, method=method, args=(2 * k,))[way]
        loss = solution.y.square().sum()
        inputs = [y0, k, closed, *field.parameters()]
        gradients.append((torch.autograd.grad(loss, inputs), solution.stats))
    (short, short_stats), (long, long_stats) = gradients
    assert all(map(torch.equal, short, long))
    assert short_stats == long_stats
    idle = [name for name, _ in field.named_parameters()].index("idle")
    assert not bool(short[3 + idle].any())


def test_a_change_before_the_gradient_is_refused():
    field = Forced(3)
    short, _ = both_ways(field, torch.ones(3, dtype=torch.float64), TIMES, method="tsit5")
    with torch.no_grad():
        field.b.add_(1.0)
    with pytest.raises(RuntimeError, match="changed"):
        short.y.sum().backward()


def test_many_cotangents_and_second_derivatives():
    start = leaf(torch.ones(3, dtype=torch.float64))
    short, long = both_ways(Forced(3), start, TIMES, method="tsit5")
    rows = torch.eye(21, dtype=torch.float64).reshape(21, 7, 3)
    found = [
        torch.autograd.grad(s.y, start, rows, is_grads_batched=True, retain_graph=True)[0]
        for s in (short, long)
    ]
    assert torch.equal(*found)
    second = []
    for solution in (short, long):
        (grad,) = torch.autograd.grad(solution.y.square().sum(), start, create_graph=True)
        second.append(torch.autograd.grad(grad.sum(), start)[0])
    torch.testing.assert_close(*second, rtol=1e-12, atol=0)


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


def test_times_that_change_in_place_are_checked_again():
    """The check of the times is kept from solve to solve."""
    memory = np.array([0.0, 0.5, 1.0])
    times = torch.from_numpy(memory)
    y0 = tensor(1.0, 2.0)

    def f(t, y):
        return -y

    for _ in range(2):
        solution = solve(f, y0, times, backend="native", method="tsit5")
    memory[1] = 0.25  # torch does not notice this
    solution = solve(f, y0, times, backend="native", method="tsit5")
    assert solution.t.tolist() == [0.0, 0.25, 1.0]
    assert solution.y[1, 0].item() == pytest.approx(math.exp(-0.25), rel=1e-5)
    memory[1] = 2.0
    with pytest.raises(ValueError, match="strictly increasing"):
        solve(f, y0, times, backend="native", method="tsit5")
    with pytest.raises(ValueError, match="strictly increasing"):
        solve(f, y0, memory.tolist(), backend="native", method="tsit5")


def test_the_times_of_a_solution_are_its_own():
    y0 = tensor(1.0)

    def f(t, y):
        return -y

    for _ in range(2):
        first = solve(f, y0, [0.0, 1.0], backend="native", method="tsit5")
    first.t[1] = 7.0
    assert solve(f, y0, [0.0, 1.0], backend="native", method="tsit5").t.tolist() == [0.0, 1.0]
