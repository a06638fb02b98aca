"""NeuralSDE: a module over solve_sde, and what it learns from moments."""

import pytest
import torch
from torch import nn

from pynode.nn import NeuralSDE
from pynode.sde import BrownianPath, solve_sde


class Scale(nn.Module):
    """Itself times a parameter, or, as noise, the parameter."""

    def __init__(self, value, constant=False):
        super().__init__()
        self.value, self.constant = nn.Parameter(torch.tensor(value)), constant

    def forward(self, y):
        return self.value * (torch.ones_like(y) if self.constant else y)


def test_it_is_solve_sde_with_modules():
    drift, diffusion, y0 = nn.Linear(2, 2), nn.Tanh(), torch.randn(5, 2)
    model = NeuralSDE(drift, diffusion, (0.0, 0.5, 1.0), dt=0.1, method="Milstein", last_only=False)
    noise = BrownianPath((5, 2), seed=3)
    found = model(y0, brownian=noise)
    options = {"dt": 0.1, "method": "milstein", "brownian": noise}
    plain = solve_sde(lambda t, y: drift(y), lambda t, y: diffusion(y), y0, [0, 0.5, 1], **options)
    assert torch.equal(found, plain.y) and model.stats == plain.stats and model.brownian is noise
    assert found.shape == (3, 5, 2) and torch.equal(found[0], y0)
    assert "dt=0.1" in repr(model) and "noise_dim" not in repr(model)
    assert model.double().t.dtype == torch.float64 and set(dict(model.named_parameters())) == {
        "drift.weight",
        "drift.bias",
    }
    last = NeuralSDE(drift, diffusion, dt=0.1).double()(y0.double())
    assert last.shape == (5, 2) and last.dtype == torch.float64


def test_it_learns_from_mean_and_variance():
    """An Ornstein-Uhlenbeck process dy = -1.5 y dt + 0.6 dW from 1: its rate and its noise from
    closed forms of its moments."""
    times = torch.linspace(0, 1, 5)
    mean, variance = torch.exp(-1.5 * times), 0.36 / 3 * (1 - torch.exp(-3 * times))
    model = NeuralSDE(Scale(-0.3), Scale(0.2, constant=True), dt=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    y0 = torch.ones(400, 1)
    for _ in range(80):
        optimizer.zero_grad()
        y = model(y0, times)[..., 0]
        loss = (y.mean(1) - mean).square().sum() + (y.std(1) - variance.sqrt()).square().sum()
        loss.backward()
        optimizer.step()
    assert float(model.drift.value) == pytest.approx(-1.5, abs=0.15)
    assert abs(float(model.diffusion.value)) == pytest.approx(0.6, abs=0.05)


def test_mistakes_are_told():
    with pytest.raises(TypeError, match=r"drift must be an nn\.Module"):
        NeuralSDE(lambda y: -y, nn.Tanh(), dt=0.1)
    with pytest.raises(TypeError, match=r"diffusion must be an nn\.Module"):
        NeuralSDE(nn.Tanh(), lambda y: y, dt=0.1)
