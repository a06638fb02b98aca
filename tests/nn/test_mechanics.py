"""HamiltonianField and LagrangianField against equations of motion written out, their gradients,
and what they learn."""

import pytest
import torch
from torch import nn

from pynode import SolveError, solve
from pynode.nn import HamiltonianField, LagrangianField, NeuralODE
from tests.support.cases import directional, tensor

every_method = pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf"])
TIGHT = {"method": "tsit5", "rtol": 1e-7, "atol": 1e-9}


class DoublePendulum(nn.Module):
    """L of two unit masses on unit rods, g = 9.81; its mass matrix depends on q."""

    def forward(self, q, v):
        (a, b), (u, w) = q.unbind(-1), v.unbind(-1)
        return (
            u * u + w * w / 2 + u * w * torch.cos(a - b) + 9.81 * (2 * torch.cos(a) + torch.cos(b))
        )


def double_pendulum(t, y):
    """Its equations of motion, solved by hand (Cramer's rule)."""
    a, b, u, w = y.unbind(-1)
    c, s = torch.cos(a - b), torch.sin(a - b)
    f = -w * w * s - 2 * 9.81 * torch.sin(a)
    g = u * u * s - 9.81 * torch.sin(b)
    det = 2 - c * c
    return torch.stack((u, w, (f - c * g) / det, (2 * g - c * f) / det), -1)


class Scalar(nn.Module):
    """A network of y = (q, p), or of q and v, with one output, added to half the square of p or
    v."""

    def __init__(self, n, width=16, dtype=torch.float64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n, width), nn.Softplus(), nn.Linear(width, 1)).to(dtype)

    def forward(self, *parts):
        y = torch.cat(parts, -1)
        return self.net(y) + y[..., y.shape[-1] // 2 :].square().sum(-1, keepdim=True) / 2


class Friction(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(tensor((0.5, 0.0), (0.2, 0.3)))

    def forward(self, q):
        return self.factor * torch.cos(q).unsqueeze(-1)


class Drive(nn.Module):
    def forward(self, t, q, *rest):
        return torch.sin(3 * t) * torch.ones_like(q)


def test_the_double_pendulum():
    y = torch.randn(6, 4, dtype=torch.float64)
    field = LagrangianField(DoublePendulum())
    torch.testing.assert_close(
        field(tensor(0.0)[0], y), double_pendulum(0.0, y), rtol=1e-11, atol=1e-11
    )
    found = solve(field, y[0], [0.0, 1.0], **TIGHT).y[-1]
    torch.testing.assert_close(
        found, solve(double_pendulum, y[0], [0.0, 1.0], **TIGHT).y[-1], rtol=1e-5, atol=1e-5
    )
    assert abs(field.energy(found) - field.energy(y[0])) < 1e-5
    pushed = LagrangianField(DoublePendulum(), Drive())(tensor(0.4)[0], y)
    mass = torch.stack([tensor((2.0, c), (c, 1.0)) for c in torch.cos(y[:, 0] - y[:, 1]).tolist()])
    change = torch.linalg.solve(mass, torch.sin(tensor(1.2)).expand(6, 2).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(
        pushed[:, 2:], double_pendulum(0.0, y)[:, 2:] + change, rtol=1e-11, atol=1e-11
    )


def test_hamiltons_equations():
    """dH/dt = -dH/dp . D dH/dp + dH/dp . force, and the symplectic gradient by autograd."""
    energy, friction, drive = Scalar(4), Friction(), Drive()
    y, t = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), tensor(0.4)[0]
    (slope,) = torch.autograd.grad(energy(y).sum(), y)
    by_q, by_p = slope.chunk(2, -1)
    expected = torch.cat((by_p, -by_q), -1)
    torch.testing.assert_close(HamiltonianField(energy)(t, y), expected, rtol=1e-13, atol=1e-13)
    factor = friction(y[:, :2])
    lost = (factor.mT @ by_p.unsqueeze(-1)).square().sum((1, 2))
    given = (by_p * torch.sin(tensor(1.2))).sum(-1)
    power = (slope * HamiltonianField(energy, friction, drive)(t, y)).sum(-1)
    torch.testing.assert_close(power, given - lost, rtol=1e-12, atol=1e-12)
    assert (lost > 0).all()


@every_method
@pytest.mark.parametrize("kind", ["hamiltonian", "lagrangian"])
def test_gradients_against_differences(kind, method):
    """Of all parameters and the start, through every derivative of the scalar that a method
    needs."""
    field = (
        HamiltonianField(Scalar(4), Friction(), Drive())
        if kind == "hamiltonian"
        else LagrangianField(Scalar(4), Drive())
    )
    y0 = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    leaves, options = [y0, *field.parameters()], {"method": method, "rtol": 1e-8, "atol": 1e-9}
    exact, difference = directional(
        lambda: solve(field, y0, [0.0, 0.5], **options).y[-1].square().sum(), leaves
    )
    assert difference == pytest.approx(exact, rel=1e-5 if method != "qndf" else 1e-3)


@pytest.mark.parametrize("kind", ["hamiltonian", "lagrangian"])
def test_energy_is_kept_by_what_was_learned(kind):
    """An oscillator from a third of its period: after five the learned energy is where it was, and
    bounds the true one."""
    starts, times, turn = (
        1.5 * torch.randn(10, 2),
        torch.linspace(0, 2.0, 4),
        torch.tensor([[0.0, 1.0], [-1.0, 0.0]]),
    )
    data = torch.stack([starts @ torch.linalg.matrix_exp(float(t) * turn).T for t in times])
    field = (HamiltonianField if kind == "hamiltonian" else LagrangianField)(
        Scalar(2, dtype=torch.float32)
    )
    model = NeuralODE(field, times, method="tsit5", rtol=1e-3, atol=1e-3, last_only=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-2)
    losses = []
    for _ in range(18):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(starts), data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        path = solve(
            field.double(),
            tensor(1.0, 0.5),
            torch.linspace(0, 30, 31),
            method="vern7",
            rtol=1e-6,
            atol=1e-7,
        ).y
        energy, true = field.energy(path), path.square().sum(-1) / 2
    assert (energy - energy[0]).abs().max() < 1e-4 * energy.abs().max()
    assert (true - true[0]).abs().max() < true[0]


def test_mistakes_are_told():
    with pytest.raises(TypeError, match=r"hamiltonian must be an nn\.Module.*not function"):
        HamiltonianField(lambda y: y.sum(-1))
    for make in (
        lambda force: HamiltonianField(Scalar(2), force=force),
        lambda force: LagrangianField(Scalar(2), force),
    ):
        with pytest.raises(TypeError, match=r"force must be an nn\.Module"):
            make(lambda t, q, *rest: 0 * q)
    with pytest.raises(TypeError, match=r"damping must be an nn\.Module"):
        HamiltonianField(Scalar(2), damping=lambda q: q)
    with pytest.raises(ValueError, match=r"even number, not shape \(3,\)"):
        HamiltonianField(Scalar(3))(0.0, tensor(1.0, 2.0, 3.0))
    with pytest.raises(
        ValueError,
        match=r"the lagrangian returned shape \(5, 2\) for points of shape \(5, 2\); return one",
    ):

        class Vector(nn.Module):
            def forward(self, q, v):
                return q + v

        LagrangianField(Vector())(0.0, torch.zeros(5, 4))

    class Massless(nn.Module):
        def forward(self, q, v):
            return (q * v).sum(-1) + q.square().sum(-1)

    with pytest.raises(SolveError, match="NaN or infinity"):
        solve(LagrangianField(Massless()), tensor(1.0, 2.0), [0.0, 1.0])
