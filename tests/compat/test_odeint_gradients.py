"""torchdiffeq's interface: gradients of odeint, and by every adjoint in the same call."""

import math

import pytest
import torch
from torch import nn

import pynode
from pynode import odeint, odeint_adjoint
from tests.support.cases import tensor
from tests.support.modules import replica
from tests.support.odeint import GRIDS, Driven, decay, times

STEEP = {"rtol": 1e-10, "atol": 1e-12}


def loss_of(call):
    """A number from the states at all times, and its gradients in y0, t and A by the call under
    test."""
    f, y0, t = Driven(), tensor(1.0, -0.5, requires_grad=True), times(requires_grad=True)
    y = call(f, y0, t)
    loss = (y * tensor(1.0, 2.0)).sin().sum()
    loss.backward()
    return loss.item(), y0.grad, t.grad, f.A.grad


def differences(call, eps=1e-6):
    """The same gradients by central differences of solves without any."""
    f, parts = Driven(), [tensor(1.0, -0.5), times(), None]
    parts[2] = f.A.data
    found = []
    with torch.no_grad():

        def loss():
            return (call(f, parts[0], parts[1]) * tensor(1.0, 2.0)).sin().sum().item()

        for part in parts:
            grad = torch.zeros_like(part)
            for i in range(part.numel()):
                flat, kept = part.view(-1), part.view(-1)[i].item()
                flat[i] = kept + eps
                above = loss()
                flat[i] = kept - eps
                below = loss()
                flat[i] = kept
                grad.view(-1)[i] = (above - below) / (2 * eps)
            found.append(grad)
    return found


