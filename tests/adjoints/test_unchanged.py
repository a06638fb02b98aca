"""A gradient is that of the f that was solved: what has changed since is refused, and the backward
pass changes nothing."""

import pytest
import torch
from torch import nn

from pynode import DiscreteAdjoint, RejectStep, solve
from pynode.nn import NeuralODE
from tests.support.cases import tensor
from tests.support.engines import ENGINES

METHODS = ["tsit5", "rodas5p", "kvaerno5", "fbdf", "radauiia5"]
ADJOINTS = ["discrete", "forward", "gauss", "interpolating"]


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 3).double()
        self.register_buffer("scale", torch.ones(3).double())

    def forward(self, t, y, shift=0.0):
        return torch.tanh(self.inner(y)) * self.scale - y + shift


def solved(f, engine=ENGINES["single"], **options):
    return engine.solve(f, torch.ones(3).double(), (0.0, 1.0), **options).y[-1].sum()


CHANGES = {
    "parameter": lambda f, shift: f.inner.weight.mul_(1.5),
    "buffer": lambda f, shift: f.scale.mul_(2),
    "args": lambda f, shift: shift.add_(1),
}


STEPPERS = ["tsit5", "rodas5p", "kvaerno5", "fbdf"]


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize(
    ("engine", "method"),
    [("julia", "tsit5"), *(("single", method) for method in STEPPERS)],
    indirect=["engine"],
)
def test_changes_in_place_are_refused(engine, method, what):
    f, shift = Field(), tensor(0.1)
    loss = solved(f, engine, method=method, args=(shift,))
    with torch.no_grad():
        CHANGES[what](f, shift)
    with pytest.raises(RuntimeError, match="changed in place since the solve"):
        loss.backward()


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("method", STEPPERS)
def test_changes_in_place_are_refused_in_rows(method, what):
    f, shift, y0 = Field(), tensor(0.1), torch.ones(2, 3).double()
    options = {"method": method, "args": (shift,), "batched": True}
    loss = solve(f, y0, (0.0, 1.0), **options).y[-1].sum()
    with torch.no_grad():
        CHANGES[what](f, shift)
    with pytest.raises(RuntimeError, match="changed in place since the solve"):
        loss.backward()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "replace",
    [
        lambda f: setattr(f.inner.weight, "data", f.inner.weight.data * 1.5),
        lambda f: setattr(f, "scale", f.scale * 2),
    ],
    ids=["data", "another buffer"],
)
def test_other_values_are_refused_or_held(method, replace):
    """Where autograd's own counts see nothing, f itself is asked: a buffer that was replaced is put
    back for the gradient."""
    f, other = Field(), Field()
    wanted = torch.autograd.grad(solved(other, method=method), other.inner.weight)[0]
    loss = solved(f, method=method)
    replace(f)
    try:
        (found,) = torch.autograd.grad(loss, f.inner.weight)
    except RuntimeError as error:
        assert "does not return what it returned" in str(error)
    else:
        assert torch.allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("engine", ["single", "julia"], indirect=True)
def test_an_f_that_refuses_its_states_now(engine):
    """Only a solve understands RejectStep."""
    refusing = []

    def f(t, y):
        if refusing:
            raise RejectStep
        return -y

    y0 = torch.ones(3).double().requires_grad_()
    end = engine.solve(f, y0, (0.0, 1.0), method="Rodas5P").y[-1]
    refusing.append(True)
    with pytest.raises(RuntimeError, match="refuses the state at t = 0, which it accepted"):
        end.sum().backward()


@pytest.mark.parametrize("engine", ["single", "julia"], indirect=True)
def test_an_initial_state_may_change(engine):
    f, y0 = Field(), torch.ones(3).double()
    wanted = torch.autograd.grad(solved(f, engine, method="fbdf"), f.inner.weight)[0]
    loss = engine.solve(f, y0, (0.0, 1.0), method="fbdf").y[-1].sum()
    y0.mul_(3)
    assert torch.equal(torch.autograd.grad(loss, f.inner.weight)[0], wanted)


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_late_binding_is_refused(adjoint):
    k = tensor(1.0).requires_grad_()
    losses = [
        solve(
            lambda t, y: -k * rate * y,  # noqa: B023
            tensor(1.0),
            (0.0, 1.0),
            method="qndf",
            adjoint=adjoint,
        )
        .y[-1]
        .sum()
        for rate in (1.0, 2.0)
    ]
    with pytest.raises(RuntimeError, match="bind loop variables"):
        sum(losses).backward()


