"""A solve inside autocast, torch.compile, kept parametrizations, functional_call, inference mode,
tracing: right or refused."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils import parametrizations, parametrize

from pynode import solve
from pynode.nn import NeuralODE
from tests.support.cases import Forced, tensor
from tests.support.gradients import agree, model_gradients

METHODS = ["Tsit5", "FBDF", "Rodas5P"]
every_method = pytest.mark.parametrize("method", METHODS)
LOOSE = {"rtol": 1e-3, "atol": 1e-4}


class Network(nn.Module):
    """A field for states (..., 2)."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, t, y):
        return self.net(y) * torch.cos(t)


# Autocast.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_method
def test_autocast_changes_nothing_inside_a_solve(method, dtype):
    """The state keeps its dtype, and the field runs in it; in the backward pass as well, in and
    after the block."""
    model, y0 = NeuralODE(Network(), method=method, **LOOSE), torch.randn(3, 2)
    plain, wanted = model(y0), model_gradients(model, y0)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(model(y0), plain) and plain.dtype == torch.float32
        agree(model_gradients(model, y0), wanted, 1e-7)
        loss = model(y0).square().sum()
    model.zero_grad()
    loss.backward()
    agree({name: p.grad for name, p in model.named_parameters()}, wanted, 1e-7)


@pytest.mark.parametrize("batched", [False, True])
def test_what_autocast_made_half_is_solved_in_single_precision(batched):
    """A linear layer before the solve gives bfloat16 there; its own weights get their gradient."""
    model = nn.Sequential(
        nn.Linear(2, 2),
        NeuralODE(Network(), method="tsit5", batched=batched, **LOOSE),
        nn.Linear(2, 1),
    )
    y0 = torch.randn(3, 2)
    wanted = model_gradients(model, y0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[:1](y0).dtype == torch.bfloat16 and model[:2](y0).dtype == torch.float32
        agree(model_gradients(model, y0), wanted, 0.05)
        mixed = solve(
            lambda t, y, W: y @ W, y0, [0.0, 1.0], args=(model[0](torch.eye(2)),), **LOOSE
        )
    assert mixed.y.dtype == torch.float32


def test_half_precision_by_itself():
    """Served where the tolerances ask for no more than it holds; refused with a sentence
    otherwise."""
    field, y0 = Network(), torch.randn(3, 2)
    wanted = NeuralODE(field, method="tsit5", **LOOSE)(y0)
    for dtype in (torch.float16, torch.bfloat16):
        half = copy.deepcopy(field).to(dtype)
        found = NeuralODE(half, method="tsit5", rtol=0.05, atol=0.05)(y0.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), wanted, rtol=0.1, atol=0.1)
        with pytest.raises(ValueError, match=f"more digits than {dtype} has .*loosen them"):
            NeuralODE(half, **LOOSE)(y0.to(dtype))


# Parametrizations.

PARAMETRIZED = {
    "weight_norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "spectral_norm": parametrizations.spectral_norm,
}


@pytest.mark.parametrize("kind", PARAMETRIZED)
@every_method
def test_parametrized_weights(method, kind):
    model = NeuralODE(Network().double(), method=method, rtol=1e-4, atol=1e-6)
    PARAMETRIZED[kind](model.field.net[0])
    model.eval()  # spectral_norm goes on with its power iteration in training
    y0 = torch.randn(3, 2, dtype=torch.float64)
    found = model_gradients(model, y0)
    model.options["adjoint"] = "direct"
    agree(found, model_gradients(model, y0), 1e-9)


@pytest.mark.parametrize("inside", [True, False])
@every_method
def test_parametrizations_that_are_kept(method, inside):
    """parametrize.cached: forward and backward pass within, or the forward pass alone."""
    model = NeuralODE(Network().double(), method=method, **LOOSE)
    parametrizations.weight_norm(model.field.net[0])
    y0 = torch.randn(3, 2, dtype=torch.float64)
    wanted = model_gradients(model, y0)
    model.zero_grad()
    with parametrize.cached():
        loss = model(y0).square().sum()
        if inside:
            loss.backward()
        assert model.field.net[0].weight is model.field.net[0].weight  # still kept for the user
    if not inside:
        loss.backward()
    agree({name: p.grad for name, p in model.named_parameters()}, wanted, 1e-12)


# torch.compile, TorchScript, export.


