"""The native discrete adjoint of BDF and of implicit Runge-Kutta methods against the torch engine's
on the same steps."""

import numpy as np
import pytest
import torch

from pynode import solve
from pynode.adjoints.native.pullback import interpreted, pullback
from pynode.translate.field import translate
from tests.support.native_solves import (
    assert_close,
    forced,
    literature,
    native,
    network,
    random_like,
    same_gradients,
)

BDF = ["QNDF", "FBDF", "ABDF2"]
DIRK = ["Kvaerno5", "Kvaerno3", "KenCarp4", "TRBDF2", "SDIRK2"]
RADAU = ["RadauIIA3", "RadauIIA5", "RadauIIA9"]
RECORD = {"record": True}


@pytest.mark.parametrize("method", BDF + DIRK + RADAU)
@pytest.mark.parametrize("case", [forced, network])
def test_every_method(method, case):
    same_gradients(*case(), method, 1e-9)


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "KenCarp4", "RadauIIA5"])
@pytest.mark.parametrize("name", ["robertson", "hires", "pollution"])
def test_stiff_problems(method, name):
    same_gradients(*literature(name), method, 1e-8)


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "ABDF2", "Kvaerno5", "RadauIIA5"])
def test_backwards_in_time(method):
    f, y0, _ = forced()
    times = torch.linspace(1.0, 0.4, 9, dtype=torch.float64)
    same_gradients(f, y0, times, method, 1e-9)


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "ABDF2", "Kvaerno5", "RadauIIA5"])
def test_the_python_of_the_sweep(method):
    same_gradients(*forced(), method, 1e-9, loop=interpreted)


@pytest.mark.parametrize("method", ["QNDF", "Kvaerno5"])
def test_against_autograd_of_solve(method):
    """With its own steps, the torch engine gives the same gradient."""
    f, y0, times = forced()
    start = y0.clone().requires_grad_()
    grads = random_like((len(times), 2))
    solution = solve(f, start, times, method=method, adjoint="discrete")
    ybar, kbar = torch.autograd.grad((solution.y * grads).sum(), (start, f.k))
    trajectory = native(f, y0, times, method, extra=RECORD)
    field = translate(f, y0, 0.0)
    result = pullback(field, trajectory, times.tolist(), grads.numpy())
    assert_close(result.y0, ybar, 1e-8)
    assert_close(result.targets[0], kbar, 1e-8)


def test_stops_that_move_the_history():
    """Stops make short steps between long ones: the history changes its grid often."""
    f, y0, times = forced()
    stops = tuple(np.linspace(0.01, 3.99, 40) ** 1.3)
    same_gradients(f, y0, times, "QNDF", 1e-9, tstops=stops)
    same_gradients(f, y0, times, "FBDF", 1e-9, tstops=stops)


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "ABDF2", "Kvaerno5", "RadauIIA5"])
def test_a_rejected_first_step(method):
    """The history begins with the first step that was tried, not with the one that was accepted."""
    f, y0, times = forced()
    trajectory, _ = same_gradients(f, y0, times, method, 1e-9, first_step=3.0)
    assert trajectory.sizes[0] != trajectory.h0


@pytest.mark.parametrize("method", ["QNDF", "FBDF", "ABDF2", "Kvaerno5", "RadauIIA5"])
def test_a_solve_without_steps(method):
    f, y0, times = forced()
    trajectory = native(f, y0, times, method, max_nfe=2, extra=RECORD)
    assert trajectory.accepted == 0
    field = translate(f, y0, 0.0)
    result = pullback(field, trajectory, [0.0], np.array([[1.0, 2.0]]))
    assert result.y0.tolist() == [1.0, 2.0]
    assert not result.targets[0].any()


def test_a_field_without_parameters():
    def f(t, y):
        return -(y**3) + torch.cos(t)

    trajectory = native(
        f, torch.ones(2, dtype=torch.float64), torch.tensor([0.0, 1.0]), "QNDF", extra=RECORD
    )
    field = translate(f, torch.ones(2, dtype=torch.float64), 0.0)
    result = pullback(field, trajectory, [1.0], np.ones((1, 2)))
    assert result.targets == []
    assert np.all((result.y0 > 0) & (result.y0 < 1))


@pytest.mark.parametrize("method", ["QNDF", "Kvaerno5", "RadauIIA5"])
def test_float32(method):
    """The gradient of a solve in float32 is that in float64 to the accuracy of the steps."""
    gradients = []
    for dtype in (torch.float64, torch.float32):
        f, y0, times = forced()
        f = f.to(dtype)
        y0 = y0.to(dtype)
        trajectory = native(f, y0, times, method, atol=1e-6, rtol=1e-5, extra=RECORD)
        grads = random_like((len(times), 2)).to(dtype)
        result = pullback(translate(f, y0, 0.0), trajectory, times.tolist(), grads.numpy())
        gradients.append(result)
    exact, rounded = gradients
    assert rounded.targets[0].dtype == np.float32
    assert_close(rounded.y0, exact.y0, 1e-3)
    assert_close(rounded.targets[0], exact.targets[0], 1e-3)
