"""What keeps compiled steps: fields and models, their copies, and what changes in them."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from pynode import RejectStep, solve
from pynode.methods import BS3, Rosenbrock23, Tsit5
from pynode.methods.compiled import compiled_functions
from pynode.nn import CNF, ControlledODE, NeuralODE, ZeroOrderHold
from tests.support import ROOT
from tests.support.cases import tensor
from tests.support.compiledcase import TIMES, TRACED, Field


def test_a_field_that_counts_its_calls():
    """A loop cannot hold that; single steps can."""

    class Counts(Field):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, t, y):
            self.calls.add_(1)
            return super().forward(t, y)

    field = Counts()
    plain, compiled = (
        solve(field, tensor(1.0, -0.5), TIMES, method=BS3(compile=c), rtol=1e-2)
        for c in (False, TRACED)
    )
    assert torch.allclose(compiled.y, plain.y, rtol=0, atol=1e-12)
    before = float(field.calls)
    with torch.no_grad():
        solve(field, tensor(1.0, -0.5), TIMES, method=BS3(compile=TRACED), rtol=1e-2)
    assert float(field.calls) > before + 10


def test_what_is_compiled_once_serves_all_solves():
    """Later solves, other args, weights after an optimiser's step, and functional_call."""
    field, calls = Field(), []

    def count(graph, inputs):
        calls.append(graph)
        return graph.forward

    def end(model, k):
        return solve(
            model, tensor(1.0, -0.5), TIMES, method=Rosenbrock23(compile=count), args=(k,)
        ).y[-1]

    first = end(field, tensor(1.0))
    made = len(calls)
    assert made
    assert not torch.allclose(end(field, tensor(2.0)), first)
    with torch.no_grad():
        field.net[0].weight.mul_(1.5)
    changed = end(field, tensor(1.0))
    exact = solve(field, tensor(1.0, -0.5), TIMES, method="rosenbrock23", args=(tensor(1.0),)).y[-1]
    assert torch.allclose(changed, exact, atol=1e-12) and not torch.allclose(changed, first)
    assert len(calls) == made
    other = copy.deepcopy(field)
    with torch.no_grad():
        other.net[0].weight.zero_()
    exact = solve(other, tensor(1.0, -0.5), TIMES, method="rosenbrock23", args=(tensor(1.0),)).y[-1]
    # A copy does not run its original.
    assert torch.allclose(end(other, tensor(1.0)), exact, atol=1e-12)
    assert pickle.loads(pickle.dumps(field)).net[0].weight.equal(field.net[0].weight)
    assert set(field.state_dict()) == {"net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"}


def test_what_changes_in_the_field_is_seen():
    """A number, a constant and a parameter in the place of another: f is compiled again."""

    class Decay(nn.Module):
        def __init__(self):
            super().__init__()
            self.k, self.shift, self.weight = 1.0, tensor(0.0), nn.Parameter(tensor(1.0))

        def forward(self, t, y):
            return self.shift - self.k * self.weight * y

    field, ends = Decay(), []
    for name, value in (
        ("k", 1.0),
        ("k", 2.0),
        ("shift", tensor(1.0)),
        ("weight", nn.Parameter(tensor(3.0))),
    ):
        setattr(field, name, value)
        found, expected = (
            solve(field, tensor(1.0), TIMES, method=BS3(compile=c), rtol=1e-2).y[-1]
            for c in (TRACED, False)
        )
        assert torch.allclose(found, expected, rtol=0, atol=1e-13)
        ends.append(float(found.detach()))
    assert len(set(ends)) == 4


def normed(batched):
    """layer_norm: the Jacobian is made in reverse mode, and the next solve knows it."""
    torch.manual_seed(0)
    traced = []

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 3)).double()

        def forward(self, t, y):
            return self.net(y) * torch.cos(t) - 10 * y

    def count(graph, inputs):
        traced.append(graph)
        return graph.forward

    field, y0 = Normed(), torch.rand(4, 3).double()
    options = {"rtol": 1e-3, "batched": batched}
    for _ in range(2):
        compiled, plain = (
            solve(
                field, y0 if batched else y0[0], TIMES, method=Rosenbrock23(compile=c), **options
            ).y
            for c in (count, False)
        )
        assert torch.allclose(compiled, plain, rtol=0, atol=1e-12)
    # One call of many steps where the compiler takes it, else one of a single step: found once, and
    # known from then on.
    *refused, taken = compiled_functions(field)
    assert [function.calls for function in refused] == [0] * len(refused)
    assert len(traced) == 1 and refused[0].variant == 0 < taken.variant and taken.calls > 1


