"""Models in native code: the values and gradients of the torch engine, and one translation."""

import pytest
import torch
from torch import nn

from pynode import nn as models
from pynode.translate import field as translation

TIMES = torch.linspace(0.0, 1.0, 6)


@pytest.fixture(autouse=True)
def packages():
    pytest.importorskip("numba")
    pytest.importorskip("llvmlite")


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, outputs))


class WithInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network(3, 2)

    def forward(self, t, y, u):
        return self.net(torch.cat((y, u.expand(*y.shape[:-1], 1)), -1))


def matrix():
    return nn.Sequential(network(4, 8), nn.Tanh(), nn.Unflatten(-1, (4, 2)))


def waves(*shape):
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(count, dtype=torch.float64)).reshape(shape)


POINTS = waves(5, 2)
LINEAR = models.LinearPath(TIMES, waves(3, 6, 1))
CUBIC = models.CubicHermitePath(TIMES, waves(3, 6, 1))
HELD = models.ZeroOrderHold(TIMES[:5], waves(5, 1))
STRAIGHT = models.LinearPath(TIMES, waves(6, 1), time=False)

# (the model with these options, its value)
MODELS = {
    "without time": (lambda o: models.NeuralODE(network(2, 2), **o), lambda m: m(POINTS)),
    "augmented": (lambda o: models.AugmentedODE(network(3, 3), 1, **o), lambda m: m(POINTS)),
    "regularised": (
        lambda o: models.NeuralODE(network(2, 2), regularisers=[models.KineticEnergy(0.1)], **o),
        lambda m: m(POINTS).sum() + m.penalty,
    ),
    "flow": (lambda o: models.CNF(network(2, 2), 2, **o), lambda m: m.log_prob(POINTS)),
    "latent": (
        lambda o: models.LatentODE(network(3, 3), network(3, 2), 2, 3, **o),
        lambda m: m(waves(4, 6, 2), TIMES),
    ),
    "latent, between observations": (
        lambda o: models.LatentODE(
            network(3, 3), network(3, 2), 2, 3, encoder="ode-rnn", hidden=4, **o
        ),
        lambda m: m(waves(4, 6, 2), TIMES),
    ),
    "driven by lines": (
        lambda o: models.NeuralCDE(matrix(), network(2, 4), **o),
        lambda m: m(LINEAR),
    ),
    "driven by cubics": (
        lambda o: models.NeuralCDE(matrix(), network(2, 4), **o),
        lambda m: m(CUBIC),
    ),
    "held input": (lambda o: models.ControlledODE(WithInput(), **o), lambda m: m(POINTS, HELD)),
    "straight input": (
        lambda o: models.ControlledODE(WithInput(), **o),
        lambda m: m(POINTS, STRAIGHT),
    ),
    "smooth input": (
        lambda o: models.ControlledODE(WithInput(), **o),
        lambda m: m(POINTS, torch.sin),
    ),
}


def made(name, backend):
    torch.manual_seed(0)
    build, call = MODELS[name]
    options = {"method": "tsit5", "rtol": 1e-8, "atol": 1e-10, "backend": backend}
    return build(options).double(), call


def evaluated(model, call):
    value = call(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = (value * waves(value.numel()).view(value.shape)).sum()
    return value.detach(), torch.autograd.grad(total, parameters, materialize_grads=True)


@pytest.mark.parametrize("name", MODELS)
def test_values_and_gradients(name):
    here, there = (evaluated(*made(name, backend)) for backend in ("native", "torch"))
    assert torch.allclose(here[0], there[0], rtol=1e-6, atol=1e-8)
    for mine, other in zip(here[1], there[1], strict=True):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-6 * (1 + float(other.abs().max())))


@pytest.mark.parametrize("name", MODELS)
def test_the_second_call_translates_nothing(name, monkeypatch):
    model, call = made(name, "native")
    evaluated(model, call)
    count = 0
    before = translation._new_code

    def counted(*arguments):
        nonlocal count
        count += 1
        return before(*arguments)

    monkeypatch.setattr(translation, "_new_code", counted)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    evaluated(model, call)
    assert count == 0


def test_another_field_is_noticed():
    """The model keeps what it made of the field, not the field."""
    model, call = made("without time", "native")
    call(model)
    model.field = nn.Sequential(nn.Linear(2, 2)).double()
    expected = models.NeuralODE(model.field, method="tsit5", rtol=1e-8, atol=1e-10)(POINTS)
    assert torch.allclose(call(model), expected, rtol=1e-6)


def test_a_copy_keeps_nothing_of_the_last_call():
    model, call = made("driven by lines", "native")
    call(model)
    assert model.__dict__["_wrappers"]
    assert not model.__getstate__()["_wrappers"]
    assert len(list(model.modules())) == len(list(made("driven by lines", "torch")[0].modules()))
