"""ControlledODE: inputs of every kind against closed forms, and gradients with respect to what they
are made of."""

import math

import pytest
import torch
from torch import nn

from pynode.nn import ControlledODE, CubicHermitePath, LinearPath, RectilinearPath, ZeroOrderHold
from tests.support.cases import directional, tensor

A = torch.tensor([[-0.5, 1.0], [-2.0, -0.3]], dtype=torch.float64)
B = torch.tensor([[0.0], [1.5]], dtype=torch.float64)
KNOTS = tensor(0.0, 0.4, 0.9, 1.3)
T = tensor(0.0, 0.4, 0.7, 1.3, 2.0)
TIGHT = {"rtol": 1e-9, "atol": 1e-11}


class Linear(nn.Module):
    """dy/dt = A y + B u."""

    def __init__(self):
        super().__init__()
        self.A, self.B = nn.Parameter(A.clone()), nn.Parameter(B.clone())

    def forward(self, y, u):
        return y @ self.A.T + u @ self.B.T


class Driven(nn.Module):
    """Not linear, and with time of its own."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(tensor(0.8)[0])

    def forward(self, t, y, u):
        return torch.sin(t) - self.rate * y + torch.tanh(u * y + u)


def held_exactly(y, values, times):
    """The state at the times under values held from KNOTS on: matrix exponentials of (A, B; 0,
    0)."""
    whole = torch.zeros(3, 3, dtype=torch.float64)
    whole[:2, :2], whole[:2, 2:] = A, B
    states, now = [], 0.0
    for t in times.tolist():
        while now < t:
            i = int((KNOTS <= now).sum()) - 1
            end = min([k for k in KNOTS.tolist() if k > now] + [t, t])
            end = min(end, t)
            y = (torch.linalg.matrix_exp(whole * (end - now)) @ torch.cat((y, values[i])))[:2]
            now = end
        states.append(y)
    return torch.stack(states)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf"])
def test_a_held_input_to_a_linear_system(method):
    values, y0 = tensor(1.0, -2.0, 0.5, 3.0).unsqueeze(1), tensor(1.0, -1.0)
    model = ControlledODE(Linear(), method=method, rtol=1e-8, atol=1e-10)
    found = model(y0, ZeroOrderHold(KNOTS, values), T)
    tolerance = 3e-6 if method == "qndf" else 1e-7
    torch.testing.assert_close(found, held_exactly(y0, values, T), rtol=tolerance, atol=tolerance)


def test_rows_with_inputs_of_their_own():
    values, y0 = torch.randn(3, 4, 1, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    for options in ({}, {"batched": True}):
        model = ControlledODE(Linear(), method="tsit5", **TIGHT, **options)
        found = model(y0, ZeroOrderHold(KNOTS, values), T)
        for row in range(3):
            torch.testing.assert_close(
                found[:, row], held_exactly(y0[row], values[row], T), rtol=1e-7, atol=1e-8
            )


def test_a_ramp_has_its_closed_form():
    """dy/dt = -y + u with u = 2 t up to 1 and 2 from there on."""
    u = LinearPath([0.0, 1.0, 3.0], tensor(0.0, 2.0, 2.0).unsqueeze(1), time=False)
    field = Linear()
    field.A.data, field.B.data = (
        -torch.eye(1, dtype=torch.float64),
        torch.eye(1, dtype=torch.float64),
    )
    model = ControlledODE(field, (0.0, 1.0, 3.0), method="tsit5", last_only=False, **TIGHT)
    first = 2 * math.exp(-1)
    expected = tensor(0.0, first, 2 + (first - 2) * math.exp(-2))
    torch.testing.assert_close(model(tensor(0.0), u)[:, 0], expected, rtol=1e-8, atol=1e-9)
    assert model(tensor(0.0), u, [0.0, 3.0]).shape == (2, 1)
    # Times that float32 rounds apart.
    short = LinearPath([0.0, 0.3, 0.7], tensor(0.0, 0.6, 1.4).unsqueeze(1), time=False)
    torch.testing.assert_close(
        model(tensor(0.0), short, [0.0, 0.7])[1], 2 * (tensor(0.7) - 1 + torch.exp(tensor(-0.7)))
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda v: ZeroOrderHold(KNOTS, v),
        lambda v: LinearPath([0.0, 0.5, 1.2, 2.0], v, time=False),
        lambda v: CubicHermitePath([0.0, 0.5, 1.2, 2.0], v, time=False),
    ],
    ids=["held", "linear", "hermite"],
)
@pytest.mark.parametrize(
    "options", [{}, {"adjoint": "direct"}, {"method": "rodas5p"}, {"batched": True}], ids=str
)
def test_gradients_are_those_of_differences(make, options):
    """With respect to the values of the input, here a function of other tensors, and to the field's
    parameters."""
    leaf, y0 = (
        torch.randn(2, 4, 1, dtype=torch.float64).requires_grad_(),
        torch.randn(2, 1, dtype=torch.float64),
    )
    model = ControlledODE(Driven(), **{"method": "tsit5", **TIGHT, **options})

    def value():
        return model(y0, make(torch.sin(2 * leaf)), T).square().sum()

    for x in (leaf, model.field.rate):
        exact, difference = directional(value, [x], 1e-4)
        assert difference == pytest.approx(exact, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("span", [(0.0, 0.7, 2.0), (2.0, 0.7, 0.0)], ids=["forwards", "backwards"])
def test_switching_times_have_gradients(span, batched):
    times, values = KNOTS.clone().requires_grad_(), tensor(1.0, -2.0, 0.5, 3.0).unsqueeze(1)
    model = ControlledODE(Driven(), method="tsit5", batched=batched, **TIGHT)

    def value(times):
        return model(tensor((0.3,)), ZeroOrderHold(times, values), span).square().sum()

    value(times).backward()
    with torch.no_grad():
        for i in (1, 2, 3):
            unit = torch.zeros(4, dtype=torch.float64)
            unit[i] = 1e-5
            expected = (value(KNOTS + unit) - value(KNOTS - unit)) / 2e-5
            torch.testing.assert_close(times.grad[i], expected, rtol=1e-5, atol=1e-8)
    assert model.stats.rejected == 0


def test_a_function_as_input():
    """u(t) = sin t, as a function and as a module whose parameter is learned."""

    class Wave(nn.Module):
        def __init__(self):
            super().__init__()
            self.size = nn.Parameter(tensor(1.0))

        def forward(self, t):
            return self.size * torch.sin(t)

    wave, model = Wave(), ControlledODE(Linear(), method="tsit5", **TIGHT)
    y0 = tensor(1.0, -1.0)
    found = model(y0, wave, T)
    torch.testing.assert_close(found, model(y0, lambda t: torch.sin(t).reshape(1), T))
    fine = torch.linspace(0, 2, 401, dtype=torch.float64)
    near = model(y0, CubicHermitePath(fine, torch.sin(fine).unsqueeze(1), time=False), T)
    torch.testing.assert_close(found, near, rtol=0, atol=1e-5)
    found.sum().backward()
    zero = model(y0, lambda t: 0 * t.reshape(1), T)  # linear in the size of the input
    torch.testing.assert_close(
        wave.size.grad[0], (found - zero).sum().detach(), rtol=1e-6, atol=1e-8
    )


def test_no_step_runs_across_a_jump():
    """Also where options name further times, and in float32, where the knots are rounded as the
    time is."""
    values = torch.tensor([1.0, -200.0, 50.0, 3.0]).unsqueeze(1)
    model = ControlledODE(Linear().float(), method="tsit5", rtol=1e-4, atol=1e-4, jumps=[0.5])
    u = ZeroOrderHold(KNOTS, values)
    model(torch.tensor([1.0, -1.0]), u, [0.0, 0.5, 2.0])
    aware = model.stats.rejected
    model(torch.tensor([1.0, -1.0]), lambda t: u(t), [0.0, 0.5, 2.0])
    assert aware == 0 < model.stats.rejected
    assert u.stops(0, model.options)["jumps"].tolist() == [0.5, 0.4, 0.9, 1.3]


def test_it_finds_a_control():
    """The torques, held, that bring a pendulum from rest to an angle of 1, at rest again."""

    class Pendulum(nn.Module):
        def forward(self, y, u):
            return torch.stack((y[1], u[0] - torch.sin(y[0])))

    values = nn.Parameter(torch.zeros(5, 1, dtype=torch.float64))
    model = ControlledODE(Pendulum(), (0.0, 2.0), method="tsit5", rtol=1e-6, atol=1e-8)
    optimizer = torch.optim.LBFGS([values], line_search_fn="strong_wolfe", max_iter=30)

    def closure():
        optimizer.zero_grad()
        y = model(
            tensor(0.0, 0.0), ZeroOrderHold(torch.linspace(0, 1.6, 5, dtype=torch.float64), values)
        )
        loss = (y - tensor(1.0, 0.0)).square().sum()
        loss.backward()
        return loss

    assert closure() > 0.9
    optimizer.step(closure)
    assert closure() < 1e-8


def test_mistakes_are_told():
    model, y0 = ControlledODE(Linear()), tensor(1.0, -1.0)
    x = torch.randn(1, 4, 1, dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"path runs from 0 to 1\.3, and 2 lies outside of it; solve between these"
    ):
        model(y0, LinearPath(KNOTS, x[0], time=False), T)
    with pytest.raises(ValueError, match=r"from 0 to 1\.3, and -1 lies outside"):
        model(y0, ZeroOrderHold(KNOTS, x[0]), [-1.0, 1.0])
    for path in (RectilinearPath(KNOTS, x), LinearPath(KNOTS.expand(1, 4), x)):
        with pytest.raises(
            ValueError,
            match=r"an input is a function of time: give the path one sequence of times",
        ):
            model(y0, path, T)
    with pytest.raises(TypeError, match="not Tensor; hold values with ZeroOrderHold"):
        model(y0, x, T)
