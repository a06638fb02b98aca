"""Systems without rest: oscillators, and fields that change with the time."""

import pytest
import torch

from pynode import SteadyStateError, steady_state


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def van_der_pol(t, y):
    return torch.stack((y[1], (1 - y[0] ** 2) * y[1] - y[0]))


def lotka_volterra(t, y):
    return torch.stack((y[0] * (1 - y[1]), y[1] * (y[0] - 1)))


def harmonic(t, y):
    return torch.stack((y[1], -y[0]))


def oregonator(t, y):
    a, b, c = y
    made = 77.27 * (b + a * (1 - 8.375e-6 * a - b))
    return torch.stack((made, (c - (1 + a) * b) / 77.27, 0.161 * (a - c)))


def damped(t, y):
    """A swing that loses 0.5 % of its height in a unit of time: it rests at 0, very late."""
    return torch.stack((y[1], -y[0] - 0.01 * y[1]))


@pytest.mark.parametrize(
    ("f", "start", "point"),
    [
        (van_der_pol, tensor(1.0, 0.0), "is unstable"),
        (lotka_volterra, tensor(2.0, 1.0), "y = 1, 1 is unstable"),
        (harmonic, tensor(1.0, 0.0), "is unstable"),
        (oregonator, tensor(1.0, 2.0, 3.0), "is unstable"),
    ],
)
def test_oscillators(f, start, point):
    with pytest.raises(SteadyStateError, match=rf"it oscillates.*{point}.*pynode.solve"):
        steady_state(f, start)


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_row_that_oscillates(backend):
    """One row of two is named."""
    if backend == "native":
        pytest.importorskip("numba", reason="the native engine needs numba")

    def f(t, y, k):
        damping = k[..., 0] - y[..., 0] ** 2
        return torch.stack((y[..., 1], damping * y[..., 1] - y[..., 0]), -1)

    start = tensor([0.1, 0.0], [1.0, 0.0])
    k = tensor([-1.0], [1.0])
    with pytest.raises(SteadyStateError, match=r"from y0 of row 1 .* it oscillates"):
        steady_state(f, start, args=(k,), batched=True, backend=backend)


def test_a_slow_swing_is_no_oscillation():
    """Its remedy works."""
    with pytest.raises(SteadyStateError, match=r"comes to rest slowly.*method='newton'"):
        steady_state(damped, tensor(1.0, 0.0))
    found = steady_state(damped, tensor(1.0, 0.0), method="newton")
    assert found.stable
    torch.testing.assert_close(found.y, tensor(0.0, 0.0))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("drive", [lambda t: t, lambda t: torch.sin(2 * torch.pi * t)])
def test_a_field_that_changes_with_the_time(batched, drive):
    def f(t, y):
        return drive(t) - y

    start = tensor(0.5)
    if batched:
        start = start.reshape(1, 1)
    with pytest.raises(SteadyStateError, match=r"f depends on the time.*such as t=0.0"):
        steady_state(f, start, batched=batched)
    found = steady_state(f, start, batched=batched, t=0.0)
    torch.testing.assert_close(found.y, torch.zeros_like(start), rtol=0, atol=1e-9)
