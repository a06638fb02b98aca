"""nonnegative=True: f is asked about no negative state, and none is told."""

import pytest
import torch

from pynode import Status, solve
from tests.support.cases import tensor

METHODS = [
    "auto",
    "Tsit5",
    "Vern7",
    "QNDF",
    "FBDF",
    "RadauIIA5",
    "Rodas5P",
    "Kvaerno5",
    "AdamsPECE",
]


def draining(t, y):
    """Zero from t = 2 on; NaN where f sees a negative state."""
    return -torch.sqrt(y)


@pytest.mark.parametrize("method", METHODS)
def test_a_state_that_reaches_zero_stays_there(method):
    solution = solve(
        draining, tensor(1.0), torch.linspace(0, 3, 61), method=method, nonnegative=True, dense=True
    )
    exact = (1 - solution.t.clamp(max=2) / 2).square()
    assert torch.allclose(solution.y[:, 0], exact, atol=1e-5)
    assert float(solution.y.min()) >= 0 and float(solution(torch.linspace(0, 3, 997)).min()) >= 0
    assert solution.stats.accepted + solution.stats.rejected < 1000


@pytest.mark.parametrize("method", METHODS)
def test_one_of_two_components(method):
    """Only the component named is held; the other one crosses zero."""

    def f(t, y):
        return torch.stack((-torch.sqrt(y[0]), -torch.ones_like(y[1])))

    found = solve(f, tensor(1.0, 1.0), [0.0, 3.0], method=method, nonnegative=[0])
    y = found.y[-1]
    assert found.stats.nfe < 10_000
    assert 0 <= float(y[0]) < 1e-5 and float(y[1]) == pytest.approx(-2, abs=1e-5)


def overshooting(t, y):
    return -y * torch.stack((50.0 * torch.exp(-10 * (t - 1) ** 2), 3 + 0 * t))


@pytest.mark.parametrize("method", ["Tsit5", "QNDF", "RadauIIA5"])
@pytest.mark.parametrize("dense", [False, True])
def test_outputs_between_steps(method, dense):
    """Polynomials of wide tolerances swing below zero; what is told does not, and its gradient is
    that of the clamp."""
    y0 = tensor(1.0, 1.0, requires_grad=True)
    times = torch.linspace(0, 4, 201)
    found, free = (
        solve(
            overshooting,
            y0,
            times,
            method=method,
            rtol=1e-2,
            atol=1e-2,
            nonnegative=signs,
            dense=dense,
        )
        for signs in (True, None)
    )
    told = found(times) if dense else found.y
    assert float(told.detach().min()) >= 0
    assert float(free.y.detach().min()) < 0 or method != "QNDF"
    (grad,) = torch.autograd.grad(told.sum(), y0)
    assert bool(torch.isfinite(grad).all())


@pytest.mark.parametrize("method", ["Tsit5", "QNDF", "Rodas5P"])
def test_gradient_of_clamped_values(method):
    """The discrete adjoint is the graph of the steps, also where f sees zero and outputs are held
    at zero."""
    found = []
    for adjoint in ("direct", "discrete"):
        rate, y0 = tensor(1.0, requires_grad=True), tensor(1.0, requires_grad=True)

        def f(t, y, rate=rate):
            return -rate * torch.sqrt(y + 1e-6) + 1e-3 * rate

        y = solve(
            f,
            y0,
            [0.0, 0.7, 1.5, 3.0],
            method=method,
            nonnegative=True,
            adjoint=adjoint,
            rtol=1e-4,
            atol=1e-6,
        ).y
        found.append(torch.autograd.grad(y.sum(), (rate, y0)))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_a_state_that_f_drives_below_zero_is_still_refused(method):
    solution = solve(
        lambda t, y: -torch.ones_like(y),
        tensor(1.0),
        [0.0, 2.0],
        method=method,
        nonnegative=True,
        throw=False,
    )
    assert solution.status is Status.DOMAIN and solution.reached == pytest.approx(1.0, abs=1e-8)
