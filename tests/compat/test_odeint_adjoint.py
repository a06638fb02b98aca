"""torchdiffeq's interface: odeint_adjoint, its way back, who gets gradients, callbacks and
norms."""

import warnings

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils import parametrizations, parametrize

from pynode import odeint, odeint_adjoint
from tests.support.cases import tensor
from tests.support.odeint import Driven, decay, times


def test_who_gets_gradients():
    f, y0 = Driven(), tensor(1.0, 0.0)
    odeint_adjoint(f, y0, times()).sum().backward()
    assert (
        f.unused.grad is not None and float(f.unused.grad) == 0 and float(f.A.grad.abs().sum()) > 0
    )
    only = Driven()
    odeint_adjoint(only, y0, times(), adjoint_params=[only.unused]).sum().backward()
    assert only.A.grad is None
    with pytest.raises(ValueError, match="func must be an instance"):
        odeint_adjoint(decay, y0, times())
    assert not odeint_adjoint(decay, y0, times(), adjoint_params=()).requires_grad
    with pytest.raises(ValueError, match="we cannot infer `adjoint_options`"):
        odeint_adjoint(
            f, y0, times(), method="dopri5", adjoint_method="rk4", options={"first_step": 0.1}
        )
    with pytest.raises(RuntimeError, match="does not require grad"):
        y0.requires_grad_()
        g = torch.autograd.grad(odeint_adjoint(f, y0, times()).sum(), y0, create_graph=True)[0]
        torch.autograd.grad(g.sum(), y0)


def test_the_way_back_has_its_own_options():
    f = Driven()
    calls = []
    for extra in (
        {},
        {"adjoint_rtol": 1e-3, "adjoint_atol": 1e-3},
        {"adjoint_method": "rk4", "adjoint_options": {}},
    ):
        y = odeint_adjoint(
            f, tensor(1.0, 0.0, requires_grad=True), times(), rtol=1e-9, atol=1e-9, **extra
        )
        before = f.calls
        y.sum().backward()
        calls.append(f.calls - before)
    assert calls[1] < calls[0] and calls[2] == 2 * 4


def test_the_states_start_anew_at_every_output():
    """On the way back over a decay by e^-30 their errors would be e^30 times as large at the
    end."""
    rate, t = tensor(15.0, requires_grad=True), torch.linspace(0.0, 2.0, 21).double()
    odeint_adjoint(lambda t, y: -rate * y, tensor(1.0), t, adjoint_params=(rate,)).sum().backward()
    torch.testing.assert_close(
        rate.grad, -(t * torch.exp(-15 * t)).sum(0, keepdim=True), rtol=1e-5, atol=0
    )


def test_norms_of_the_way_back():
    seen = []

    def norm(parts):
        seen.append([tuple(part.shape) for part in parts])
        return max(part.abs().max() for part in parts)

    f = Driven()
    odeint_adjoint(f, tensor(1.0, 0.0), times(), adjoint_options={"norm": norm}).sum().backward()
    assert seen[0] == [(), (2,), (2,), (2, 2), (1,)]
    seen.clear()
    y0 = torch.ones(3), torch.ones(2, 2, requires_grad=True)
    t, options = torch.tensor([0.0, 1.0]), {"norm": norm}
    out = odeint_adjoint(
        lambda t, y: (-y[0], y[1]), y0, t, adjoint_params=(), adjoint_options=options
    )
    out[1].sum().backward()
    assert seen[0] == [(), (3,), (2, 2), (3,), (2, 2)]
    counts = []
    for options in ({}, {"norm": "seminorm"}):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2)).double()
        y = odeint_adjoint(
            lambda t, y, f=net: f(y) * torch.sin(9 * t),
            tensor(1.0, 0.0),
            times(),
            adjoint_params=tuple(net.parameters()),
            adjoint_options=options,
        )
        norm = y.grad_fn.adjoint_options["norm"]
        steps = []
        y.grad_fn.adjoint_options["norm"] = lambda p, n=norm, to=steps: (to.append(0), n(p))[1]
        y.sum().backward()
        counts.append(len(steps))
    assert counts[1] < counts[0]


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
    odeint_adjoint(
        f, tensor(1.0, 0.0, requires_grad=True), tensor(0.0, 4.0), options=options
    ).sum().backward()
    for end in ("", "_adjoint"):
        assert (
            counts[f"callback_step{end}"]
            == counts[f"callback_accept_step{end}"] + counts[f"callback_reject_step{end}"]
        )


