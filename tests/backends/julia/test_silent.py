"""What must not go wrong in silence, with backend='julia' on a real Julia: lost gradients, a
changed f, wrong results of f, large times.

What all engines have in common is in tests/contract, and in the tests with an ``engine``.
"""

import math

import pytest
import torch

from pynode import Event, SolveError
from pynode.adjoints.julia import NATIVE
from tests.support.cases import UNIX, leaf, tensor
from tests.support.juliacase import julia, needs

FAMILIES = ["tsit5", "rodas5p", "qndf"]
NAMED = {
    "interpolating": {"adjoint": "interpolating"},
    "gauss": {"adjoint": "gauss"},
    "native": {"adjoint": NATIVE},
}
each_adjoint = pytest.mark.parametrize("name", NAMED)
each_method = pytest.mark.parametrize("method", FAMILIES)


def adjoint(name):
    if name == "interpolating":
        needs("sensitivity")
    return NAMED[name]["adjoint"]


# Gradients reach every tensor.


@each_adjoint
def test_two_of_one_size_used_one_after_the_other(name):
    """Each is found in its turn, and the cotangents of the one are not those of the other."""
    first, second = leaf(tensor(-1.0)), leaf(tensor(-2.0))

    def f(t, y):
        s = float(t)
        return -y if s < 0.4 else (second * y if s > 0.7 else first * y)

    y = julia(
        f,
        tensor(1.0),
        (0.0, 1.0),
        jumps=[0.4, 0.7],
        method="tsit5",
        rtol=1e-9,
        atol=1e-11,
        adjoint=adjoint(name),
    ).y
    y[-1].sum().backward()
    end = math.exp(-0.4 - 0.3 - 0.6)
    assert first.grad == pytest.approx(0.3 * end, rel=1e-6) and second.grad == pytest.approx(
        0.3 * end, rel=1e-6
    )


# f is what it was.


@each_adjoint
def test_late_binding_is_refused(name):
    """By an explicit method, which all of these adjoints serve."""
    k, options = leaf(tensor(1.0)), {"method": "tsit5", "adjoint": adjoint(name)}
    losses = [
        julia(lambda t, y: -k * rate * y, tensor(1.0), (0.0, 1.0), **options).y[-1].sum()  # noqa: B023
        for rate in (1.0, 2.0)
    ]
    with pytest.raises(RuntimeError, match="bind loop variables"):
        sum(losses).backward()


def test_dropout_is_refused():
    """Its gradient would be that of other masks than those of the solve."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    ).double()
    y = julia(
        lambda t, y: net(y), tensor(1.0, 1.0, 1.0), [0.0, 1.0], method="tsit5", step_size=0.25
    ).y
    with pytest.raises(RuntimeError, match="random numbers"):
        y.sum().backward()


# What f returns.


RESULTS = {
    "another dtype": (lambda y: y.to(torch.int64), "convert the module or y0"),
    "another shape": (lambda y: y[:1], "shape"),
    "a tuple": (lambda y: (y, y), "structure"),
    "a list of numbers": (lambda y: y.tolist(), "must be a tensor"),
}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("what", RESULTS)
def test_what_f_returns_is_looked_at_in_every_call(what, backward):
    """Not at the first one alone: a copy into Julia's memory would convert and repeat in
    silence."""
    wrong, words = RESULTS[what]

    def f(t, y):
        return wrong(y) if 0.3 < float(t) < 0.7 else -y

    with pytest.raises((TypeError, ValueError), match=words), torch.no_grad():
        julia(f, tensor(1.0, 2.0), [1.0, 0.0] if backward else [0.0, 1.0], method="tsit5")


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(method, dtype):
    """Julia would read and write beyond the ends of the buffers."""
    with pytest.raises(TypeError, match=r"pass y0\.float\(\)"), torch.no_grad():
        y0 = torch.ones(2, dtype=dtype)
        julia(lambda t, y: -y, y0, [0.0, 1.0], method=method, rtol=0.1, atol=0.1)


def test_an_error_of_f_is_raised_as_it_is():
    calls = []

    def f(t, y):
        calls.append(t)
        if len(calls) == 20:
            raise RuntimeError("only once")
        return -y

    with pytest.raises(RuntimeError, match="only once"), torch.no_grad():
        julia(f, tensor(1.0), [0.0, 10.0], method="tsit5")
    assert len(calls) == 20


# Large times.


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "fbdf"])
@pytest.mark.parametrize("direction", [1.0, -1.0], ids=["forward", "backward"])
def test_the_same_at_large_times(method, direction):
    """As at zero, but for what the time cannot tell: outputs, polynomials, events, statistics, a
    field that depends on t."""
    found = []
    for t0 in (0.0, UNIX):

        def f(t, y, t0=t0):
            return direction * y * torch.cos(2 * (t - t0))

        times = [t0 + direction * s for s in (0.0, 0.375, 1.0)]
        event = Event(lambda t, y: y[0] - 1.25)
        options = {
            "method": method,
            "rtol": 1e-9,
            "atol": 1e-9,
            "events": event,
            "tstops": [t0 + direction * 0.5],
        }
        with torch.no_grad():
            solution = julia(f, tensor(1.0), times, dense=True, **options)
        inside = torch.tensor(
            [t0 + direction * s for s in (0.0625, 0.25, 0.53125, 0.875)], dtype=torch.float64
        )
        at = torch.stack([record.t for record in solution.events])
        found.append((solution.y, solution(inside), direction * (at - t0)))
    for a, b in zip(*found, strict=True):
        # f itself is asked at times that are known to 2.4e-7, of which the steps make a mean.
        assert a.shape == b.shape and (a - b).abs().max() < 5e-7


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "fbdf"])
def test_limits_at_large_times(method):
    """A solve that ends within, and its gradient, whose end is a time that was rounded."""
    k = leaf(tensor(0.7))
    t0, found = UNIX, []
    for start in (0.0, t0):
        times = [start, start + 0.25, start + 4.0]
        options = {
            "method": method,
            "rtol": 1e-9,
            "atol": 1e-11,
            "adjoint": NATIVE,
            "dense": True,
            "throw": False,
        }
        options["callback"] = lambda t, y, stats, start=start: t > start + 0.5
        solution = julia(lambda t, y: -k * y, tensor(1.0), times, **options)
        end = solution.reached
        assert len(solution.t) == 2 and start + 0.5 < end < start + 4.0
        whole = solution.y[-1].sum() + solution(torch.tensor(end, dtype=torch.float64)).sum()
        found.append((torch.autograd.grad(whole, k)[0], end - start))
    (a, end), (b, other) = found
    wanted = -0.25 * math.exp(-0.175) - end * math.exp(-0.7 * end)
    assert (
        abs(end - other) < 1e-6 and abs(float(a) - wanted) < 1e-6 and abs(float(b) - wanted) < 2e-6
    )


@each_method
def test_spans_of_one_unit_in_the_last_place(method):
    end = math.nextafter(1.0, 2.0)
    with torch.no_grad():
        assert float(
            julia(lambda t, y: -y, tensor(1.0), (1.0, end), method=method).y[-1]
        ) == pytest.approx(1.0)


def test_a_blow_up_at_a_large_time_is_told():
    t0 = UNIX
    with torch.no_grad(), pytest.raises(SolveError):
        julia(lambda t, y: y * y, tensor(1.0), (t0, t0 + 2), method="tsit5")
