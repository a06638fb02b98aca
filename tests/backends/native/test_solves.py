"""The native engine takes the steps of the torch engine."""

import math
import threading
import time

import numpy as np
import pytest
import torch

from pynode import methods, solve
from pynode.backends.native.rows import integrate_rows
from pynode.backends.native.solve import integrate, interpreted
from pynode.core.options import Options
from pynode.core.status import Status
from pynode.core.step_control import Controller
from pynode.translate.field import translate
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

EXPLICIT = ["Tsit5", "DP5", "BS3", "Vern7", "DP8"]
ROSENBROCK = ["Rodas5P", "Rodas4", "Rodas3P", "Rosenbrock23"]
FAMILIES = ["Tsit5", "Rodas5P"]


@pytest.mark.parametrize("method", EXPLICIT + ROSENBROCK)
@pytest.mark.parametrize("case", [forced, network])
def test_every_method(method, case):
    f, y0, times = case()
    assert_equal_solves(*both(f, y0, times, method))


@pytest.mark.parametrize("name", ["robertson", "hires", "vanderpol", "pollution"])
def test_stiff_problems(name):
    assert_equal_solves(*both(*literature(name), "Rodas5P"))


def test_lotka_volterra():
    assert_equal_solves(*both(*literature("lotka_volterra"), "Tsit5"))


@pytest.mark.parametrize("method", FAMILIES)
def test_the_python_of_the_loop(method):
    """The loop takes the same steps compiled and as Python."""
    f, y0, times = forced()
    compiled = native(f, y0, times, method, extra={"record": True})
    slow = native(f, y0, times, method, loop=interpreted, extra={"record": True})
    assert (slow.accepted, slow.rejected, slow.nfe) == (
        compiled.accepted,
        compiled.rejected,
        compiled.nfe,
    )
    assert_close(compiled.sizes, slow.sizes, 1e-9)
    assert_close(compiled.outputs, slow.outputs, 1e-12)


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [
        {"first_step": 1e-3},
        {"max_step": 0.05},
        {"step_size": 0.037},
        {"tstops": (0.3, 0.3, 1.7)},
        {"rtol": 1e-9, "atol": [1e-12, 1e-10]},
        {"rtol": 1e-3, "atol": [0.0, 1e-6]},
        {"max_steps": 7},
        {"min_step": 0.5, "rtol": 1e-10},
    ],
    ids=str,
)
def test_options(method, options):
    f, y0, times = forced()
    reference, trajectory = both(f, y0, times, method, **options)
    assert_equal_solves(reference, trajectory)


@pytest.mark.parametrize("kind", ["I", "PI", "PID"])
def test_controllers(kind):
    for method in (methods.Tsit5(controller=kind), methods.Rodas5P(controller=kind)):
        assert_equal_solves(*both(*forced(), method, rtol=1e-8))


def test_the_numbers_of_a_controller():
    controller = Controller("PI", safety=0.7, smallest=0.5, largest=1.5)
    assert_equal_solves(*both(*forced(), methods.Tsit5(controller=controller)))


@pytest.mark.parametrize("method", FAMILIES)
def test_limit_of_evaluations(method):
    """The step that reaches the limit is dropped. The torch engine also counts the evaluations that
    look at the shapes of f, so the two may differ by a step."""
    reference, trajectory = both(*forced(), method, max_nfe=80)
    assert trajectory.status is reference.status is Status.MAX_EVALUATIONS
    assert trajectory.nfe == 80
    assert abs(trajectory.accepted - reference.stats.accepted) <= 2


@pytest.mark.parametrize("method", FAMILIES)
def test_backwards_in_time(method):
    f, y0, _ = forced()
    assert_equal_solves(*both(f, y0, torch.linspace(1.0, 0.4, 9, dtype=torch.float64), method))


@pytest.mark.parametrize("method", FAMILIES)
def test_steps_end_at_stops(method):
    f, y0, times = forced()
    trajectory = native(f, y0, times, method, tstops=(0.3, 1.7), extra={"record": True})
    assert {0.3, 1.7} <= set(trajectory.starts.tolist())


@pytest.mark.parametrize("method", EXPLICIT + ROSENBROCK)
def test_polynomials(method):
    f, y0, times = forced()
    with torch.no_grad():
        reference = solve(f, y0, times, method=method, dense=True)
    trajectory = native(f, y0, times, method, extra={"dense": True, "slopes": True})
    polynomials = trajectory.polynomials()
    middle = trajectory.starts + 0.3 * trajectory.sizes
    powers = 0.3 ** np.arange(polynomials.shape[1])
    assert_close(np.einsum("kdn,d->kn", polynomials, powers), reference(torch.tensor(middle)), 1e-9)
    slopes = reference.derivative(times[1:])
    assert_close(trajectory.slopes[1:], slopes, 1e-7)


def test_float32():
    f, y0, times = forced()
    f = f.float()
    reference, trajectory = both(f, y0.float(), times, "Rodas5P", rtol=1e-4, atol=1e-5)
    assert trajectory.outputs.dtype == np.float32
    assert trajectory.status is Status.SUCCESS
    assert abs(trajectory.accepted - reference.stats.accepted) <= 2
    assert_close(trajectory.outputs, reference.y, 1e-3)


