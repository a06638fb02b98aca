"""The node of a solve in PyTorch's graph: how long it keeps its record, and the batches of
cotangents that it is asked for."""

import gc
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pynode import odeint, odeint_adjoint, solve
from pynode.backends.torch.batched_tape import RowSteps
from pynode.backends.torch.checkpoints import Recording
from pynode.core import saved_tensors
from pynode.nn import NeuralODE
from tests.support import gradients as comparisons
from tests.support.cases import tensor

METHODS = ["Tsit5", "FBDF", "Rodas5P", "Kvaerno5", "RadauIIA5", "AdamsPECE"]
ADJOINTS = [
    "discrete",
    "backsolve",
    "gauss",
    "gausskronrod",
    "quadrature",
    "interpolating",
    "forward",
    "direct",
]
every_method = pytest.mark.parametrize("method", METHODS)
LOOSE = {"rtol": 1e-4, "atol": 1e-6}


class Network(nn.Module):
    """A small field that counts its calls."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(4, 2, generator=generator, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(2, 4, generator=generator, dtype=torch.float64))
        self.calls = 0

    def forward(self, t, y):
        self.calls += 1
        return torch.tanh(y @ self.first.T) @ self.second.T


def records():
    """Numbers of recordings of single solves and of batches that are alive."""
    gc.collect()
    return [sum(type(x) is kind for x in gc.get_objects()) for kind in (Recording, RowSteps)]


agree = partial(comparisons.agree, tolerance=1e-12)


def gradients(model, y, loss=lambda y: y.square().sum()):
    model.zero_grad()
    loss(y).backward()
    return [p.grad.clone() for p in model.parameters()]


# Before it torch does not tell which hooks are around.
lifetimes = pytest.mark.skipif(
    saved_tensors._TOP is None, reason="torch 2.8 and later tell which hooks are around"
)

# Checkpointing around a solve, and other hooks on saved tensors.


@lifetimes
@pytest.mark.parametrize("method", [*METHODS, "batched Tsit5", "batched FBDF", "batched Rodas5P"])
def test_checkpoint_frees_the_record(method):
    """Nothing is kept of the forward pass, f is called as often as without, and the gradient is the
    same in every digit."""
    batched = method.startswith("batched")
    model = NeuralODE(Network(), method=method.split()[-1], batched=batched, **LOOSE)
    x, before = (
        torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        records(),
    )
    gradients(model, model(x))  # what is found out of f once
    model.field.calls = 0
    wanted = gradients(model, model(x))
    calls, model.field.calls = model.field.calls, 0
    model(x)
    forward, model.field.calls = model.field.calls, 0
    y = checkpoint(model, x, use_reentrant=False)
    assert model.field.calls == forward
    assert records() == before
    found = gradients(model, y)
    assert model.field.calls == forward + calls  # again, for the backward pass
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    del y
    assert records() == before


def test_checkpoint_around_several_solves_and_second_derivatives():
    model = nn.Sequential(
        nn.Linear(2, 2).double(),
        NeuralODE(Network(), method="Rodas5P", **LOOSE),
        nn.Tanh(),
        NeuralODE(Network(), method="Tsit5", **LOOSE),
    )
    x = tensor(0.3, -0.7).requires_grad_()

    def twice(run):
        (g,) = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)
        return gradients(model, g)

    agree(twice(lambda x: checkpoint(model, x, use_reentrant=False)), twice(model))


@lifetimes
@pytest.mark.parametrize("method", ["Tsit5", "FBDF", "Rodas5P"])
def test_checkpoint_around_a_field_of_torch_func(method):
    """torch.func refuses hooks on saved tensors, and within a solve there are none."""

    class Gradient(nn.Module):
        def forward(self, t, y):
            return -torch.func.grad(lambda y: (y**2 * y.roll(1)).sum())(y)

    f, x = Gradient(), tensor(0.3, 0.7).requires_grad_()

    def end(x):
        return solve(f, x, [0.0, 1.0], method=method, **LOOSE).y[-1]

    (wanted,) = torch.autograd.grad(end(x).sum(), x)
    (found,) = torch.autograd.grad(checkpoint(end, x, use_reentrant=False).sum(), x)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("pinned", ["cpu", "copies", "disk"])
@pytest.mark.parametrize("batched", [False, True])
def test_hooks_that_copy_what_is_saved(pinned, batched, tmp_path):
    """The record is kept where hooks may give other tensors back, and the gradient stays right."""
    model = NeuralODE(Network(), method="FBDF", batched=batched, **LOOSE)
    x = torch.ones(3, 2, dtype=torch.float64)
    wanted = gradients(model, model(x))

    def to_disk(x):
        path = tmp_path / f"{id(x)}-{len(list(tmp_path.iterdir()))}"
        torch.save(x, path)
        return path

    hooks = {
        "cpu": lambda: torch.autograd.graph.save_on_cpu(),
        "copies": lambda: torch.autograd.graph.saved_tensors_hooks(
            lambda x: x.clone(), lambda x: x.clone()
        ),
        "disk": lambda: torch.autograd.graph.saved_tensors_hooks(to_disk, torch.load),
    }
    with hooks[pinned]():
        y = model(x)
    gc.collect()
    agree(gradients(model, y), wanted)


@pytest.mark.parametrize("run", [odeint, odeint_adjoint], ids=["odeint", "odeint_adjoint"])
def test_checkpoint_around_odeint(run):
    field, x, t = Network(), tensor(0.3, -0.7), tensor(0.0, 1.0)
    wanted = gradients(field, run(field, x, t, **LOOSE)[-1])
    agree(
        gradients(
            field, checkpoint(lambda x: run(field, x, t, **LOOSE)[-1], x, use_reentrant=False)
        ),
        wanted,
    )


# A second backward pass.


@lifetimes
@pytest.mark.parametrize(
    ("method", "batched"),
    [*((method, False) for method in METHODS), *((method, True) for method in METHODS[:4])],
)
def test_a_second_pass_needs_a_graph_that_is_retained(method, batched):
    """As with any node; and the record goes with the first pass that does not retain it."""
    model, before = NeuralODE(Network(), method=method, batched=batched, **LOOSE), records()
    y = model(torch.ones(3, 2, dtype=torch.float64))
    loss = y.square().sum()
    loss.backward(retain_graph=True)
    assert records() != before
    loss.backward()
    assert records() == before
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


@lifetimes
def test_the_second_derivative_frees_its_graph_as_well():
    x = tensor(0.3, -0.7).requires_grad_()
    (g,) = torch.autograd.grad(
        solve(Network(), x, [0.0, 1.0], method="Tsit5").y[-1].sum(), x, create_graph=True
    )
    total, before = g.sum(), records()
    total.backward()
    del g
    assert records()[0] < before[0]
    with pytest.raises(RuntimeError, match="second time"):
        total.backward()


# Many cotangents at once.


def jacobian(function, x, **options):
    return torch.autograd.functional.jacobian(function, x, **options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((m, {}) for m in METHODS),
        *((m, {"batched": True}) for m in ("Tsit5", "FBDF", "Rodas5P", "Kvaerno5")),
        *((m, {"adjoint": a}) for a in ADJOINTS for m in ("Tsit5", "FBDF")),
    ],
)
def test_batched_cotangents(method, options):
    """torch.autograd.grad(is_grads_batched=True) and jacobian(vectorize=True) are the rows one by
    one."""
    x = torch.tensor([[0.3, -0.7], [0.5, 0.2]], dtype=torch.float64)
    model = NeuralODE(Network(), method=method, **LOOSE, **options)
    wanted = jacobian(model, x)
    agree([jacobian(model, x, vectorize=True)], [wanted])
    leaf = x.clone().requires_grad_()
    y = model(leaf)
    unit = torch.eye(4, dtype=torch.float64).view(4, 2, 2)
    parameters = list(model.parameters())
    found = torch.autograd.grad(
        y, [leaf, *parameters], unit, is_grads_batched=True, retain_graph=True
    )
    agree([found[0]], [wanted.view(4, 2, 2)])
    rows = [torch.autograd.grad(y, parameters, row, retain_graph=True) for row in unit]
    agree(found[1:], [torch.stack(parts) for parts in zip(*rows, strict=True)])
    mapped = torch.func.vmap(lambda row: torch.autograd.grad(y, leaf, row, retain_graph=True)[0])
    if options.get("adjoint") != "direct" or method == "Tsit5":
        agree([mapped(unit)], [wanted.view(4, 2, 2)])


@pytest.mark.parametrize("method", ["Tsit5", "FBDF", "Rodas5P"])
def test_a_vectorised_hessian(method):
    x, model = tensor(0.3, -0.7), NeuralODE(Network(), method=method, **LOOSE)

    def loss(x):
        return model(x).square().sum()

    wanted = torch.autograd.functional.hessian(loss, x)
    agree([torch.autograd.functional.hessian(loss, x, vectorize=True)], [wanted])


@pytest.mark.parametrize("run", [odeint, odeint_adjoint], ids=["odeint", "odeint_adjoint"])
def test_batched_cotangents_of_odeint(run):
    field, x = Network(), tensor(0.3, -0.7)

    def end(x):
        return run(field, x, tensor(0.0, 1.0), rtol=1e-8, atol=1e-8)[-1]

    agree([jacobian(end, x, vectorize=True)], [jacobian(end, x)])
