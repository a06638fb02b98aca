"""QNDF, FBDF and ABDF2 in the native engine take the steps of the torch engine."""

import numpy as np
import pytest
import torch

from pynode import methods
from pynode.backends.native import bdf, compiler, loop
from pynode.backends.native.solve import interpreted
from pynode.core.status import Status
from pynode.methods.bdf import abdf2, formulas, step
from tests.support.cases import tensor
from tests.support.native_solves import (
    assert_close,
    assert_equal_solves,
    both,
    forced,
    literature,
    native,
    network,
)

METHODS = ["QNDF", "FBDF", "ABDF2"]
RULES = [
    formulas.redifference,
    formulas.read_values,
    formulas.divided_difference,
    formulas.leading_error,
    formulas.trusted_differences,
    formulas.trusted_values,
    step.best_order,
    step.shrunk,
    abdf2.variable_leading,
    abdf2.scale_terms,
]


def assert_alike(method, reference, trajectory):
    """Equal solves for QNDF. Past values amplify rounding, so that FBDF may choose another step."""
    if method == "QNDF":
        assert_equal_solves(reference, trajectory)
        return
    assert trajectory.status is reference.status
    assert trajectory.accepted == pytest.approx(reference.stats.accepted, rel=0.06)
    assert_close(trajectory.outputs, reference.y, 1e-3)


def test_the_loop_uses_the_rules():
    assert set(RULES) <= set(compiler.reached(loop.advance, bdf))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [forced, network])
def test_the_same_steps(method, case):
    reference, trajectory = both(*case(), method)
    assert_equal_solves(reference, trajectory)
    assert trajectory.nsolve == reference.stats.nsolve
    assert trajectory.nlu == reference.stats.nlu
    assert trajectory.njac == reference.stats.njac


@pytest.mark.parametrize(
    "method, name",
    [
        ("QNDF", "robertson"),
        ("QNDF", "hires"),
        ("QNDF", "pollution"),
        ("FBDF", "robertson"),
        ("FBDF", "vanderpol"),
        ("FBDF", "oregonator"),
    ],
)
def test_stiff_problems(method, name):
    assert_alike(method, *both(*literature(name), method))


@pytest.mark.parametrize("method", METHODS)
def test_the_python_of_the_loop(method):
    """The loop takes the same steps compiled and as Python."""
    f, y0, times = forced()
    compiled = native(f, y0, times, method, extra={"record": True})
    slow = native(f, y0, times, method, loop=interpreted, extra={"record": True})
    assert (slow.accepted, slow.rejected) == (compiled.accepted, compiled.rejected)
    assert_close(compiled.sizes, slow.sizes, 1e-9)
    assert_close(compiled.outputs, slow.outputs, 1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "options",
    [
        {"first_step": 1e-3},
        {"max_step": 0.05},
        {"tstops": (0.3, 1.7)},
        {"tstops": (0.3, 0.3 + 1e-7, 1.7)},
        {"rtol": 1e-9, "atol": [1e-12, 1e-10]},
        {"rtol": 1e-3, "atol": [0.0, 1e-6]},
        {"max_steps": 7},
        {"min_step": 0.5, "rtol": 1e-10},
    ],
    ids=str,
)
def test_options(method, options):
    """Also a stop just after another one: the step is short, and the next one trusts little of the
    history."""
    assert_alike(method, *both(*forced(), method, **options))


@pytest.mark.parametrize("method", METHODS)
def test_backwards_in_time(method):
    f, y0, _ = forced()
    times = torch.linspace(1.0, 0.4, 9, dtype=torch.float64)
    assert_alike(method, *both(f, y0, times, method))


@pytest.mark.parametrize("method", METHODS)
def test_limit_of_evaluations(method):
    """Newton's iteration may need any number of evaluations; the step that exceeds the limit is
    dropped."""
    trajectory = native(*forced(), method, max_nfe=60)
    assert trajectory.status is Status.MAX_EVALUATIONS
    assert trajectory.nfe == 60


@pytest.mark.parametrize("method", METHODS)
def test_dense_output(method):
    """The polynomials pass through the ends of the steps, and have the outputs' slopes."""
    f, y0, times = forced()
    trajectory = native(f, y0, times, method, extra={"dense": True, "slopes": True})
    polynomials = trajectory.polynomials()
    ends = np.concatenate((trajectory.states[1:], trajectory.y[None]))
    assert_close(polynomials[:, 0], trajectory.states, 1e-10)
    assert_close(polynomials.sum(1), ends, 1e-10)
    for time, output, slope in zip(times[1:-1], trajectory.outputs[1:], trajectory.slopes[1:]):
        k = np.searchsorted(trajectory.starts, time.item(), side="left") - 1
        theta = (time.item() - trajectory.starts[k]) / trajectory.sizes[k]
        degrees = np.arange(1, polynomials.shape[1])
        powers = np.concatenate(([1.0], theta**degrees))
        assert_close(powers @ polynomials[k], output, 1e-10)
        derivative = (degrees * powers[:-1]) @ polynomials[k, 1:] / trajectory.sizes[k]
        assert_close(derivative, slope, 1e-8)
        assert_close(f(time, torch.tensor(output)).detach().numpy(), slope, 1e-3)


def blows_up(t, y):
    return y * y


def undefined_later(t, y):
    return -torch.sqrt(1.0 - t + 0 * y)


@pytest.mark.filterwarnings("ignore:the Jacobian of the vector field")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("f", [blows_up, undefined_later])
def test_failures(method, f):
    reference, trajectory = both(f, tensor(1.0, 0.5), tensor(0.0, 0.5, 2.0), method)
    assert not trajectory.status.success
    assert trajectory.status is reference.status
    assert trajectory.t == pytest.approx(1.0, rel=1e-3)
    assert not trajectory.attempts[-1].accepted


def test_an_old_jacobian_is_renewed():
    """A Jacobian that has become wrong makes Newton's iteration fail; the step goes on with a new
    one."""

    def f(t, y):
        return -(1.0 + 1e4 * torch.sigmoid(200.0 * (t - 1.0))) * (y - torch.cos(t))

    reference, trajectory = both(f, tensor(2.0), tensor(0.0, 0.5, 2.0), "QNDF")
    assert trajectory.status is Status.SUCCESS
    assert trajectory.njac == pytest.approx(reference.stats.njac, abs=3)
    assert_close(trajectory.outputs, reference.y, 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_float32(method):
    f, y0, times = forced()
    reference, trajectory = both(f.float(), y0.float(), times, method, rtol=1e-4, atol=1e-5)
    assert trajectory.outputs.dtype == np.float32
    assert trajectory.status is Status.SUCCESS
    assert_close(trajectory.outputs, reference.y, 2e-3)


def test_fixed_steps_are_refused():
    with pytest.raises(ValueError, match="chooses its own steps"):
        native(*forced(), "QNDF", step_size=0.1)


def test_tables():
    """All forms have tables of the same types, so that one compilation serves them."""
    first, second, third = (bdf.tables_of(getattr(methods, name)()) for name in METHODS)
    assert len({str([(a.dtype, a.ndim) for a in tables]) for tables in (first, second, third)}) == 1
    assert first.flags.tolist() == [False, False, 5]
    assert second.flags.tolist() == [True, False, 5]
    assert third.flags.tolist() == [True, True, 2]
    np.testing.assert_array_equal(first.moving[3], formulas.DifferenceHistory().moving(3))
    np.testing.assert_array_equal(second.reading[4], formulas.ValueHistory().reading(4))
