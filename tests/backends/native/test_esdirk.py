"""Diagonally implicit Runge-Kutta methods in the native engine take the torch engine's steps."""

import numpy as np
import pytest
import torch

from pynode import methods, solve
from pynode.backends.native import compiler, esdirk, loop
from pynode.backends.native.solve import interpreted
from pynode.core.status import Status
from pynode.methods import esdirk as torch_esdirk
from pynode.methods import jacobian_reuse
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

METHODS = ["Kvaerno3", "Kvaerno5", "KenCarp4", "KenCarp47", "TRBDF2", "SDIRK2"]
FIXED = ["ImplicitEuler", "Trapezoid", "ImplicitMidpoint", *METHODS[:2]]
RULES = [
    torch_esdirk.below_rounding,
    jacobian_reuse.growth_after_newton,
    jacobian_reuse.remembered_rate,
    jacobian_reuse.converges_slowly,
]


def test_the_loop_uses_the_rules():
    assert set(RULES) <= set(compiler.reached(loop.advance, esdirk))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [forced, network])
def test_the_same_steps(method, case):
    reference, trajectory = both(*case(), method)
    assert_equal_solves(reference, trajectory)
    # Rounding may add a correction, or fail an iteration that barely converges.
    assert trajectory.nsolve == pytest.approx(reference.stats.nsolve, abs=5)
    assert trajectory.nlu == pytest.approx(reference.stats.nlu, abs=2)
    assert trajectory.njac == pytest.approx(reference.stats.njac, abs=2)


@pytest.mark.parametrize("name", ["robertson", "hires", "pollution"])
def test_stiff_problems(name):
    assert_equal_solves(*both(*literature(name), "KenCarp4"), 1e-8)


def test_the_python_of_the_loop():
    """The loop takes the same steps compiled and as Python."""
    f, y0, times = forced()
    compiled = native(f, y0, times, "Kvaerno5", extra={"record": True})
    slow = native(f, y0, times, "Kvaerno5", loop=interpreted, extra={"record": True})
    assert (slow.accepted, slow.rejected) == (compiled.accepted, compiled.rejected)
    assert_close(compiled.sizes, slow.sizes, 1e-9)
    assert_close(compiled.outputs, slow.outputs, 1e-12)


@pytest.mark.parametrize("method", ["Kvaerno5", "SDIRK2"])
@pytest.mark.parametrize(
    "options",
    [
        {"first_step": 1e-3},
        {"max_step": 0.05},
        {"tstops": (0.3, 0.3 + 1e-9, 1.7)},
        {"rtol": 1e-8, "atol": [1e-12, 1e-10]},
        {"rtol": 1e-3, "atol": [0.0, 1e-6]},
        {"max_steps": 3},
    ],
    ids=str,
)
def test_options(method, options):
    """Also a stop just after another one: the slope of the short step is too coarse."""
    assert_equal_solves(*both(*forced(), method, **options), 1e-8)


@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps(method):
    f, y0, times = forced()
    assert_equal_solves(*both(f, y0, times, method, step_size=0.05))


def test_fixed_steps_with_a_new_jacobian_each_iteration():
    """Far from the Jacobian's point the simplified iteration converges too slowly."""

    def f(t, y):
        return -50.0 * y**3

    reference, trajectory = both(f, tensor(-2.0), tensor(0.0, 1.0), "ImplicitEuler", step_size=0.2)
    assert trajectory.njac > trajectory.accepted
    assert_equal_solves(reference, trajectory, 1e-11)


def test_backwards_in_time():
    f, y0, _ = forced()
    times = torch.linspace(1.0, 0.4, 9, dtype=torch.float64)
    assert_equal_solves(*both(f, y0, times, "Kvaerno5"))


def test_limit_of_evaluations():
    trajectory = native(*forced(), "Kvaerno5", max_nfe=60)
    assert trajectory.status is Status.MAX_EVALUATIONS
    assert trajectory.nfe == 60


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


def undefined_later(t, y):
    return -torch.sqrt(1.0 - t + 0 * y)


@pytest.mark.filterwarnings("ignore:the Jacobian of the vector field")
@pytest.mark.parametrize("f", [blows_up, undefined_later])
def test_failures(f):
    reference, trajectory = both(f, tensor(1.0, 0.5), tensor(0.0, 0.5, 2.0), "Kvaerno5")
    assert not trajectory.status.success
    assert trajectory.status is reference.status
    assert trajectory.t == pytest.approx(1.0, rel=1e-3)
    assert not trajectory.attempts[-1].accepted


def test_float32():
    f, y0, times = forced()
    reference, trajectory = both(f.float(), y0.float(), times, "Kvaerno3", rtol=1e-4, atol=1e-5)
    assert trajectory.outputs.dtype == np.float32
    assert trajectory.status is Status.SUCCESS
    assert_close(trajectory.outputs, reference.y, 1e-3)


def test_tables():
    """The columns: the states of the stages, the slope at the start, the slopes."""
    method = methods.Kvaerno5()
    tables = esdirk.tables_of(method)
    assert tables.flags.tolist() == [7, True, True, method.filtered]
    assert not tables.a[:, :8].any()
    np.testing.assert_allclose(tables.a[7, 8:], [float(x) for x in method.tableau.b])
    tables = esdirk.tables_of(methods.SDIRK2())
    assert tables.predictors[0].tolist() == [0.0, 0.0, tables.nodes[0], 0.0, 0.0]