def test_a_replica_of_data_parallel():
    f, alone = Driven(), Driven()
    odeint_adjoint(alone, tensor(1.0, 0.0), times()).sum().backward()
    replica = f._replicate_for_data_parallel()
    replica._parameters = {}
    replica.A, replica.unused = 1 * f.A, 1 * f.unused
    odeint_adjoint(replica, tensor(1.0, 0.0), times()).sum().backward()
    torch.testing.assert_close(f.A.grad, alone.A.grad, rtol=1e-12, atol=0)


# What a solve meets on its way back (module_state.py, torch_context.py).


def fine(f, **options):
    return odeint_adjoint(f, tensor(1.0, -0.5), times(), **options).square().sum()


def test_functional_call():
    """The tensors that were in the module for the time of the call get the gradient, at their own
    values."""
    f, other = Driven(), Driven()
    with torch.no_grad():
        other.A.mul_(1.5)
    fine(other).backward()
    values = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    outer = nn.Module()
    outer.f, outer.forward = f, lambda: fine(f)
    loss = torch.func.functional_call(
        outer, {f"f.{name}": value for name, value in values.items()}, ()
    )
    torch.testing.assert_close(
        torch.autograd.grad(loss, values["A"])[0], other.A.grad, rtol=1e-12, atol=0
    )
    assert other.A.grad.abs().max() > 0


@pytest.mark.parametrize("inside", [True, False])
def test_parametrizations_that_are_kept(inside):
    """Nor is what the solve asked for kept without a graph for those who come after it."""
    f = parametrizations.weight_norm(Driven(), "A")
    fine(f).backward()
    wanted = {name: p.grad.clone() for name, p in f.named_parameters() if p.grad is not None}
    f.zero_grad()
    with parametrize.cached():
        loss = fine(f)
        assert f.A.requires_grad
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    for name, grad in wanted.items():
        assert name == "unused" or grad.abs().max() > 0
        torch.testing.assert_close(dict(f.named_parameters())[name].grad, grad, rtol=1e-12, atol=0)


def test_hooks_of_parameters_see_the_gradient_once():
    f, seen = Driven(), []
    fine(f).backward()
    wanted = f.A.grad.clone()
    f.zero_grad()
    f.A.register_hook(lambda grad: seen.append(grad) or 3 * grad)
    fine(f).backward()
    torch.testing.assert_close(seen, [wanted], rtol=1e-12, atol=0)
    torch.testing.assert_close(f.A.grad, 3 * wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
def test_torch_compile_leaves_the_solve_alone(interface):
    """The graph breaks there: one before it, one after it."""
    f, y0, t, counter = Driven(), tensor(1.0, -0.5), times(), CompileCounter()
    found = torch.compile(lambda y0: 2 * interface(f, 3 * y0, t), backend=counter)(y0)
    assert torch.equal(found, 2 * interface(f, 3 * y0, t)) and counter.frame_count == 2


def test_real_parameters_of_a_complex_state():
    """Nothing imaginary is left, and no warning says that it was dropped."""
    rate, t = tensor(0.7, requires_grad=True), times(requires_grad=True)
    y0 = torch.tensor([1.0 + 0.5j], dtype=torch.complex128)
    grads = []
    for interface, extra in ((odeint, {}), (odeint_adjoint, {"adjoint_params": (rate,)})):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            y = interface(lambda t, y: 1j * rate * y, y0, t, rtol=1e-10, atol=1e-12, **extra)
            grads.append(torch.autograd.grad(((0.3 - 0.8j) * y).real.sum(), (rate, t)))
    assert grads[0][0].abs() > 0 and grads[0][1].abs().max() > 0
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-7, atol=1e-9)


def test_where_the_options_of_the_way_back_are_found():
    """In the graph of a tensor and of a tuple, as torchdiffeq's tests look for them."""
    f = Driven()
    y = odeint_adjoint(f, tensor(1.0, 0.0), tensor(0.0, 1.0))
    assert callable(y.grad_fn.adjoint_options["norm"])
    parts = odeint_adjoint(
        lambda t, y: (f.A[0, 0] * y[0], -y[1]),
        (tensor(1.0), tensor(1.0)),
        tensor(0.0, 1.0),
        adjoint_params=(f.A,),
    )
    node = parts[0].grad_fn.next_functions[0][0].next_functions[0][0]
    assert callable(node.adjoint_options["norm"])


def test_no_gradient_for_what_is_frozen():
    f = Driven()
    f.unused.requires_grad_(False)
    with pytest.warns(UserWarning, match="adjoint parameter was passed without requiring gradient"):
        y = odeint_adjoint(
            f,
            tensor(1.0, 0.0),
            tensor(0.0, 1.0),
            adjoint_options={"norm": lambda parts: max(p.abs().max() for p in parts)},
        )
    y.sum().backward()
    assert f.unused.grad is None and f.A.grad is not None