def test_a_compiled_model_breaks_at_the_solve():
    """One graph before and one after, and the solve as ever between them; compiling the field as
    well changes no digit."""
    counter = CompileCounter()
    field = Network()
    model = nn.Sequential(
        nn.Linear(2, 2), NeuralODE(field, method="tsit5", **LOOSE), nn.Linear(2, 1)
    )
    y0 = torch.randn(3, 2)
    wanted = model_gradients(model, y0)
    compiled = torch.compile(model, backend=counter)
    model.zero_grad()
    compiled(y0).square().sum().backward()
    assert 1 <= counter.frame_count <= 4
    agree({name: p.grad for name, p in model.named_parameters()}, wanted, 1e-6)
    model[1].field = torch.compile(field, backend="eager")
    found = model_gradients(torch.compile(model, backend="eager"), y0)
    agree({name.replace("_orig_mod.", ""): g for name, g in found.items()}, wanted, 1e-6)


@every_method
def test_a_compiled_training_step(method):
    """Backward passes inside torch.compile: right, and nothing of pynode's passes is compiled,
    whatever the method."""

    def train(wrap):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(2, 2), NeuralODE(Network(), method=method, **LOOSE), nn.Linear(2, 1)
        )
        optimiser, x = torch.optim.SGD(model.parameters(), 0.1), torch.ones(3, 2)

        def step():
            optimiser.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            optimiser.step()
            return loss

        step = wrap(step)
        return [step().item() for _ in range(3)]

    counter, wanted = CompileCounter(), train(lambda step: step)
    assert train(lambda step: torch.compile(step, backend=counter)) == pytest.approx(
        wanted, rel=1e-4
    )
    assert counter.frame_count <= 3  # the layer before the solve, the loss, the optimiser
    assert train(lambda step: torch.compile(step, backend="aot_eager")) == pytest.approx(
        wanted, rel=1e-4
    )


@pytest.mark.parametrize("wrap", ["scripted", "traced", "exported", "compiled"])
@every_method
def test_fields_of_other_makes(method, wrap):
    field, y0 = Network().double(), torch.randn(3, 2, dtype=torch.float64)
    t, model = torch.tensor(0.3, dtype=torch.float64), NeuralODE(field, method=method, **LOOSE)
    wanted = list(model_gradients(model, y0).values())
    made = {
        "scripted": lambda: torch.jit.script(field),
        "traced": lambda: torch.jit.trace(field, (t, y0)),
        "exported": lambda: torch.export.export(field, (t, y0)).module(),
        "compiled": lambda: torch.compile(field, backend="eager"),
    }[wrap]()
    found = list(model_gradients(NeuralODE(made, method=method, **LOOSE), y0).values())
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "wrap", [torch.jit.script, lambda net: torch.compile(net, backend="eager")]
)
def test_autonomous_fields_of_other_makes(wrap):
    """Whose forward says nothing of its arguments, or says it elsewhere."""
    net, y0 = nn.Sequential(nn.Linear(2, 2)), torch.randn(3, 2)
    assert torch.equal(NeuralODE(wrap(net), **LOOSE)(y0), NeuralODE(net, **LOOSE)(y0))


def test_an_argument_with_a_default_is_not_the_state():
    class Scaled(nn.Module):
        def forward(self, y, scale=2.0):
            return -scale * y

    torch.testing.assert_close(
        NeuralODE(Scaled())(tensor(1.0)), tensor(1.0) * torch.exp(tensor(-2.0)), rtol=1e-5, atol=0
    )


def test_a_solve_is_not_traced_or_exported():
    model, y0 = NeuralODE(Network(), **LOOSE), torch.randn(3, 2)
    for attempt in (
        lambda: torch.jit.trace(model, (y0,)),
        lambda: torch.export.export(model, (y0,), strict=False),
    ):
        with pytest.raises(
            NotImplementedError, match=r"cannot trace or export.*torch.export.export\(field"
        ):
            attempt()


# Who asks, and with which tensors.


def test_inference_mode():
    model, y0 = NeuralODE(Network(), **LOOSE), torch.randn(3, 2)
    wanted, plain = model_gradients(model, y0), model(y0).detach()
    with torch.inference_mode():
        assert torch.equal(model(y0), plain)
        given, made = y0.clone(), NeuralODE(copy.deepcopy(model.field), **LOOSE)
    agree(model_gradients(model, given), wanted, 1e-7)
    assert torch.equal(made(y0), plain) and made(y0).requires_grad


