"""The discrete adjoint against plain differentiation through the loop: for every method the same
numbers.

Both differentiate the same steps, so that they agree to rounding at any tolerance; one thing is
varied at a time.
"""

import pytest
import torch

from pynode import solve
from pynode.adjoints.discrete.adjoint import JACOBIANS_UP_TO
from tests.support.cases import (
    EXPLICIT,
    FAMILIES,
    METHODS,
    ONE_STEP,
    Forced,
    leaf,
    smooth,
    smooth_exact,
    smooth_jac,
    tensor,
)
from tests.support.gradients import RTOL, assert_same, gradients

every_method = pytest.mark.parametrize("method", METHODS)
every_family = pytest.mark.parametrize("method", FAMILIES)


def times_among_steps(f, y0, start, end, method, ends=True):
    """Times inside several steps, three in the second one, and at the ends of two, the first one's
    among them."""
    with torch.no_grad():
        rtol = RTOL.get(method, 1e-4)
        steps = solve(
            f, y0, [start, end], method=method, dense=True, rtol=rtol, atol=1e-6
        )._trajectory.steps
    assert len(steps) >= 4
    inside = [steps[1].t + theta * steps[1].h for theta in (0.1, 0.5, 0.9)] + [
        steps[-2].t + 0.3 * steps[-2].h
    ]
    at_ends = [steps[0].t + steps[0].h, steps[-3].t + steps[-3].h] if ends else []
    return sorted({start, end, *inside, *at_ends}, reverse=end < start)


@every_method
@pytest.mark.parametrize(("start", "end"), [(0.3, 2.0), (2.0, 0.3)], ids=["forwards", "backwards"])
def test_discrete_is_direct(method, start, end):
    """y0 and parameters; f depends on t; outputs inside steps, several in one, and at their
    ends."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    t = times_among_steps(f, y0, start, end, method)
    assert_same([y0, *f.parameters()], f, y0, t, method)


@every_method
def test_a_single_state(method):
    """Where one cotangent is all that a transition matrix maps."""
    f, y0 = Forced(1), leaf(tensor(1.0))
    t = times_among_steps(f, y0, 0.3, 5.0, method)
    assert_same([y0, *f.parameters()], f, y0, t, method)


@every_method
@pytest.mark.parametrize(("start", "end"), [(0.3, 2.0), (2.0, 0.3)], ids=["forwards", "backwards"])
def test_times(method, start, end):
    """Away from the ends of steps: there the slope of an interpolant may jump, and rounding decides
    on the side."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    t = leaf(tensor(*times_among_steps(f, y0, start, end, method, ends=False)))
    assert_same([y0, *f.parameters(), t], f, y0, t, method)


@every_method
def test_states_too_large_for_jacobians(method):
    """Explicit methods go back by vector-Jacobian products above a size; implicit ones need the
    Jacobian at any."""
    n = JACOBIANS_UP_TO + 8 if method in EXPLICIT else 6
    f, y0 = Forced(n), leaf(torch.linspace(-1, 1, n, dtype=torch.float64))
    t = times_among_steps(f, y0, 0.3, 2.0, method)
    assert_same([y0, *f.parameters()], f, y0, t, method)


@pytest.mark.parametrize("method", [m for m in FAMILIES if m not in EXPLICIT])
def test_implicit_methods_with_states_that_are_factorised(method):
    """Above algebra.linear's size for inverses."""
    f, y0 = Forced(56), leaf(torch.linspace(-1, 1, 56, dtype=torch.float64))
    assert_same([y0, *f.parameters()], f, y0, [0.0, 0.5, 1.0], method)


@every_method
def test_single_precision(method):
    f, y0 = Forced(dtype=torch.float32), leaf(torch.tensor([1.0, -0.5, 0.3]))
    found = assert_same(
        [y0, *f.parameters()], f, y0, [0.0, 0.7, 1.5], method, tolerance=1e-4, rtol=1e-2
    )
    assert all(g.dtype == torch.float32 for g in found)


@every_family
def test_fixed_and_bounded_steps(method):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    if method in ONE_STEP:
        assert_same([y0, *f.parameters()], f, y0, [0.0, 0.33, 1.0], method, step_size=0.125)
    assert_same(
        [y0, *f.parameters()], f, y0, [0.0, 0.33, 1.0], method, max_step=0.05, first_step=0.01
    )


