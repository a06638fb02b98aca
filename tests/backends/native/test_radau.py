"""Radau IIA methods in the native engine take the steps of the torch engine."""

import numpy as np
import pytest
import torch

from pynode import methods, solve
from pynode.backends.native import compiler, loop, radau
from pynode.backends.native.solve import interpreted
from pynode.core.status import Status
from pynode.methods.radau import predicted_factor
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

METHODS = ["RadauIIA3", "RadauIIA5", "RadauIIA9"]


def test_the_loop_uses_the_rules():
    assert predicted_factor in set(compiler.reached(loop.advance, radau))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [forced, network])
def test_the_same_steps(method, case):
    reference, trajectory = both(*case(), method)
    assert_equal_solves(reference, trajectory)
    # Rounding may add a correction, or fail an iteration that barely converges.
    assert trajectory.nsolve == pytest.approx(reference.stats.nsolve, abs=5)
    assert trajectory.nlu == pytest.approx(reference.stats.nlu, abs=6)
    assert trajectory.njac == pytest.approx(reference.stats.njac, abs=2)


@pytest.mark.parametrize("name", ["robertson", "hires", "pollution"])
def test_stiff_problems(name):
    assert_equal_solves(*both(*literature(name), "RadauIIA5"))


def test_the_python_of_the_loop():
    """The loop takes the same steps compiled and as Python."""
    f, y0, times = forced()
    compiled = native(f, y0, times, "RadauIIA5", extra={"record": True})
    slow = native(f, y0, times, "RadauIIA5", loop=interpreted, extra={"record": True})
    assert (slow.accepted, slow.rejected) == (compiled.accepted, compiled.rejected)
    assert_close(compiled.sizes, slow.sizes, 1e-9)
    assert_close(compiled.outputs, slow.outputs, 1e-12)


@pytest.mark.parametrize("method", ["RadauIIA3", "RadauIIA5"])
@pytest.mark.parametrize(
    "options",
    [
        {"first_step": 3.0},
        {"max_step": 0.05},
        {"step_size": 0.05},
        {"tstops": (0.3, 0.3 + 1e-7, 1.7)},
        {"rtol": 1e-8, "atol": [1e-12, 1e-10]},
        {"rtol": 1e-3, "atol": [0.0, 1e-6]},
        {"max_steps": 3},
    ],
    ids=str,
)
def test_options(method, options):
    """Also a first step that is refused, which takes the second estimate of the error."""
    assert_equal_solves(*both(*forced(), method, **options))


def test_backwards_in_time():
    f, y0, _ = forced()
    times = torch.linspace(1.0, 0.4, 9, dtype=torch.float64)
    assert_equal_solves(*both(f, y0, times, "RadauIIA5"))


def test_limit_of_evaluations():
    trajectory = native(*forced(), "RadauIIA5", max_nfe=61)
    assert trajectory.status is Status.MAX_EVALUATIONS
    assert trajectory.nfe == 61


@pytest.mark.parametrize("method", METHODS)
def test_dense_output(method):
    f, y0, times = forced()
    with torch.no_grad():
        reference = solve(f, y0, times, method=method, dense=True)
    trajectory = native(f, y0, times, method, extra={"dense": True, "slopes": True})
    polynomials = trajectory.polynomials()
    middle = trajectory.starts + 0.3 * trajectory.sizes
    powers = 0.3 ** np.arange(polynomials.shape[1])
    assert_close(np.einsum("kdn,d->kn", polynomials, powers), reference(torch.tensor(middle)), 1e-9)
    assert_close(trajectory.slopes[1:], reference.derivative(times[1:]), 1e-6)


def blows_up(t, y):
    return y * y


@pytest.mark.filterwarnings("ignore:the Jacobian of the vector field")
def test_failures():
    reference, trajectory = both(blows_up, tensor(1.0, 0.5), tensor(0.0, 0.5, 2.0), "RadauIIA5")
    assert not trajectory.status.success
    assert trajectory.status is reference.status
    assert trajectory.t == pytest.approx(1.0, rel=1e-3)


def test_float32():
    f, y0, times = forced()
    reference, trajectory = both(f.float(), y0.float(), times, "RadauIIA5", rtol=1e-4, atol=1e-5)
    assert trajectory.outputs.dtype == np.float32
    assert trajectory.status is Status.SUCCESS
    assert_close(trajectory.outputs, reference.y, 1e-3)


def test_a_pair_is_a_complex_matrix():
    """The real matrix of twice the size solves the complex system."""
    tables = radau.tables_of(methods.RadauIIA5())
    mu = methods.RadauIIA5().tableau.eigen[0]
    assert tables.reciprocals.shape == (1, 2)
    assert complex(*tables.reciprocals[0]) * mu[1] == pytest.approx(1.0)
