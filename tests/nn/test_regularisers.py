"""Regularisers: their integrals by quadrature, their gradients by differences, and that a flow
trained with them costs less."""

import copy
import math

import pytest
import torch
from torch import nn

from pynode import solve
from pynode.nn import (
    CNF,
    AugmentedODE,
    HigherDerivative,
    JacobianNorm,
    KineticEnergy,
    NeuralODE,
    Stiffness,
)
from tests.support.cases import directional, tensor

TIGHT = {"rtol": 1e-9, "atol": 1e-11, "max_steps": 2000}
EVERY = [
    KineticEnergy(),
    JacobianNorm(estimate="exact"),
    HigherDerivative(order=2),
    HigherDerivative(order=3),
    Stiffness(),
]


class Timed(nn.Module):
    """A field that depends on time, in d dimensions; t may have a dimension for the rows."""

    def __init__(self, d=2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d + 1, 12), nn.Tanh(), nn.Linear(12, d)).double()

    def forward(self, t, z):
        return self.net(torch.cat((z, t.to(z).expand(*z.shape[:-1], 1)), -1))


def integrand(name, f, t, y):
    """The integrand at one point by autograd, y (d,)."""
    slope, by_t = torch.autograd.functional.jvp(
        lambda s: f(s, y), t, torch.ones_like(t), create_graph=True
    )
    jac = torch.autograd.functional.jacobian(lambda y: f(t, y), y, create_graph=True)
    if name == "KineticEnergy":
        return slope.square().sum()
    if name == "JacobianNorm":
        return jac.square().sum()
    if name == "Stiffness":
        return (jac @ slope).norm() / slope.norm()
    if name == "HigherDerivative2":
        return (by_t + jac @ slope).square().sum()
    h = 1e-4  # the third derivative as a difference of the second along the solution

    def second(k):
        z = solve(f, y, [float(t), float(t) + k * h], method="vern7", rtol=1e-12, atol=1e-13).y[-1]
        s = t + k * h
        slope, by_t = torch.autograd.functional.jvp(lambda s: f(s, z), s, torch.ones_like(t))
        return by_t + torch.autograd.functional.jacobian(lambda z: f(s, z), z) @ slope

    return ((second(1) - second(-1)) / (2 * h)).square().sum()


def test_integrals_by_quadrature():
    """Gauss-Legendre nodes on the solution itself, each row by itself."""
    torch.manual_seed(3)
    field, y0 = Timed(), torch.randn(3, 2, dtype=torch.float64)
    model = NeuralODE(field, (0.2, 1.4), regularisers=EVERY, method="vern7", **TIGHT)
    y = model(y0)
    # Nodes and weights on (-1, 1) from the symmetric tridiagonal matrix of Golub & Welsch.
    k = torch.arange(1, 8, dtype=torch.float64)
    nodes, vectors = torch.linalg.eigh(
        torch.diag(k / (4 * k**2 - 1).sqrt(), 1) + torch.diag(k / (4 * k**2 - 1).sqrt(), -1)
    )
    times, weights = 0.8 + 0.6 * nodes, 1.2 * vectors[0].square()
    path = solve(field, y0, torch.cat((tensor(0.2), times, tensor(1.4))), method="vern7", **TIGHT).y
    assert torch.allclose(y, path[-1], rtol=0, atol=1e-8)
    for name, found in model.penalties.items():
        expected = torch.stack(
            [
                sum(
                    w * integrand(name, field, t, z[row])
                    for t, w, z in zip(times, weights, path[1:-1], strict=True)
                )
                for row in range(3)
            ]
        )
        torch.testing.assert_close(
            found, expected, rtol=1e-5 if name == "HigherDerivative3" else 1e-7, atol=0
        )
    weighted = NeuralODE(
        field,
        (0.2, 1.4),
        regularisers=[KineticEnergy(0.1), Stiffness(2.0)],
        method="vern7",
        **TIGHT,
    )
    weighted(y0)
    expected = (
        0.1 * model.penalties["KineticEnergy"].mean() + 2 * model.penalties["Stiffness"].mean()
    )
    torch.testing.assert_close(weighted.penalty, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf"])
def test_gradients_against_differences(method):
    field, y0 = Timed(), torch.randn(3, 2, dtype=torch.float64)
    regularisers = [KineticEnergy(0.3), JacobianNorm(0.7), HigherDerivative(0.2), Stiffness(0.5)]
    model = NeuralODE(field, regularisers=regularisers, method=method, rtol=1e-8, atol=1e-9)
    leaves = list(field.parameters())

    def loss():
        torch.manual_seed(1)  # the same probes each time
        return model(y0).square().sum() + model.penalty

    exact, difference = directional(loss, leaves)
    assert difference == pytest.approx(exact, rel=1e-5 if method != "qndf" else 1e-3)


def test_hutchinsons_estimate_of_the_norm_is_unbiased():
    field, y0 = Timed(3), torch.randn(1, 3, dtype=torch.float64)
    exact, estimate = (
        NeuralODE(field, regularisers=JacobianNorm(estimate=name), method="tsit5", **TIGHT)
        for name in ("exact", "hutchinson")
    )
    with torch.no_grad():
        exact(y0), estimate(y0.expand(4000, 3))
    found = estimate.penalties["JacobianNorm"]
    error = found.std() / math.sqrt(len(found))
    assert 1e-5 < error < 0.05 * found.mean()
    assert abs(found.mean() - exact.penalties["JacobianNorm"]) < 4 * error


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_density_of_a_flow_does_not_change(trace):
    """Backwards in time the integrals are the same, and positive; rows with steps of their own
    agree."""
    field, x = Timed(), torch.randn(5, 2, dtype=torch.float64)
    plain = CNF(field, 2, trace=trace, method="tsit5", **TIGHT)
    values = []
    for batched in (False, True):
        model = CNF(
            field, 2, trace=trace, regularisers=EVERY[:2], method="tsit5", batched=batched, **TIGHT
        )
        torch.manual_seed(2)
        expected = plain.log_prob(x)
        torch.manual_seed(2)
        torch.testing.assert_close(model.log_prob(x), expected, rtol=1e-7, atol=1e-8)
        values.append(model.penalties)
        assert all(value.shape == (5,) and (value > 0).all() for value in model.penalties.values())
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=1e-8)
    forward = NeuralODE(field, regularisers=EVERY[:2], method="tsit5", **TIGHT)
    forward(plain.inverse(x))
    torch.testing.assert_close(forward.penalties, values[0], rtol=1e-6, atol=1e-8)