@pytest.mark.parametrize("batched", [False, True])
@every_method
def test_functional_call_with_a_backward_pass_after_it(method, batched):
    """The tensors that were in the module for the time of the call get the gradient, at their own
    values."""
    model, y0 = (
        NeuralODE(Forced(2), method=method, batched=batched, **LOOSE),
        torch.randn(3, 2, dtype=torch.float64),
    )
    if batched:
        model.field = Rows(model.field)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    wanted = model_gradients(other, y0)
    values = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    loss = torch.func.functional_call(model, values, (y0,)).square().sum()
    agree(
        dict(zip(values, torch.autograd.grad(loss, list(values.values())), strict=True)),
        wanted,
        1e-9,
    )


@pytest.mark.parametrize("kind", ["closure", "method"])
def test_functional_call_of_a_model_that_makes_its_field(kind):
    """A function that closes over the model, or a method of it; buffers are put back for the
    backward pass as well."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 2).double()
            self.register_buffer("scale", tensor(1.0))

        def slope(self, t, y):
            return self.scale * torch.tanh(self.net(y))

        def forward(self, y0):
            return solve(
                {"closure": lambda t, y: self.slope(t, y), "method": self.slope}[kind],
                y0,
                [0.0, 1.0],
                **LOOSE,
            ).y[-1]

    model, other, y0 = Model(), Model(), tensor(1.0, -0.5)
    other.scale.mul_(2.0)
    wanted = model_gradients(other, y0)
    values = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    loss = (
        torch.func.functional_call(model, {**values, "scale": other.scale.clone()}, (y0,))
        .square()
        .sum()
    )
    agree(
        dict(zip(values, torch.autograd.grad(loss, list(values.values())), strict=True)),
        wanted,
        1e-9,
    )
    assert model.scale == 1.0 and not torch.equal(model.net.weight, values["net.weight"])


class Rows(nn.Module):
    """Forced for rows with times of their own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, t, y):
        return self.inner(t, y)


def test_an_ensemble_by_vmap():
    """Three models in one call of vmap over stacked parameters, with their gradients."""
    models = [NeuralODE(Forced(2, torch.float64), method="tsit5", **LOOSE) for _ in range(3)]
    for i, model in enumerate(models):
        with torch.no_grad():
            model.field.rate.mul_(1 + i)
    y0 = tensor(1.0, -0.5)
    values, buffers = torch.func.stack_module_state(models)

    def loss(values, buffers):
        return torch.func.functional_call(models[0], (values, buffers), (y0,)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(values, buffers)
    for i, model in enumerate(models):
        agree({name: g[i] for name, g in found.items()}, model_gradients(model, y0), 1e-9)


# Inference mode, in which the derivatives of torch.func are zero up to torch 2.10 at least.


def inside(kind):
    """A field that differentiates inside itself."""

    def potential(y):
        return (y.square().sum(-1) + y[..., 0] * y[..., 1]).sum()

    def rate(y):
        return -y * y

    ways = {
        "grad": lambda t, y: -torch.func.grad(potential)(y),
        "vjp": lambda t, y: -torch.func.vjp(potential, y)[1](y.new_ones(()))[0],
        "jvp": lambda t, y: torch.func.jvp(rate, (y,), (y,))[1],
        "jacfwd": lambda t, y: torch.func.jacfwd(rate)(y) @ y,
        "jacrev": lambda t, y: torch.func.jacrev(rate)(y) @ y,
    }
    return ways[kind]


@pytest.mark.parametrize("kind", ["grad", "vjp", "jvp", "jacfwd", "jacrev"])
@every_method
def test_fields_that_differentiate_inside_under_inference_mode(kind, method):
    f, y0 = inside(kind), torch.tensor([0.3, 0.7])
    wanted = solve(f, y0.clone().requires_grad_(), [0.0, 1.0], method=method, **LOOSE).y.detach()
    torch.testing.assert_close(
        solve(f, y0, [0.0, 1.0], method=method, **LOOSE).y, wanted, rtol=1e-4, atol=1e-5
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            solve(f, y0, [0.0, 1.0], method=method, **LOOSE).y, wanted, rtol=1e-4, atol=1e-5
        )
