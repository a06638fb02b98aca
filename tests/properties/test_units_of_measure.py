"""No unscaled number: in other units of time and state, powers of two, a solve is the same to the
last bit."""

import pytest
import torch

import pynode
from pynode import solve
from pynode.methods import registry
from pynode.solve_batched import serves
from tests.support.cases import FAMILIES, METHODS

# Of time and state. For the state less: a loss has its square.
UNITS = [(2.0**40, 2.0**-30), (2.0**-40, 2.0**30)]
COUNTS = ("nfe", "njac", "nlu", "accepted", "rejected")
ROWS = [name for name in METHODS if serves(registry.get(name))]
ADJOINTS = [
    "discrete",
    "backsolve",
    "interpolating",
    "gauss",
    "quadrature",
    "gausskronrod",
    "forward",
]


def reaction(time, state, inflow=0.0):
    """Robertson's reaction with milder constants and a drive, in units of time and state."""

    def f(t, y):
        a, b, c = (y / state).split(1, -1)
        slow = 0.04 * a * (1.1 + torch.cos(torch.as_tensor(t) / time))
        back = 3.0 * b * c
        fast = 30.0 * b * b
        return torch.cat((back - slow + inflow, slow - back - fast, fast), -1) * state / time

    return f


def solved(method, time=1.0, state=1.0, y0=(1.0, 0.0, 0.0), inflow=0.0, **options):
    y0 = torch.tensor(y0, dtype=torch.float64)
    if options.get("batched"):
        y0 = torch.stack((y0, y0 + 0.25))
    start = (y0 * state).requires_grad_("adjoint" in options)
    times = [0.0, 0.5 * time, 2.0 * time]
    field = reaction(time, state, inflow)
    found = solve(field, start, times, method=method, rtol=1e-3, atol=1e-6 * state, **options)
    return start, found


def assert_same_everywhere(method, **options):
    wanted = solved(method, **options)[1]
    for time, state in UNITS:
        found = solved(method, time, state, **options)[1]
        assert torch.equal(found.y, wanted.y * state)
        for name in COUNTS:
            assert getattr(found.stats, name) == getattr(wanted.stats, name), name


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_every_method(method):
    assert_same_everywhere(method)


@pytest.mark.parametrize("method", ROWS)
def test_rows(method):
    assert_same_everywhere(method, batched=True)


@pytest.mark.parametrize("options", [{}, {"batched": True}], ids=["single", "rows"])
@pytest.mark.parametrize("method", FAMILIES)
def test_a_start_from_zero(method, options):
    assert_same_everywhere(method, y0=(0.0, 0.0, 0.0), inflow=0.5, **options)


@pytest.mark.parametrize(
    "structure", ["sparse", "krylov", pynode.Banded(2, 2)], ids=["sparse", "krylov", "banded"]
)
@pytest.mark.parametrize("method", ["QNDF", "FBDF", "KenCarp4"])
def test_structures(method, structure):
    assert_same_everywhere(registry.get(method, jacobian=structure))


@pytest.mark.parametrize("adjoint", ADJOINTS)
@pytest.mark.parametrize("method", FAMILIES)
def test_gradients(method, adjoint):
    def gradient(time=1.0, state=1.0):
        start, found = solved(method, time, state, adjoint=adjoint)
        (found.y[:, 1].square().sum() / state**2).backward()
        return start.grad * state

    wanted = gradient()
    for time, state in UNITS:
        assert torch.equal(gradient(time, state), wanted)
