"""torchdiffeq's interface: events and dense solutions."""

import math

import pytest
import torch
from torch import nn

from pynode import SolveError, odeint, odeint_adjoint, odeint_dense, odeint_event
from pynode.compat.call import OdeintError
from tests.support.cases import tensor
from tests.support.odeint import decay


class Falling(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.Parameter(tensor(9.8))
        self.floor = nn.Parameter(tensor(1.0))

    def forward(self, t, y):
        return y[1], -self.g

    def event_fn(self, t, y):
        return y[0] - self.floor


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "fbdf"])
def test_the_event_of_a_falling_ball_with_its_gradients(interface, method):
    """t = t0 + sqrt(2 (h - floor) / g), v = -sqrt(2 g (h - floor)); the parameter of the event gets
    its gradient as well."""
    f, t0 = Falling(), tensor(0.5, requires_grad=True)
    height = tensor(6.0, requires_grad=True)
    event_t, (position, speed) = odeint_event(
        f,
        (height, tensor(0.0)),
        t0,
        event_fn=f.event_fn,
        odeint_interface=interface,
        method=method,
        rtol=1e-9,
        atol=1e-11,
        options={"step_size": 0.01, "interp": "cubic"} if method == "rk4" else None,
    )
    fall = math.sqrt(2 * 5.0 / 9.8)
    accuracy = 1e-6 if method == "fbdf" else 1e-8
    assert event_t.item() == pytest.approx(0.5 + fall, rel=accuracy)
    assert (
        position.shape == (2, 1)
        and position[-1].item() == pytest.approx(1.0)
        and position[0].item() == 6.0
    )
    assert speed[-1].item() == pytest.approx(-9.8 * fall, rel=accuracy)
    event_t.sum().backward(retain_graph=True)
    # odeint_adjoint reaches the floor through the rerouting of odeint_event.
    for found, expected in (
        (height, 1 / (9.8 * fall)),
        (f.g, -fall / 9.8 / 2),
        (t0, 1.0),
        (f.floor, -1 / (9.8 * fall)),
    ):
        assert found.grad.item() == pytest.approx(expected, rel=1e-5)
        found.grad = None
    speed[-1].sum().backward()
    for found, expected in ((height, -1 / fall), (f.g, -fall / 2), (f.floor, 1 / fall)):
        assert found.grad.item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_an_event_that_depends_on_time():
    """y = y0 + t meets 2 - t at (2 - y0) / 2; the component of the event that is zero there
    counts."""
    y0 = tensor(0.5, requires_grad=True)

    def event_fn(t, y):
        return torch.stack((y[0] + 9, y[0] + t - 2))

    time, y = odeint_event(lambda t, y: torch.ones_like(y), y0, tensor(0.0), event_fn=event_fn)
    for found, expected, slope in ((time, 0.75, -0.5), (y[-1, 0], 1.25, 0.5)):
        assert found.item() == pytest.approx(expected, rel=1e-9)
        assert torch.autograd.grad(found.sum(), y0, retain_graph=True)[0].item() == pytest.approx(
            slope, rel=1e-9
        )


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
def test_the_gradient_of_an_event_of_a_complex_state(interface):
    """The imaginary part of e^(i w t) is a half at w t = asin(1/2); its real part there does not
    depend on w."""
    rate = tensor(2.0, requires_grad=True)
    extra = {"adjoint_params": (rate,)} if interface is odeint_adjoint else {}
    time, y = odeint_event(
        lambda t, y: 1j * rate * y,
        torch.ones(1, dtype=torch.complex128),
        tensor(0.0),
        event_fn=lambda t, y: y.imag[0] - 0.5,
        odeint_interface=interface,
        rtol=1e-10,
        atol=1e-12,
        **extra,
    )
    assert time.item() == pytest.approx(math.asin(0.5) / 2, rel=1e-8)
    assert torch.autograd.grad(time.sum(), rate, retain_graph=True)[0].item() == pytest.approx(
        -math.asin(0.5) / 4, rel=1e-6
    )
    assert torch.autograd.grad(y[-1].real.sum(), rate)[0].item() == pytest.approx(0.0, abs=1e-7)


def test_any_component_of_an_event_and_reverse_time():
    def event_fn(t, y):
        return torch.stack((y[0] + 5.0, y[0] - 0.5, y[0] - 9.0))

    event_t, y = odeint(decay, tensor(1.0), tensor(0.0, 1.0), event_fn=event_fn)
    assert event_t.item() == pytest.approx(math.log(2)) and y.shape == (2, 1)
    back, _ = odeint_event(decay, tensor(1.0), tensor(0.0), event_fn=event_fn, reverse_time=True)
    assert back.item() == pytest.approx(-math.log(9.0))


def never(t, y):
    return y.sum() + 1


def test_an_event_that_never_happens_ends_with_a_sentence():
    with pytest.raises(RuntimeError, match="maximum number of iterations 20000"):
        odeint(
            decay,
            tensor(1.0),
            tensor(0.0, 1.0),
            event_fn=never,
            method="euler",
            options={"step_size": 0.01},
        )
    with pytest.raises(AssertionError, match="max_num_steps exceeded"):
        odeint(decay, tensor(1.0), tensor(0.0, 1.0), event_fn=never, options={"max_num_steps": 200})
    with pytest.raises(SolveError):
        odeint(decay, tensor(1.0), tensor(0.0, 1.0), event_fn=never, method="tsit5", max_steps=100)
    for method in ("fbdf", "dopri5"):
        with pytest.raises(OdeintError, match="the event did not occur"):
            odeint(lambda t, y: 0 * y, tensor(1.0), tensor(0.0, 1.0), event_fn=never, method=method)


def test_an_event_depends_on_the_first_time_alone():
    """The second only tells the direction. Of its own time odeint_event makes the gradient, others
    have none or zeros."""
    rate, t = tensor(1.0, requires_grad=True), tensor(0.0, 1.0, requires_grad=True)
    for interface, extra in ((odeint, {}), (odeint_adjoint, {"adjoint_params": (rate,)})):
        time, y = interface(
            lambda t, y: -rate * y, tensor(1.0), t, event_fn=lambda t, y: y[0] - 0.5, **extra
        )
        assert (
            not time.requires_grad
            or not torch.autograd.grad(time.sum(), rate, retain_graph=True)[0].any()
        )
        torch.testing.assert_close(
            torch.autograd.grad(y[-1].sum(), t)[0], tensor(0.5, 0.0), rtol=1e-6, atol=1e-12
        )


# Dense solutions.


def test_dense_solutions_are_asked_anywhere():
    rate = tensor(2.0, requires_grad=True)
    solution = odeint_dense(
        lambda t, y: (-rate * y[0], y[1]), (tensor(1.0), tensor(3.0)), tensor(0.0), tensor(1.0)
    )
    t = tensor([0.1, 0.2], [0.5, 1.0])
    a, b = solution(t)
    assert a.shape == (2, 2, 1) and b.shape == (2, 2, 1)
    torch.testing.assert_close(a.squeeze(-1), torch.exp(-2 * t), rtol=1e-5, atol=0)
    a[0, 1].sum().backward()
    torch.testing.assert_close(rate.grad, -0.2 * torch.exp(tensor(-0.4)), rtol=1e-5, atol=0)
    assert odeint_dense(decay, torch.ones(2), torch.tensor(0.0), torch.tensor(1.0), method="fbdf")(
        0.5
    ).shape == (2,)
    with pytest.raises(ValueError, match="error control"):
        odeint_dense(decay, torch.ones(2), 0.0, 1.0, method="rk4")
