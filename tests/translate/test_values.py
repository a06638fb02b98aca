"""Native functions give torch's numbers: f, its Jacobian, and all products."""

import threading

import numpy as np
import pytest
import torch

from pynode.translate import TranslationRefused, translate
from tests.support.native_fields import (
    DOUBLE,
    NAMES,
    Autonomous,
    MassAction,
    Robertson,
    difference,
    fields,
    mlp,
    native,
    pendulum,
    vector,
)

FIELDS = fields()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """One store for the session's tests, apart from the user's."""
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path_factory.getbasetemp() / "native"))


@pytest.mark.parametrize(
    ("f", "y0", "args"), [entry[1:] for entry in FIELDS], ids=[entry[0] for entry in FIELDS]
)
def test_every_function_of_every_field(f, y0, args):
    field = translate(f, y0, 0.3, args)
    tolerance = 1e-12 if y0.dtype == DOUBLE else 1e-5
    y = (y0 * 1.1).numpy()
    for name in NAMES:
        error = difference(field, f, args, name, 0.45, y)
        assert error < tolerance, f"{name} differs by {error}"


@pytest.mark.parametrize("name", ["tanh network", "mass action", "normed", "batched", "forced"])
def test_loops_and_scalars_agree(name, monkeypatch):
    """The two forms of code are one function."""
    _, f, y0, args = next(entry for entry in FIELDS if entry[0] == name)
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    field = translate(lambda t, y: f(t, y, *args), y0, 0.3)
    for function in NAMES:
        assert difference(field, f, args, function, 0.45, y0.numpy()) < 1e-12, function
        if function != "vjp_time":
            assert "loop" in field.text(function)


def test_new_weights_need_no_compilation():
    net = Autonomous(mlp(3, 8, 3))
    y0 = torch.rand(3, dtype=DOUBLE)
    field = translate(net, y0, 0.0)
    address = field.function("f").address
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5)
    assert translate(net, y0, 0.0) is field
    assert field.function("f").address == address
    assert difference(field, net, (), "f", 0.0, y0.numpy()) < 1e-12


def test_new_parameter_objects_are_seen():
    net = Robertson()
    y0 = torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE)
    translate(net, y0, 0.0).function("f")
    net.k = torch.nn.Parameter(net.k.detach() * 2)
    field = translate(net, y0, 0.0)
    assert field.targets[0] is net.k
    assert difference(field, net, (), "f", 0.0, y0.numpy()) < 1e-12


def test_other_args_share_the_code():
    y0 = torch.tensor([0.3, 0.1], dtype=DOUBLE)
    first = translate(pendulum, y0, 0.0, (torch.tensor(0.1, dtype=DOUBLE), 1.0))
    second = translate(pendulum, y0, 0.0, (torch.tensor(0.7, dtype=DOUBLE), 1.0))
    assert first.function("f").address == second.function("f").address
    other = (torch.tensor(0.7, dtype=DOUBLE), 1.0)
    assert difference(second, pendulum, other, "f", 0.0, y0.numpy()) < 1e-12
    number = translate(pendulum, y0, 0.0, (torch.tensor(0.1, dtype=DOUBLE), 2.0))
    assert difference(number, pendulum, (number.targets[0], 2.0), "f", 0.0, y0.numpy()) < 1e-12


def test_pattern_of_a_sparse_field():
    field = translate(MassAction(20, 25), torch.rand(20, dtype=DOUBLE), 0.0)
    rows, columns = field.pattern()
    assert 20 < len(rows) < 200
    order = rows * field.n + columns
    assert (np.diff(order) > 0).all()
    assert rows.dtype == np.int64


def test_targets_are_the_tensors_from_outside():
    net = Autonomous(mlp(3, 4, 3))
    field = translate(net, torch.rand(3, dtype=DOUBLE), 0.0)
    assert {id(x) for x in field.targets} == {id(x) for x in net.parameters()}
    assert field.differentiable == list(range(4))
    assert not any(x.grad is not None for x in net.parameters())


def test_a_tensor_that_wants_no_gradient_still_wants_none():
    net = Autonomous(mlp(3, 4, 3)).requires_grad_(False)
    translate(net, torch.rand(3, dtype=DOUBLE), 0.0).function("pullback")
    assert not any(x.requires_grad for x in net.parameters())


def test_parameters_with_strides():
    weight = torch.rand(5, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1)).T

    def f(t, y):
        return torch.tanh(weight @ y[:5])[:3].repeat(2)[:5]

    y0 = torch.rand(5, dtype=DOUBLE)
    field = translate(f, y0, 0.0)
    for name in NAMES:
        assert difference(field, f, (), name, 0.0, y0.numpy()) < 1e-12


def test_threads_give_the_results_of_one():
    net = Autonomous(mlp(5, 40, 40, 5))
    y0 = torch.rand(5, dtype=DOUBLE)
    field = translate(net, y0, 0.0)
    states = [np.random.default_rng(i).uniform(-1, 1, 5) for i in range(8)]
    v = vector(field, "pullback")
    alone = [native(field, "pullback", 0.1, y, v) for y in states]
    found = [None] * 8

    def work(i):
        for _ in range(50):
            found[i] = native(field, "pullback", 0.1, states[i], v)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, found):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    """Recordings have autograd of their own."""
    net = Autonomous(mlp(3, 4, 3, seed=9))
    with mode():
        y0 = torch.ones(3, dtype=DOUBLE)
        field = translate(net, y0, 0.0)
        size = field.function("pullback").size
    assert size == 3 + sum(x.numel() for x in field.targets) + 1
    assert difference(field, net, (), "pullback", 0.0, np.ones(3)) < 1e-12


def test_an_unknown_name_is_an_error():
    field = translate(Robertson(), torch.rand(3, dtype=DOUBLE), 0.0)
    with pytest.raises(ValueError, match="There is no native function 'hessian'"):
        field.function("hessian")


def test_what_torch_differentiates_once():
    """torch has no second derivative of hardsigmoid: the other functions are there."""
    y0 = torch.tensor([-1.0, 0.3, 4.0], dtype=DOUBLE)

    def f(t, y):
        return torch.nn.functional.hardsigmoid(y)

    field = translate(f, y0, 0.0)
    for name in ("f", "jac", "vjp", "pullback"):
        assert difference(field, f, (), name, 0.0, y0.numpy()) < 1e-12
    with pytest.raises(TranslationRefused, match="hardsigmoid_backward is not implemented"):
        field.function("second")