def blows_up(t, y):
    return y * y


def out_of_domain(t, y):
    return -y * torch.sqrt(1.0 - t)


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("f", [blows_up, out_of_domain])
def test_failures(method, f):
    y0 = tensor(1.0, 0.5)
    reference, trajectory = both(f, y0, tensor(0.0, 0.5, 2.0), method)
    assert not trajectory.status.success
    assert trajectory.status is reference.status
    assert trajectory.t == pytest.approx(1.0, rel=1e-6)
    assert_close(trajectory.outputs, reference.y, 1e-9)
    assert len(trajectory.attempts) == 32
    assert not trajectory.attempts[-1].accepted


@pytest.mark.parametrize("method", FAMILIES)
def test_a_bad_start(method):
    trajectory = native(out_of_domain, tensor(1.0), tensor(2.0, 3.0), method, origin=0.0)
    assert trajectory.status is Status.NONFINITE
    assert trajectory.accepted == 0
    assert trajectory.attempts == []


def test_fixed_steps_that_diverge():
    reference, trajectory = both(blows_up, tensor(1.0), tensor(0.0, 3.0), "Tsit5", step_size=0.1)
    assert trajectory.status is reference.status is Status.DIVERGED
    assert trajectory.attempts[-1].failure is Status.DIVERGED
    assert math.isinf(trajectory.attempts[-1].ratio)


@pytest.mark.filterwarnings("ignore:the Jacobian of the vector field")
def test_infinite_jacobian():
    """sqrt(y) at y = 0 has an infinite slope, which finite differences replace."""

    def f(t, y):
        return torch.sqrt(y) * (0.5 - y) + 0.1 * t

    y0 = tensor(0.0, 0.2)
    times = tensor(0.0, 1.0, 3.0)
    with torch.no_grad():
        reference = solve(f, y0, times, method="rodas5p")
    field = translate(f, tensor(0.3, 0.2), 0.0)
    method = methods.Rodas5P()
    assert_equal_solves(
        reference, integrate(field, method, y0.numpy(), times.tolist(), Options(), 1e-9)
    )


def test_bounds():
    """A component that must not be negative: the step is refused and halved."""
    f, y0, times = forced()
    lowest = np.array([-np.inf, -1e-9])
    floor = np.array([-np.inf, 0.45])
    trajectory = native(f, y0, times, "Tsit5", extra={"bounds": (lowest, floor)})
    assert trajectory.status is Status.DOMAIN
    assert trajectory.attempts[-1].failure is Status.DOMAIN
    assert trajectory.y[1] >= 0.45


def test_records_grow():
    f, y0, times = forced()
    trajectory = native(f, y0, times, "Tsit5", max_step=0.002, extra={"record": True})
    assert trajectory.accepted > 1000
    assert len(trajectory.starts) == len(trajectory.stages) == trajectory.accepted
    assert np.all(np.diff(trajectory.starts) > 0)
    np.testing.assert_array_equal(trajectory.states[0], y0.numpy())


def test_new_parameters_are_read():
    f, y0, times = forced()
    field = translate(f, y0, 0.0)
    method = methods.Rodas5P()
    before = integrate_rows(field, method, [y0.numpy()], [times.tolist()], Options(), [1e-9])[0]
    with torch.no_grad():
        f.k *= 1.1
    after = integrate_rows(field, method, [y0.numpy()], [times.tolist()], Options(), [1e-9])[0]
    assert_close(after.outputs, native(f, y0, times, "Rodas5P").outputs, 1e-12)
    assert np.abs(after.outputs - before.outputs).max() > 1e-3


def test_deadline_and_cancellation():
    """An endless solve stops in both ways."""
    f, y0, _ = forced()
    endless = {"max_step": 1e-6, "max_steps": 10**9}
    past = time.monotonic() - 1.0
    trajectory = native(f, y0, tensor(0.0, 4.0), "Tsit5", **endless, extra={"deadline": past})
    assert trajectory.status is Status.MAX_SECONDS
    with pytest.raises(KeyboardInterrupt):
        native(f, y0, tensor(0.0, 4.0), "Tsit5", **endless, extra={"cancelled": lambda: True})


def test_rows_do_not_depend_on_threads():
    f, y0, times = network()
    field = translate(f, y0, 0.0)
    starts = y0.numpy() * np.linspace(0.5, 1.5, 40)[:, None]
    arguments = (starts, [times.tolist()] * 40, Options(), [1e-9] * 40)
    alone = integrate_rows(field, methods.Rodas5P(), *arguments, threads=1)
    together = integrate_rows(field, methods.Rodas5P(), *arguments, threads=4)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.outputs, other.outputs)
    assert threading.active_count() < 40


def test_other_families_are_refused():
    f, y0, times = forced()
    with pytest.raises(TypeError, match="the native engine has no VelocityVerlet"):
        native(f, y0, times, "VelocityVerlet")


@pytest.mark.parametrize("y0", [np.ones(3), np.ones(2, np.float32), np.ones((2, 1))])
def test_a_state_that_does_not_fit(y0):
    f, start, times = forced()
    field = translate(f, start, 0.0)
    with pytest.raises(ValueError, match="translate f for this state"):
        integrate(field, methods.Tsit5(), y0, times.tolist(), Options(), 1e-9)