@pytest.mark.parametrize("batched", [False, True])
def test_what_has_no_forward_mode_to_trace(batched):
    """In a process of its own, as torch 2.13 keeps something of a trace that failed: after one of
    the forward mode it may refuse the reverse mode of rows, too. Such rows are refused with a
    sentence, and never wrong."""
    code = f"from tests.methods.compiled import test_fields as own; own.normed({batched})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    refused = batched and "ValueError: the steps cannot be compiled" in done.stderr
    assert refused or done.returncode == 0, done.stderr


def test_a_number_that_changes_with_every_solve():
    """It is a constant of what was compiled; in the end the sentence says where it belongs."""

    class Decay(nn.Module):
        def forward(self, t, y):
            return -self.k * y

    field = Decay()
    with pytest.raises(ValueError, match="as tensors in args"):
        for i in range(20):
            field.k = 1.0 + i
            solve(field, tensor(1.0), [0.0, 0.1], method=BS3(compile=TRACED), rtol=1e-2)


def test_models_and_structured_states():
    """NeuralODE of a field without time, compiled once for all its calls; and a state in parts."""
    torch.manual_seed(1)
    net, calls = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).double(), []

    def count(graph, inputs):
        calls.append(graph)
        return graph.forward

    y0 = tensor(1.0, 0.5).expand(3, 2)
    model, plain = NeuralODE(net, method=Tsit5(compile=count)), NeuralODE(net, method="tsit5")
    assert torch.allclose(model(y0), plain(y0), atol=1e-13)
    made = len(calls)
    assert torch.allclose(model(2 * y0), plain(2 * y0), atol=1e-12) and len(calls) == made

    class Parts(nn.Module):
        def forward(self, t, state):
            return {"q": state["p"], "p": -state["q"]}

    start = {"q": tensor(1.0), "p": tensor(0.0)}
    ends = [
        solve(Parts(), start, TIMES, method=Rosenbrock23(compile=c)).y["q"][-1]
        for c in (False, TRACED)
    ]
    assert torch.allclose(*ends, atol=1e-13)


def test_models_that_make_their_field_anew_compile_once():
    """A controlled ODE under other inputs, and a CNF."""
    calls = []

    def count(graph, inputs):
        calls.append(graph)
        return graph.forward

    torch.manual_seed(0)
    net, knots = (
        nn.Sequential(nn.Linear(2, 2), nn.Tanh()).double(),
        torch.linspace(0.0, 1.0, 5).double(),
    )
    paths = [(tensor(1.0, 0.5), ZeroOrderHold(knots, torch.randn(5, 2).double())) for _ in range(2)]
    driven = [ControlledODE(Pushed(net), method=Tsit5(compile=c)) for c in (count, False)]
    flows = [CNF(net, 2, method=Tsit5(compile=c)) for c in (count, False)]
    for (compiled, plain), inputs in ((driven, paths), (flows, torch.randn(2, 1, 3, 2).double())):
        calls.clear()
        for given in inputs:
            found, expected = (model(*given) for model in (compiled, plain))
            for a, b in zip(found, expected, strict=True):
                assert torch.allclose(a, b, rtol=0, atol=1e-12)
        assert len(calls) == 1


class Pushed(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y, u):
        return self.net(y) + u


def test_functions_and_branches_are_refused():
    with pytest.raises(TypeError, match=r"nn\.Module"):
        solve(lambda t, y: -y, tensor(1.0), TIMES, method=Tsit5(compile=TRACED))

    class Branches(nn.Module):
        def forward(self, t, y):
            if float(y[0]) < 0:
                raise RejectStep
            return -y

    with pytest.raises(ValueError, match="cannot be compiled: f must be one graph"):
        solve(Branches(), tensor(1.0), TIMES, method=Tsit5(compile=TRACED))