@pytest.mark.parametrize("method", ["dopri8", "dopri5", "tsit5", "radauIIA5", *GRIDS])
def test_gradients_of_odeint_are_those_of_its_differences(method):
    """In y0, the parameters and all times, the first one included; grids move with their times."""

    def call(f, y0, t):
        return odeint(
            f,
            y0,
            t,
            method=method,
            **(STEEP if method not in GRIDS else {"rtol": 1e-13, "atol": 1e-14}),
        )

    _, *found = loss_of(call)
    for ours, theirs in zip(found, differences(call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("options", [{"step_size": 0.07}, {"step_size": 0.07, "interp": "cubic"}])
@pytest.mark.parametrize("method", ["rk4", "explicit_adams", "trapezoid"])
def test_gradients_of_grids_that_the_outputs_lie_between(method, options):
    def call(f, y0, t):
        return odeint(f, y0, t, method=method, options=options, rtol=1e-13, atol=1e-14)

    _, *found = loss_of(call)
    for ours, theirs in zip(found, differences(call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


# odeint has no gradient by scipy_solver, as in torchdiffeq: test_scipy_solver_has_no_gradient.
DIFFERENTIABLE = ("dopri5", "rk4", "implicit_adams", "fbdf", "rodas5p")
CALLS = [(i, m) for i in (odeint, odeint_adjoint) for m in DIFFERENTIABLE] + [
    (odeint_adjoint, "scipy_solver")
]


@pytest.mark.parametrize(("interface", "method"), CALLS)
def test_gradients_agree_with_those_of_a_fine_solve(interface, method):
    expected = loss_of(lambda f, y0, t: odeint(f, y0, t, method="dopri8", rtol=1e-11, atol=1e-13))
    options = {"step_size": 0.0071, "interp": "cubic"} if method in GRIDS else {}
    found = loss_of(
        lambda f, y0, t: interface(f, y0, t, method=method, rtol=1e-8, atol=1e-10, options=options)
    )
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "adjoint", ["discrete", "gauss", "interpolating", "backsolve", "forward", "direct"]
)
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_every_adjoint_by_name_in_the_same_call(adjoint, method):
    expected = loss_of(lambda f, y0, t: odeint(f, y0, t, method=method, rtol=1e-9, atol=1e-11))
    found = loss_of(
        lambda f, y0, t: odeint(f, y0, t, method=method, rtol=1e-9, atol=1e-11, adjoint=adjoint)
    )
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    exact = method == "dopri5" or adjoint in ("discrete", "forward", "direct")
    for ours, theirs in zip(found[1::2], expected[1::2], strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-5 if exact else 5e-2, atol=1e-5 if exact else 5e-2
        )


def test_a_stiff_problem_is_one_word_away():
    """Van der Pol's, mu = 1000, where dopri5 takes steps beyond number: one gradient by fbdf, in
    both interfaces."""

    class Stiff(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu = nn.Parameter(tensor(1000.0).squeeze(0))

        def forward(self, t, y):
            return torch.stack((y[1], self.mu * ((1 - y[0] ** 2) * y[1]) - y[0]))

    y0, t = tensor(2.0, 0.0), tensor(0.0, 300.0)
    grads = []
    for interface in (odeint, odeint_adjoint):
        f = Stiff()
        interface(f, y0, t, method="fbdf", rtol=1e-6, atol=1e-9)[-1, 0].backward()
        grads.append(f.mu.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-8, atol=0)
    assert float(grads[0]) > 0
    with pytest.raises(AssertionError, match="max_num_steps exceeded"):
        odeint(f, y0, t, method="dopri5", options={"max_num_steps": 300})


def test_tensors_that_a_plain_function_closes_over_get_gradients():
    """Also those that are no leaves: the graph is that of the operations, as in torchdiffeq."""
    w = tensor(0.3, requires_grad=True)
    rate = 2 * w
    odeint(lambda t, y: -rate * y, tensor(1.0), tensor(0.0, 1.0))[-1].sum().backward()
    torch.testing.assert_close(w.grad, -2 * torch.exp(-rate.detach()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("replicated", [False, True])
@pytest.mark.parametrize("method", ["dopri5", "fbdf"])
def test_modules_with_a_state_of_parts(method, replicated):
    """Parameters that only later parts of the solve meet, and those behind the tensors of a
    replica."""

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate, self.late = nn.Parameter(tensor(0.5)), nn.Parameter(tensor(0.2))

        def forward(self, t, y):
            return -self.rate * y[0], y[0] + (self.late if t > 0.5 or replicated else 0.0)

    f = Parts()
    _, end = odeint(
        replica(f) if replicated else f, (tensor(1.0), tensor(0.0)), tensor(0.0, 1.0), method=method
    )
    end[-1].sum().backward()
    assert f.late.grad.item() == pytest.approx(1.0 if replicated else 0.5, rel=1e-3)
    assert f.rate.grad.item() == pytest.approx(
        2 * math.exp(-0.5) - 4 * (1 - math.exp(-0.5)), rel=1e-4
    )


def test_second_derivatives_of_odeint():
    y0 = tensor(0.7, requires_grad=True)
    y = odeint(lambda t, y: -(y**2), y0, tensor(0.0, 1.0), rtol=1e-10, atol=1e-12)[-1]
    first = torch.autograd.grad(y.sum(), y0, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), y0)[0]
    torch.testing.assert_close(second, -2 / (1 + y0.detach()) ** 3, rtol=1e-7, atol=0)


def test_scipy_solver_has_no_gradient():
    assert not odeint(
        Driven(), tensor(1.0, 0.0, requires_grad=True), times(), method="scipy_solver"
    ).requires_grad


def test_a_solve_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="nonsense"):
        odeint(decay, tensor(1.0), tensor(0.0, 1.0), nonsense=1)
    with pytest.warns(UserWarning, match="norm"):
        odeint(
            decay,
            tensor(1.0),
            tensor(0.0, 1.0),
            method="fbdf",
            options={"norm": lambda y: y.abs().max()},
        )
    assert (
        pynode.odeint(decay, torch.ones(2), torch.tensor([0.0, 1.0]), method="fbdf").dtype
        == torch.float32
    )
