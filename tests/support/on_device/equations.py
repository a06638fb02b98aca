"""Stochastic equations, and torchdiffeq's interface."""

import pytest
import torch

from pynode import odeint, odeint_adjoint, odeint_event
from pynode.sde import SCHEMES, BrownianPath, solve_sde
from tests.support.cases import Forced
from tests.support.on_device import fixed, leaf, same, with_gradients

BATCH = [[1.0, -0.5, 0.3], [0.2, 0.4, -1.0]]


@pytest.mark.parametrize("method", SCHEMES)
def test_stochastic_equations(method):
    """With a path of noise, which is the same on both devices."""

    def compute(device):
        rate = leaf([0.5, 1.0], device)
        y0 = leaf([[1.0, 2.0], [3.0, 4.0]], device)
        noise = BrownianPath((2, 2), seed=3)
        options = {"dt": 0.1, "method": method, "brownian": noise}
        y = solve_sde(lambda t, y: -rate * y, lambda t, y: 0.1 * y, y0, [0.0, 0.5, 1.0], **options)
        return with_gradients(y.y, y0, rate)

    same(compute)


@pytest.mark.parametrize("entry", [odeint, odeint_adjoint])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "implicit_adams", "bosh3"])
@pytest.mark.parametrize("there", [False, True], ids=["t of the cpu", "t of the device"])
def test_torchdiffeq(entry, method, there):
    def compute(device):
        f = Forced().to(device)
        y0 = leaf(BATCH, device)
        t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
        options = {"step_size": 0.05} if method in ("rk4", "implicit_adams") else None
        t = t.to(device) if there else t
        y = entry(f, y0, t, method=method, options=options, rtol=1e-4, atol=1e-5)
        return with_gradients(y, y0, *f.parameters())

    same(compute)


def test_torchdiffeq_events():
    def compute(device):
        y0, t0 = leaf([1.0, 0.0], device), fixed(0.0, device)
        t, y = odeint_event(
            lambda t, y: torch.stack((y[1], torch.full_like(y[1], -9.81))),
            y0,
            t0,
            event_fn=lambda t, y: y[0],
            method="dopri5",
        )
        return with_gradients(y[-1] + t, y0)

    same(compute)