@pytest.mark.parametrize("method", METHODS)
def test_a_late_change_is_seen_through_a_reused_buffer(method):
    """Without a graph f fills the same memory at each call; what has changed is used late alone."""
    rate, late, buffer = tensor(0.5).requires_grad_(), {"factor": 1.0}, tensor([0.0])

    def f(t, y):
        factor = rate * (late["factor"] if float(t) > 0.5 else 1.0)
        if torch.is_grad_enabled():
            return -factor * y
        return torch.mul(-factor, y, out=buffer)

    loss = solve(f, tensor([1.0]), (0.0, 1.0), method=method).y[-1].sum()
    late["factor"] = 2.0
    with pytest.raises(RuntimeError, match="does not return what it returned"):
        loss.backward()


def test_late_binding_is_refused_in_rows():
    k = tensor(1.0).requires_grad_()
    losses = [
        solve(
            lambda t, y: -k * rate * y,  # noqa: B023
            torch.ones(2, 1).double(),
            (0.0, 1.0),
            method="qndf",
            batched=True,
        )
        .y[-1]
        .sum()
        for rate in (1.0, 2.0)
    ]
    with pytest.raises(RuntimeError, match="bind loop variables"):
        sum(losses).backward()


def test_another_mode_is_refused():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double().eval()
    loss = NeuralODE(net, method="fbdf")(torch.ones(3).double()).sum()
    net.train()
    with pytest.raises(RuntimeError, match="train or eval"):
        loss.backward()


# f under no_grad.


@pytest.mark.parametrize(
    ("engine", "method"),
    [("single", "tsit5"), ("single", "dp8"), ("julia", "tsit5")],
    indirect=["engine"],
)
def test_a_field_without_graph_is_refused(engine, method):
    f = Field()
    loss = solved(torch.no_grad()(f), engine, method=method, params=list(f.parameters()))
    with pytest.raises(RuntimeError, match="no_grad"):
        loss.backward()


def test_a_constant_field_has_no_graph_and_is_right():
    y0 = tensor(1.0).requires_grad_()
    solve(lambda t, y: torch.ones_like(y), y0, (0.0, 1.0), method="tsit5").y[-1].sum().backward()
    assert y0.grad == 1


# Random numbers and buffers.


def dropout_gradient(adjoint, method="euler", **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    model = NeuralODE(net, t=(0, 4), method=method, adjoint=adjoint, **options)
    torch.manual_seed(1)
    y = model(torch.ones(4, 3).double())
    y.square().sum().backward()
    return y, net[0].weight.grad


@pytest.mark.parametrize("method", ["euler", "rk4", "tsit5"])
def test_dropout_by_explicit_methods(method):
    """The masks of the backward pass are those of the solve, which are those of the loop."""
    options = {"step_size": 1.0, "method": method}
    (y, found), (same, wanted) = (
        dropout_gradient("auto", **options),
        dropout_gradient("direct", **options),
    )
    assert torch.equal(y, same) and torch.allclose(found, wanted, rtol=1e-10)


UNREPEATABLE = {
    "implicit": {"method": "implicitmidpoint", "step_size": 1.0},
    "checkpoints": {"method": "euler", "step_size": 1.0, "adjoint": DiscreteAdjoint(checkpoints=2)},
}


@pytest.mark.parametrize("options", UNREPEATABLE.values(), ids=UNREPEATABLE)
def test_dropout_that_cannot_be_repeated_is_refused(options):
    """Newton's iteration mostly fails at once; where it does not, the gradient is refused."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    model = NeuralODE(net, t=(0, 4), max_steps=50, **options)
    with pytest.raises(
        RuntimeError, match=r"random numbers|must return the same values|limit on the number"
    ):
        model(torch.ones(4, 3).double() * 0.01).square().sum().backward()


@pytest.mark.parametrize(
    ("engine", "method"),
    [*(("single", m) for m in METHODS), *(("julia", m) for m in ("tsit5", "rodas5p", "qndf"))],
    indirect=["engine"],
)
def test_running_statistics_stay(engine, method):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).double()
    options = {"method": method, "rtol": 1e-3, "atol": 1e-4, **engine.model_options}
    y = NeuralODE(net, **options)(torch.randn(5, 3).double())
    before = {name: x.clone() for name, x in net.named_buffers()}
    y.sum().backward()
    assert net[1].num_batches_tracked > 0 and net[0].weight.grad.abs().max() > 0
    assert all(torch.equal(x, before[name]) for name, x in net.named_buffers())
