"""What stops a solve or refuses a step, and the derivative of the dense output."""

import math

import pytest
import torch

from pynode import Event, RejectStep, SolveError, Status, solve
from tests.support.cases import FAMILIES, MULTISTEP, Forced, smooth, smooth_exact, tensor

each_family = pytest.mark.parametrize("method", FAMILIES)


def decay(t, y):
    return -y


def test_a_start_outside_the_domain_is_told():
    def never(t, y):
        raise RejectStep

    for options in (
        {"f": never},
        {"f": decay, "nonnegative": True},
        {"f": decay, "domain": lambda t, y: y[0] > 0},
    ):
        with pytest.raises(SolveError, match="domain") as caught:
            solve(options.pop("f"), tensor(-1.0), [0.0, 1.0], **options)
        assert caught.value.status is Status.DOMAIN


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"nonnegative": [3]}, ValueError),
        ({"nonnegative": [0.5]}, TypeError),
        ({"callback": 1}, TypeError),
        ({"domain": "y > 0"}, TypeError),
    ],
)
def test_limits_are_checked_at_the_door(options, error):
    with pytest.raises(error):
        solve(decay, tensor(1.0), [0.0, 1.0], **options)


@each_family
@pytest.mark.parametrize("end", [2.0, -2.0])
def test_derivative_of_the_dense_output(method, end):
    """Values against f, the gradient in t against the derivative, and in y0 and parameters against
    differences."""
    field, y0 = Forced(3), tensor(1.0, -0.5, 0.3, requires_grad=True)
    queries = [0.0, 0.3 * end, 0.77 * end, end]
    options = {"method": method, "rtol": 1e-9, "atol": 1e-11, "dense": True}
    solution = solve(field, y0, [0.0, end], **options)
    slopes = solution.derivative(queries)
    exact = torch.stack([field(tensor(t)[0], solution(t)) for t in queries])
    # BDF starts at order 1, whose straight line has the slope of its end.
    accuracy = 4e-4 if method in MULTISTEP else 2e-5
    assert torch.allclose(slopes, exact, atol=accuracy)
    assert torch.allclose(slopes[1:], exact[1:], atol=2e-5)
    assert solution.derivative(queries[1]).shape == (3,)
    t = tensor(*queries, requires_grad=True)
    (by_t,) = torch.autograd.grad(solution(t).sum(), t)
    assert torch.allclose(by_t, slopes.sum(1), atol=1e-12)
    leaves = [y0, *field.parameters()]
    left = torch.autograd.grad(slopes[1:].square().sum(), leaves, retain_graph=True)
    right = torch.autograd.grad(exact[1:].square().sum(), leaves)
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, atol=2e-4)


def test_dense_output_across_a_reset():
    """The polynomials of the segment that a time belongs to, in one call."""
    event = Event(lambda t, y: y[0] - 0.5, reset=lambda t, y: 2 * y)
    solution = solve(
        decay,
        tensor(1.0),
        [0.0, 2.0],
        method="Tsit5",
        events=event,
        dense=True,
        rtol=1e-9,
        atol=1e-12,
    )
    t = torch.linspace(0, 2, 41, dtype=torch.float64).flip(0)
    exact = torch.exp(-t) * 2 ** torch.floor(t / math.log(2))
    assert len(solution.events) == 2
    assert torch.allclose(solution(t)[:, 0], exact, atol=1e-7)
    assert torch.allclose(solution.derivative(t)[:, 0], -exact, atol=1e-5)


def test_a_watch_leaves_the_steps_alone():
    """An event that never fires changes neither the steps nor, where the polynomial is free, the
    evaluations of f."""
    plain = solve(smooth, smooth_exact(0.0), [0.0, 2.0], method="Tsit5")
    watched = solve(
        smooth,
        smooth_exact(0.0),
        [0.0, 2.0],
        method="Tsit5",
        events=lambda t, y: y[0] + 9,
        max_seconds=99,
    )
    assert torch.equal(plain.y, watched.y)
    assert plain.stats == watched.stats
