"""torchdiffeq's interface: gradients, callbacks of the way back, events and dense solutions."""

import math

import pytest
import torch
from test_odeint import GRIDS, Driven, decay, double
from torch import nn

import pynode
from pynode import SolveError, odeint, odeint_adjoint, odeint_dense, odeint_event

STEEP = {"rtol": 1e-10, "atol": 1e-12}


def times(**keywords):
    return double(0.0, 0.3, 1.1, **keywords)


def loss_of(call):
    """A number from the states at all times, and its gradients in y0, t and A by the call under test."""
    f, y0, t = Driven(), double(1.0, -0.5, requires_grad=True), times(requires_grad=True)
    y = call(f, y0, t)
    loss = (y * double(1.0, 2.0)).sin().sum()
    loss.backward()
    return loss.item(), y0.grad, t.grad, f.A.grad


def differences(call, eps=1e-6):
    """The same gradients by central differences of solves without any."""
    f, parts = Driven(), [double(1.0, -0.5), times(), None]
    parts[2] = f.A.data
    found = []
    with torch.no_grad():
        def loss():
            return (call(f, parts[0], parts[1]) * double(1.0, 2.0)).sin().sum().item()

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
        return odeint(f, y0, t, method=method, **(STEEP if method not in GRIDS else {"rtol": 1e-13, "atol": 1e-14}))

    _, *found = loss_of(call)
    for ours, theirs in zip(found, differences(call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("options", [{"step_size": 0.07}, {"step_size": 0.07, "interp": "cubic"}])
@pytest.mark.parametrize("method", ["rk4", "explicit_adams"])
def test_gradients_of_grids_that_the_outputs_lie_between(method, options):
    def call(f, y0, t):
        return odeint(f, y0, t, method=method, options=options)

    _, *found = loss_of(call)
    for ours, theirs in zip(found, differences(call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


# odeint has no gradient by scipy_solver, as in torchdiffeq: test_scipy_solver_has_no_gradient.
DIFFERENTIABLE = ("dopri5", "rk4", "implicit_adams", "fbdf", "rodas5p")
CALLS = [(i, m) for i in (odeint, odeint_adjoint) for m in DIFFERENTIABLE] + [(odeint_adjoint, "scipy_solver")]


@pytest.mark.parametrize(("interface", "method"), CALLS)
def test_gradients_agree_with_those_of_a_fine_solve(interface, method):
    expected = loss_of(lambda f, y0, t: odeint(f, y0, t, method="dopri8", rtol=1e-11, atol=1e-13))
    options = {"step_size": 0.0071, "interp": "cubic"} if method in GRIDS else {}
    found = loss_of(lambda f, y0, t: interface(f, y0, t, method=method, rtol=1e-8, atol=1e-10, options=options))
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adjoint", ["discrete", "gauss", "interpolating", "backsolve", "forward", "direct"])
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_every_adjoint_by_name_in_the_same_call(adjoint, method):
    expected = loss_of(lambda f, y0, t: odeint(f, y0, t, method=method, rtol=1e-9, atol=1e-11))
    found = loss_of(lambda f, y0, t: odeint(f, y0, t, method=method, rtol=1e-9, atol=1e-11, adjoint=adjoint))
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    exact = method == "dopri5" or adjoint in ("discrete", "forward", "direct")
    for ours, theirs in zip(found[1::2], expected[1::2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5 if exact else 5e-2, atol=1e-5 if exact else 5e-2)


def test_a_stiff_problem_is_one_word_away():
    """Van der Pol's, mu = 1000, where dopri5 takes steps beyond number: one gradient by fbdf, in both interfaces."""
    class Stiff(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu = nn.Parameter(double(1000.0).squeeze(0))

        def forward(self, t, y):
            return torch.stack((y[1], self.mu * ((1 - y[0] ** 2) * y[1]) - y[0]))

    y0, t = double(2.0, 0.0), double(0.0, 300.0)
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
    w = double(0.3, requires_grad=True)
    rate = 2 * w
    odeint(lambda t, y: -rate * y, double(1.0), double(0.0, 1.0))[-1].sum().backward()
    torch.testing.assert_close(w.grad, -2 * torch.exp(-rate.detach()), rtol=1e-6, atol=0)


def test_second_derivatives_of_odeint():
    y0 = double(0.7, requires_grad=True)
    y = odeint(lambda t, y: -(y**2), y0, double(0.0, 1.0), rtol=1e-10, atol=1e-12)[-1]
    first = torch.autograd.grad(y.sum(), y0, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), y0)[0]
    torch.testing.assert_close(second, -2 / (1 + y0.detach()) ** 3, rtol=1e-7, atol=0)


def test_scipy_solver_has_no_gradient():
    assert not odeint(Driven(), double(1.0, 0.0, requires_grad=True), times(), method="scipy_solver").requires_grad


# odeint_adjoint.


def test_who_gets_gradients():
    f, y0 = Driven(), double(1.0, 0.0)
    odeint_adjoint(f, y0, times()).sum().backward()
    assert f.unused.grad is not None and float(f.unused.grad) == 0 and float(f.A.grad.abs().sum()) > 0
    only = Driven()
    odeint_adjoint(only, y0, times(), adjoint_params=[only.unused]).sum().backward()
    assert only.A.grad is None
    with pytest.raises(ValueError, match="func must be an instance"):
        odeint_adjoint(decay, y0, times())
    assert not odeint_adjoint(decay, y0, times(), adjoint_params=()).requires_grad
    with pytest.raises(ValueError, match="we cannot infer `adjoint_options`"):
        odeint_adjoint(f, y0, times(), method="dopri5", adjoint_method="rk4", options={"first_step": 0.1})
    with pytest.raises(RuntimeError, match="does not require grad"):
        y0.requires_grad_()
        g = torch.autograd.grad(odeint_adjoint(f, y0, times()).sum(), y0, create_graph=True)[0]
        torch.autograd.grad(g.sum(), y0)


def test_the_way_back_has_its_own_options():
    f = Driven()
    calls = []
    for extra in ({}, {"adjoint_rtol": 1e-3, "adjoint_atol": 1e-3}, {"adjoint_method": "rk4", "adjoint_options": {}}):
        y = odeint_adjoint(f, double(1.0, 0.0, requires_grad=True), times(), rtol=1e-9, atol=1e-9, **extra)
        before = f.calls
        y.sum().backward()
        calls.append(f.calls - before)
    assert calls[1] < calls[0] and calls[2] == 2 * 4


def test_norms_of_the_way_back():
    seen = []

    def norm(parts):
        seen.append([tuple(part.shape) for part in parts])
        return max(part.abs().max() for part in parts)

    f = Driven()
    odeint_adjoint(f, double(1.0, 0.0), times(), adjoint_options={"norm": norm}).sum().backward()
    assert seen[0] == [(), (2,), (2,), (2, 2), (1,)]
    seen.clear()
    y0 = torch.ones(3), torch.ones(2, 2, requires_grad=True)
    t, options = torch.tensor([0.0, 1.0]), {"norm": norm}
    out = odeint_adjoint(lambda t, y: (-y[0], y[1]), y0, t, adjoint_params=(), adjoint_options=options)
    out[1].sum().backward()
    assert seen[0] == [(), (3,), (2, 2), (3,), (2, 2)]
    counts = []
    for options in ({}, {"norm": "seminorm"}):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2)).double()
        y = odeint_adjoint(lambda t, y, f=net: f(y) * torch.sin(9 * t), double(1.0, 0.0), times(),
                           adjoint_params=tuple(net.parameters()), adjoint_options=options)
        norm = y.grad_fn.adjoint_options["norm"]
        steps = []
        y.grad_fn.adjoint_options["norm"] = lambda p, n=norm, to=steps: (to.append(0), n(p))[1]
        y.sum().backward()
        counts.append(len(steps))
    assert counts[1] <= counts[0]


def test_callbacks_forward_and_back():
    counts = {}

    def counting(name):
        def callback(t0, y0, dt):
            counts[name] = counts.get(name, 0) + 1
            assert t0.dim() == dt.dim() == 0
        return callback

    f = Driven()
    for name in ("callback_step", "callback_accept_step", "callback_reject_step"):
        setattr(f, name, counting(name))
        setattr(f, f"{name}_adjoint", counting(f"{name}_adjoint"))
    options = {"first_step": 1.0}  # too long: some steps are rejected
    odeint_adjoint(f, double(1.0, 0.0, requires_grad=True), double(0.0, 4.0), options=options).sum().backward()
    for end in ("", "_adjoint"):
        assert counts[f"callback_step{end}"] == counts[f"callback_accept_step{end}"] + counts[f"callback_reject_step{end}"]


def test_a_replica_of_data_parallel():
    f = Driven()
    replica = torch.nn.parallel.replicate.__globals__["_replicatable_module"](f) and f._replicate_for_data_parallel()
    replica._parameters = {}
    replica.A, replica.unused = 1 * f.A, 1 * f.unused
    odeint_adjoint(replica, double(1.0, 0.0), times()).sum().backward()
    assert float(f.A.grad.abs().sum()) > 0


# Events.


class Falling(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.Parameter(double(9.8))
        self.floor = nn.Parameter(double(1.0))

    def forward(self, t, y):
        return y[1], -self.g

    def event_fn(self, t, y):
        return y[0] - self.floor


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "fbdf"])
def test_the_event_of_a_falling_ball_with_its_gradients(interface, method):
    """t = t0 + sqrt(2 (h - floor) / g), v = -sqrt(2 g (h - floor)); the parameter of the event gets its gradient as well."""
    f, t0 = Falling(), double(0.5, requires_grad=True)
    height = double(6.0, requires_grad=True)
    event_t, (position, speed) = odeint_event(
        f, (height, double(0.0)), t0, event_fn=f.event_fn, odeint_interface=interface, method=method, rtol=1e-9, atol=1e-11,
        options={"step_size": 0.01, "interp": "cubic"} if method == "rk4" else None,
    )
    fall = math.sqrt(2 * 5.0 / 9.8)
    accuracy = 1e-6 if method == "fbdf" else 1e-8
    assert event_t.item() == pytest.approx(0.5 + fall, rel=accuracy)
    assert position.shape == (2, 1) and position[-1].item() == pytest.approx(1.0) and position[0].item() == 6.0
    assert speed[-1].item() == pytest.approx(-9.8 * fall, rel=accuracy)
    event_t.sum().backward(retain_graph=True)
    # odeint_adjoint reaches the floor through the rerouting of odeint_event.
    for found, expected in ((height, 1 / (9.8 * fall)), (f.g, -fall / 9.8 / 2), (t0, 1.0), (f.floor, -1 / (9.8 * fall))):
        assert found.grad.item() == pytest.approx(expected, rel=1e-5)
        found.grad = None
    speed[-1].sum().backward()
    for found, expected in ((height, -1 / fall), (f.g, -fall / 2), (f.floor, 1 / fall)):
        assert found.grad.item() == pytest.approx(expected, rel=1e-5)


def test_any_component_of_an_event_and_reverse_time():
    def event_fn(t, y):
        return torch.stack((y[0] + 5.0, y[0] - 0.5, y[0] - 9.0))

    event_t, y = odeint(decay, double(1.0), double(0.0, 1.0), event_fn=event_fn)
    assert event_t.item() == pytest.approx(math.log(2)) and y.shape == (2, 1)
    back, _ = odeint_event(decay, double(1.0), double(0.0), event_fn=event_fn, reverse_time=True)
    assert back.item() == pytest.approx(-math.log(9.0))


def never(t, y):
    return y.sum() + 1


def test_an_event_that_never_happens_ends_with_a_sentence():
    with pytest.raises(RuntimeError, match="maximum number of iterations 20000"):
        odeint(decay, double(1.0), double(0.0, 1.0), event_fn=never, method="euler", options={"step_size": 0.01})
    with pytest.raises(AssertionError, match="max_num_steps exceeded"):
        odeint(decay, double(1.0), double(0.0, 1.0), event_fn=never, options={"max_num_steps": 200})
    with pytest.raises(SolveError):
        odeint(decay, double(1.0), double(0.0, 1.0), event_fn=never, method="tsit5", max_steps=100)


# Dense solutions.


def test_dense_solutions_are_asked_anywhere():
    rate = double(2.0, requires_grad=True)
    solution = odeint_dense(lambda t, y: (-rate * y[0], y[1]), (double(1.0), double(3.0)), double(0.0), double(1.0))
    t = double([0.1, 0.2], [0.5, 1.0])
    a, b = solution(t)
    assert a.shape == (2, 2, 1) and b.shape == (2, 2, 1)
    torch.testing.assert_close(a.squeeze(-1), torch.exp(-2 * t), rtol=1e-5, atol=0)
    a[0, 1].sum().backward()
    torch.testing.assert_close(rate.grad, -0.2 * torch.exp(double(-0.4)), rtol=1e-5, atol=0)
    assert odeint_dense(decay, torch.ones(2), torch.tensor(0.0), torch.tensor(1.0), method="fbdf")(0.5).shape == (2,)
    with pytest.raises(ValueError, match="error control"):
        odeint_dense(decay, torch.ones(2), 0.0, 1.0, method="rk4")


def test_a_solve_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="nonsense"):
        odeint(decay, double(1.0), double(0.0, 1.0), nonsense=1)
    with pytest.warns(UserWarning, match="norm"):
        odeint(decay, double(1.0), double(0.0, 1.0), method="fbdf", options={"norm": lambda y: y.abs().max()})
    assert pynode.odeint(decay, torch.ones(2), torch.tensor([0.0, 1.0]), method="fbdf").dtype == torch.float32
