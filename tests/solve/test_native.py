"""backend='native' in the front door: states and gradients beside the torch engine."""

import warnings

import pytest
import torch
from torch import nn

from pynode import Event, PresetTimes, solve
from pynode.cli import catalogue
from tests.support.cases import Forced, leaf, tensor
from tests.support.engine_pairs import TIMES, both

METHODS = [entry.name for entry in catalogue.methods() if "native" in entry.backends]


def assert_equal(results, accuracy):
    (y, grads), (native_y, native_grads) = results
    torch.testing.assert_close(native_y, y, rtol=accuracy, atol=accuracy)
    for mine, theirs in zip(native_grads, grads, strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(mine, theirs, rtol=accuracy, atol=accuracy * scale)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_beside_torch(method):
    """A driven network, at outputs inside steps: the same steps, hence the same gradient."""
    options = {"method": method, "rtol": 1e-5, "atol": 1e-7}
    if method in ("ImplicitMidpoint", "Euler", "Heun", "Midpoint", "ImplicitEuler"):
        options["step_size"] = 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_equal(both(Forced(3), torch.ones(3, dtype=torch.float64), TIMES, **options), 1e-9)


def test_there_are_methods_of_every_family():
    families = {entry.family for entry in catalogue.methods() if "native" in entry.backends}
    assert len(METHODS) > 20
    assert len(families) >= 4


def test_backwards_in_time_with_stops():
    options = {"method": "rodas5p", "tstops": [0.3, 1.1]}
    start = torch.ones(3, dtype=torch.float64)
    assert_equal(both(Forced(3), start, TIMES.flip(0), **options), 1e-9)


def test_single_precision():
    start = torch.ones(3)
    field = Forced(3, torch.float32)
    assert_equal(both(field, start, TIMES, method="rodas5p", rtol=1e-4, atol=1e-5), 1e-4)


def test_a_method_is_chosen():
    solution = solve(Forced(3), torch.ones(3, dtype=torch.float64), TIMES, backend="native")
    assert solution.method == "Rodas5P"
    assert "native" in solution.choice


def test_a_nested_state_and_arguments():
    """The gradient reaches nested arguments, and a leaf that f closes over."""
    closed = leaf(tensor(0.3))

    def f(t, state, rates):
        return {"a": -rates["k"][0] * state["a"], "b": closed * state["a"].sum() - state["b"]}

    grads = []
    for backend in ("torch", "native"):
        k = leaf(tensor(1.3, 0.2))
        y0 = {"a": tensor(1.0, 2.0), "b": leaf(tensor(0.5))}
        rates = {"k": [2 * k[0], k[1]]}
        solution = solve(f, y0, (0.0, 1.0), method="qndf", args=(rates,), backend=backend)
        loss = solution.y["b"][-1].sum() + solution.y["a"][-1].sum()
        grads.append(torch.autograd.grad(loss, [k, y0["b"], closed]))
    for mine, theirs in zip(grads[1], grads[0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_tensors_computed_outside_of_f():
    """One that f alone uses has a gradient in what it was made of. Beside its source it is
    refused, because torch would count the source twice."""
    source = leaf(tensor(0.8))
    computed = source * source
    grads = []
    for backend in ("torch", "native"):
        y = solve(
            lambda t, y: computed * torch.cos(t) - y,
            tensor(1.0),
            (0.0, 1.0),
            method="rodas5p",
            backend=backend,
        ).y
        grads.append(torch.autograd.grad(y[-1].sum(), source, retain_graph=True)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="computed from it outside of f"):
        solve(lambda t, y: -source * y + computed, tensor(1.0), (0.0, 1.0), backend="native")


def test_computed_weights():
    """A parametrisation, and a weight that two layers share."""

    class Positive(nn.Module):
        def forward(self, weight):
            return torch.nn.functional.softplus(weight)

    layer = nn.Linear(3, 3).double()
    nn.utils.parametrize.register_parametrization(layer, "weight", Positive())
    field = nn.Sequential(layer, nn.Tanh(), layer)

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = field

        def forward(self, t, y):
            return self.net(y) * torch.cos(t)

    assert_equal(both(Field(), torch.ones(3, dtype=torch.float64), TIMES, method="tsit5"), 1e-9)


def test_new_weights_and_new_parameters_are_used():
    """A step of an optimiser, a parameter of another object, and a number that f reads."""
    field = Forced(3)
    field.factor = 1.0
    field.forward = lambda t, y: field.factor * Forced.forward(field, t, y)
    start = torch.ones(3, dtype=torch.float64)
    assert_equal(both(field, start, TIMES, method="rodas5p"), 1e-9)
    with torch.no_grad():
        field.W.mul_(0.5)
    assert_equal(both(field, start, TIMES, method="rodas5p"), 1e-9)
    field.W = nn.Parameter(torch.eye(3, dtype=torch.float64))
    assert_equal(both(field, start, TIMES, method="rodas5p"), 1e-9)
    field.factor = -0.7
    assert_equal(both(field, start, TIMES, method="rodas5p"), 1e-9)


def test_a_changed_parameter_is_refused():
    field = Forced(3)
    y = solve(field, torch.ones(3, dtype=torch.float64), TIMES, backend="native").y
    with torch.no_grad():
        field.W.mul_(2)
    with pytest.raises(RuntimeError, match="changed"):
        y.sum().backward()


def test_a_hook_of_a_parameter_sees_the_whole_gradient():
    field = Forced(3)
    seen = []
    field.W.register_hook(lambda grad: seen.append(grad) or 2 * grad)
    start = torch.ones(3, dtype=torch.float64)
    for backend in ("torch", "native"):
        field.W.grad = None
        solve(field, start, TIMES, method="rodas5p", backend=backend).y.sum().backward()
        assert torch.equal(field.W.grad, 2 * seen[-1])
    assert len(seen) == 2
    torch.testing.assert_close(seen[1], seen[0], rtol=1e-9, atol=1e-12)


def test_changed_outputs_change_no_gradient():
    field = Forced(3)
    start = torch.ones(3, dtype=torch.float64, requires_grad=True)
    solution = solve(field, start, TIMES, backend="native")
    expected = torch.autograd.grad(solution.y.sum(), start, retain_graph=True)[0]
    solution.y.detach().zero_()
    torch.testing.assert_close(torch.autograd.grad(solution.y.sum(), start)[0], expected)


def test_events_and_resets_have_gradients():
    """A terminal event after a dose, against the torch engine."""

    def f(t, y, k):
        return -k * y

    grads = []
    for backend in ("torch", "native"):
        k = leaf(tensor(1.1))
        dose = PresetTimes([0.5], lambda t, y, k: y + 1.0)
        low = Event(lambda t, y, k: y[0] - 0.4, terminal=True)
        solution = solve(
            f,
            tensor(1.0),
            (0.0, 9.0),
            method="rodas5p",
            rtol=1e-9,
            args=(k,),
            events=[dose, low],
            backend=backend,
        )
        assert len(solution.events) == 2
        grads.append(torch.autograd.grad(solution.events[-1].t, k)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=0)


def test_dense_output_has_a_gradient():
    field = Forced(3)
    found = []
    for backend in ("torch", "native"):
        start = torch.ones(3, dtype=torch.float64, requires_grad=True)
        solution = solve(field, start, (0.0, 2.0), method="fbdf", dense=True, backend=backend)
        y = solution(torch.tensor([0.37, 1.9], dtype=torch.float64))
        slope = solution.derivative(torch.tensor([0.37], dtype=torch.float64))
        found.append((y.detach(), slope.detach(), torch.autograd.grad(y.sum(), start)[0]))
    for mine, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_gradients_in_times():
    start = torch.ones(3, dtype=torch.float64)
    grads = []
    for backend in ("torch", "native"):
        t = TIMES.clone().requires_grad_()
        y = solve(Forced(3), start, t, method="rodas5p", backend=backend).y
        grads.append(torch.autograd.grad(y.square().sum(), t)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("adjoint", ["gauss", "backsolve", "direct"])
def test_other_adjoints_are_refused(adjoint):
    with pytest.raises(ValueError, match="take adjoint='discrete'"):
        solve(Forced(3), torch.ones(3).double(), TIMES, backend="native", adjoint=adjoint)


def test_a_tensor_in_two_places():
    """Twice in args, or in args and held by f: both parts of its gradient count, whatever was
    solved before."""
    closed = leaf(tensor(0.4))

    def f(t, y, a, b):
        return -a * y + b * torch.cos(t) + closed

    with torch.no_grad():
        solve(f, tensor(1.0), (0.0, 1.0), method="tsit5", args=(closed, closed), backend="native")
    for args in ((closed, closed), (closed, leaf(tensor(0.9)))):
        grads = []
        for backend in ("torch", "native", "native"):
            y = solve(f, tensor(1.0), (0.0, 1.0), method="tsit5", args=args, backend=backend).y
            grads.append(torch.autograd.grad(y[-1].sum(), closed)[0])
        torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=0)
        torch.testing.assert_close(grads[2], grads[0], rtol=1e-9, atol=0)


def test_a_tensor_that_f_keeps_from_its_first_call():
    source = leaf(tensor(0.7))
    kept = []

    def f(t, y):
        if not kept:
            kept.append(source * source)
        return -kept[0] * y

    for _ in range(2):  # the second solve takes the short way
        y = solve(f, tensor(1.0), (0.0, 1.0), method="tsit5", backend="native").y
        grad = torch.autograd.grad(y[-1].sum(), source, retain_graph=True)[0]
        assert float(grad) == pytest.approx(-2 * 0.7 * float(y[-1]), rel=1e-5)