@every_family
@pytest.mark.parametrize("kind", ["tuple", "dict", "matrix", "nested"])
def test_structures(method, kind):
    base, a, b = Forced(), leaf(tensor(1.0)), leaf(tensor(-0.5, 0.3))
    pack = {
        "tuple": lambda u, v: (u, v),
        "dict": lambda u, v: {"v": v, "u": u},
        "matrix": lambda u, v: torch.cat((u, v)).reshape(1, 3),
        "nested": lambda u, v: (u, {"v": (v,)}),
    }[kind]
    unpack = {
        "tuple": lambda y: torch.cat(y),
        "dict": lambda y: torch.cat((y["u"], y["v"])),
        "matrix": lambda y: y.reshape(3),
        "nested": lambda y: torch.cat((y[0], y[1]["v"][0])),
    }[kind]

    def f(t, y):
        rate = base(t, unpack(y))
        return pack(rate[:1], rate[1:])

    plain = leaf(tensor(1.0, -0.5, 0.3))
    expected = gradients(
        [plain, *base.parameters()], "discrete", base, plain, [0.0, 0.4, 1.5], method
    )
    found = assert_same([a, b, *base.parameters()], f, pack(a, b), [0.0, 0.4, 1.5], method)
    # A dict lies in the order of its keys, u before v, which is that of the plain state here.
    torch.testing.assert_close(torch.cat(found[:2]), expected[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[2:], expected[1:], rtol=1e-9, atol=1e-12)


@every_family
def test_tensors_in_args(method):
    rate, shift, y0 = leaf(tensor(0.8)), leaf(tensor(0.1, 0.2)), leaf(tensor(1.0, 2.0))

    def f(t, y, rate, shift, power):
        return -rate * y**power + shift * torch.cos(t)

    assert_same([y0, rate, shift], f, y0, [0.0, 0.5, 2.0], method, args=(rate, shift, 2))


@every_family
def test_closures_and_nonleaf_parameters(method):
    """A plain function's tensors are found in its graph, also where they are computed from
    leaves."""
    log_rate, y0 = leaf(tensor(-0.2)), leaf(tensor(1.0, 2.0))
    assert_same(
        [y0, log_rate], lambda t, y: -torch.exp(log_rate) * y * (1 + t), y0, [0.0, 0.5, 2.0], method
    )


@every_family
def test_given_params(method):
    """Only those named get a gradient."""
    a, b, y0 = leaf(tensor(0.8)), leaf(tensor(0.3)), tensor(1.0, 2.0)
    found = gradients(
        [a, b], "discrete", lambda t, y: -a * y + b, y0, [0.0, 1.0], method, params=[a]
    )
    assert found[0] is not None and found[1] is None


@every_family
def test_frozen_and_unused_parameters(method):
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    f.b.requires_grad_(False)
    f.unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    solve(f, y0, [0.0, 1.0], method=method).y[-1].sum().backward()
    assert f.b.grad is None and f.W.grad.abs().max() > 0
    assert f.unused.grad is None or not f.unused.grad.any()


@every_family
def test_only_the_start_requires_a_gradient(method):
    y0 = leaf(smooth_exact(0.0))
    assert_same([y0], smooth, y0, [0.0, 0.4, 1.0], method)


@pytest.mark.parametrize("method", [m for m in FAMILIES if m not in EXPLICIT])
def test_given_jacobian_serves_both_passes(method):
    """Forward and backward call it, and f is differentiated for nothing else than the parameters
    and df/dt."""
    calls = {True: 0, False: 0}
    backward = False

    def jac(t, y):
        calls[backward] += 1
        return smooth_jac(t, y)

    y0 = leaf(smooth_exact(0.0))
    y = solve(smooth, y0, [0.0, 0.4, 1.0], method=method, rtol=1e-4, jac=jac).y
    backward = True
    (found,) = torch.autograd.grad(y.sum(), y0)
    (expected,) = torch.autograd.grad(
        solve(smooth, y0, [0.0, 0.4, 1.0], method=method, rtol=1e-4).y.sum(), y0
    )
    assert calls[False] > 0 and calls[True] > 0
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
