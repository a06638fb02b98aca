"""Models."""

import pytest
import torch
from torch import nn

from pynode.nn import (
    CNF,
    CRNN,
    AugmentedODE,
    ControlledODE,
    CubicHermitePath,
    HamiltonianField,
    HybridField,
    JumpODE,
    KineticEnergy,
    LagrangianField,
    LatentODE,
    LinearPath,
    NeuralCDE,
    NeuralODE,
    NeuralSDE,
    RateConstants,
    ReactionNetwork,
    RectilinearPath,
)
from pynode.sde import BrownianPath
from tests.support.cases import Forced
from tests.support.on_device import fixed, leaf, same, with_gradients

LOOSE = {"rtol": 1e-4, "atol": 1e-5}
BATCH = [[1.0, -0.5, 0.3], [0.2, 0.4, -1.0]]


def network(inputs, outputs, device):
    """The same numbers on every device."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs)).double()
    return net.to(device)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf"])
@pytest.mark.parametrize("batched", [False, True], ids=["one", "rows"])
def test_neural_ode(method, batched):
    def compute(device):
        model = NeuralODE(
            Forced(),
            t=[0.0, 0.4, 1.0],
            method=method,
            batched=batched,
            last_only=False,
            regularisers=[KineticEnergy()] if not batched else [],
            **LOOSE,
        ).to(device)
        y0 = leaf(BATCH, device)
        return with_gradients(model(y0), y0, *model.parameters())

    same(compute)


def test_augmented_ode():
    def compute(device):
        model = AugmentedODE(network(5, 5, device), 2, method="tsit5", **LOOSE).to(device)
        y0 = leaf(BATCH, device)
        return with_gradients(model(y0), y0, *model.parameters())

    same(compute)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_cnf(trace):
    def compute(device):
        model = CNF(network(3, 3, device), 3, (0.0, 1.0), method="tsit5", trace=trace, **LOOSE)
        model = model.double().to(device)
        x = leaf(BATCH, device)
        torch.manual_seed(2)
        found = with_gradients(model.log_prob(x), x, *model.parameters())
        torch.manual_seed(2)
        return [*found, model.sample(4)]

    same(compute)


@pytest.mark.parametrize("encoder", ["gru", "ode-rnn"])
@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_latent_ode(encoder, method):
    def compute(device):
        generator = torch.Generator().manual_seed(1)
        t = (0.2 + torch.rand(2, 4, generator=generator, dtype=torch.float64)).cumsum(1)
        x = torch.randn(2, 4, 2, generator=generator, dtype=torch.float64)
        x[1, 2, 0] = torch.nan
        torch.manual_seed(3)
        model = LatentODE(
            network(3, 3, "cpu"),
            nn.Linear(3, 2),
            2,
            3,
            encoder=encoder,
            hidden=5,
            method=method,
            **LOOSE,
        )
        model = model.double().to(device)
        x, t = x.to(device), t.to(device)
        at = torch.tensor([0.5, 2.0], dtype=torch.float64).to(device)
        torch.manual_seed(4)
        bound = model.elbo(x, t)
        return [*with_gradients(bound, *model.parameters()), model.predict(x, t, at)]

    same(compute)


@pytest.mark.parametrize("scheme", [LinearPath, CubicHermitePath, RectilinearPath])
@pytest.mark.parametrize("batched", [False, True], ids=["one", "rows"])
def test_neural_cde(scheme, batched):
    def compute(device):
        generator = torch.Generator().manual_seed(1)
        times = torch.rand(2, 5, generator=generator, dtype=torch.float64).cumsum(1).to(device)
        x = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64).to(device)
        x.requires_grad_()
        field = nn.Sequential(network(4, 12, device), nn.Tanh(), nn.Unflatten(-1, (4, 3)))
        initial = network(3, 4, device)
        model = NeuralCDE(field, initial, method="tsit5", batched=batched, **LOOSE).to(device)
        path = scheme(times, x)
        return with_gradients(model(path), x, *model.parameters())

    same(compute)


class Driven(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network(5, 3, "cpu")

    def forward(self, t, y, u):
        return self.net(torch.cat((y, u), -1))


def test_controlled_ode():
    def compute(device):
        times = fixed([0.0, 0.5, 1.0], device)
        inputs = leaf([[0.0], [1.0], [0.5]], device)
        model = ControlledODE(Driven(), method="tsit5", **LOOSE).to(device)
        y = model(fixed(BATCH[0], device), LinearPath(times, inputs))
        return with_gradients(y, inputs, *model.parameters())

    same(compute)


class Ground(nn.Module):
    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, y):
        return y[..., 0] - self.level


class Bounce(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))

    def forward(self, t, y):
        return y * torch.stack((torch.ones_like(self.kept), -self.kept))


class Falling(nn.Module):
    def forward(self, y):
        return torch.stack((y[..., 1], torch.full_like(y[..., 1], -9.81)), -1)


@pytest.mark.parametrize("batched", [False, True], ids=["one", "rows"])
def test_jump_ode(batched):
    def compute(device):
        model = JumpODE(
            Falling(),
            Ground(),
            Bounce(),
            [0.0, 0.4, 1.0],
            direction=-1,
            method="tsit5",
            batched=batched,
            **LOOSE,
        ).to(device)
        y0 = leaf([[1.0, 0.0], [1.5, 0.2]] if batched else [1.0, 0.0], device)
        return with_gradients(model(y0), y0, *model.parameters())

    same(compute)


@pytest.mark.parametrize("kind", ["network", "crnn", "hybrid"])
def test_kinetics(kind):
    def compute(device):
        torch.manual_seed(5)
        if kind == "network":
            field = ReactionNetwork.of(["A -> B", "2 B -> C"], "ABC", RateConstants([0.4, 3.0]))
        elif kind == "crnn":
            field = CRNN(3, 2).double()
        else:
            field = HybridField(lambda t, y: -y, network(3, 3, "cpu"))
        model = NeuralODE(field, t=[0.0, 1.0], method="rodas5p", **LOOSE).double().to(device)
        y0 = leaf([1.0, 0.5, 0.3], device)
        return with_gradients(model(y0), y0, *model.parameters())

    same(compute)


class Energy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network(2, 1, "cpu")

    def forward(self, *parts):
        y = torch.cat(parts, -1)
        return self.net(y).squeeze(-1) + y[..., 1].square() / 2


@pytest.mark.parametrize("kind", [HamiltonianField, LagrangianField])
def test_mechanics(kind):
    def compute(device):
        model = NeuralODE(kind(Energy()), t=[0.0, 1.0], method="tsit5", **LOOSE).to(device)
        y0 = leaf([[0.5, 0.2], [0.1, -0.4]], device)
        return with_gradients(model(y0), y0, *model.parameters())

    same(compute)


def test_neural_sde():
    def compute(device):
        model = NeuralSDE(network(3, 3, device), nn.Tanh(), (0.0, 1.0), dt=0.1).double().to(device)
        y0 = leaf(BATCH, device)
        found = model(y0, brownian=BrownianPath((2, 3), seed=3))
        return with_gradients(found, y0, *model.parameters())

    same(compute)