def test_rows_of_images_and_a_single_row():
    image = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    field = nn.Conv2d(4, 4, 3, padding=1).double()
    model = AugmentedODE(
        field, 1, dim=1, regularisers=[KineticEnergy(), JacobianNorm()], method="tsit5", rtol=1e-3
    )
    model(image)
    assert all(value.shape == (2,) for value in model.penalties.values())
    single = NeuralODE(Timed(), regularisers=JacobianNorm(estimate="exact"), method="tsit5")
    single(tensor(0.3, -0.2))
    assert single.penalties["JacobianNorm"].shape == ()
    # Each row one number.
    scalars = NeuralODE(nn.Tanh(), regularisers=KineticEnergy(), method="tsit5", batched=True)
    scalars(tensor(0.3, -0.2, 0.1))
    assert scalars.penalties["KineticEnergy"].shape == (3,)


def test_evaluation_costs_nothing_and_copies_leave_the_graph():
    model = NeuralODE(Timed(), regularisers=[KineticEnergy()], method="tsit5")
    y0 = torch.randn(3, 2, dtype=torch.float64)
    model(y0)
    assert copy.deepcopy(model).penalty == 0 < model.penalty
    plain = NeuralODE(model.field, method="tsit5")
    assert (
        torch.equal(model.eval()(y0), plain(y0))
        and model.penalty == 0
        and model.stats == plain.stats
    )


class Windy(nn.Module):
    """A field with a wind that blows to and fro and takes nothing anywhere by t = 1: no datum tells
    of it."""

    def __init__(self):
        super().__init__()
        self.wind, self.net = (
            nn.Parameter(torch.tensor(1.0)),
            nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)),
        )

    def forward(self, t, y):
        turn = 4 * math.pi * t
        return self.net(y - self.wind * torch.sin(turn)) + 4 * math.pi * self.wind * torch.cos(turn)


def test_a_regularised_flow_takes_fewer_evaluations():
    """x -> tanh x, learned by both as well; the wind stays where nothing speaks against it."""
    x = torch.linspace(-2, 2, 16).unsqueeze(1)
    target, found = x.tanh(), []
    for regularisers in ((), KineticEnergy(1e-3)):
        torch.manual_seed(4)
        model = NeuralODE(Windy(), regularisers=regularisers, method="tsit5", rtol=1e-4, atol=1e-4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.7, 0.99))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
        for _ in range(30):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), target) + model.penalty
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            found.append((float(nn.functional.mse_loss(model.eval()(x), target)), model.stats.nfe))
    (plain, plain_nfe), (regularised, nfe) = found
    assert nfe < 0.75 * plain_nfe
    assert plain < 0.02 and regularised < 0.02 < 0.1 < float(nn.functional.mse_loss(x, target))


def test_mistakes_are_told():
    with pytest.raises(TypeError, match="not KineticEnergy itself"):
        NeuralODE(Timed(), regularisers=[KineticEnergy])
    with pytest.raises(TypeError, match=r"must be KineticEnergy, JacobianNorm, .* not float"):
        NeuralODE(Timed(), regularisers=[0.1])
    with pytest.raises(ValueError, match="is possible once"):
        NeuralODE(Timed(), regularisers=[Stiffness(), Stiffness(0.1)])
    with pytest.raises(ValueError, match="weight must be finite and not negative, not -1"):
        KineticEnergy(-1)
    with pytest.raises(TypeError, match="weight must be a number, not str"):
        Stiffness("0.1")
    with pytest.raises(ValueError, match="estimate must be one of hutchinson, exact, not 'full'"):
        JacobianNorm(estimate="full")
    with pytest.raises(ValueError, match="order must be an integer of at least 2, not 1"):
        HigherDerivative(order=1)
