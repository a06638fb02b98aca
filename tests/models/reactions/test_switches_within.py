"""Formulas that jump at a state within other fields: inputs, doses, learned rates, estimation."""

import math

import pytest
import torch

from pynode import solve
from pynode.backends.packages import missing_for_native
from pynode.models import Doses, DrivenModel, InputTable
from tests.support.cases import tensor
from tests.support.difference_quotients import central, gradient
from tests.support.sbml_texts import add_algebraic, antimony, changed, free, sbml

TIGHT = {"rtol": 1e-9, "atol": 1e-11, "method": "rodas5p"}
NATIVE = pytest.param(
    "native",
    marks=pytest.mark.skipif(bool(missing_for_native()), reason="native code needs its packages"),
)
DROP = "model m; S' = piecewise(-k*S, S > c, -0.1); S = 1; k = 0.5; c = 0.4; end"
TIMES = [0.0, 1.0, 2.5, 5.0]
WEIGHTS = tensor(0.3, 1.0, 0.7, 2.0)


def check(value, p):
    """The gradient of value(p) against differences of solves with the same stops."""
    right = central(lambda p: value(p.requires_grad_()).detach(), p, 1e-4)
    found = gradient(value, p)
    torch.testing.assert_close(found, right, rtol=3e-5, atol=3e-5 * float(right.abs().max()))


@pytest.mark.parametrize("backend", ["torch", NATIVE])
def test_doses(backend):
    """A bolus lifts S above c again, and an infusion holds it there for a while."""
    model = antimony(DROP)

    def value(x):
        p = torch.cat((x[:2], model.values[2:]))
        doses = Doses(x[2:4], x[4:6], duration=tensor(0.0, 0.8), target="S")
        start = model.initial(p)
        y = doses.solve(model, start, TIMES, args=(p,), backend=backend, **TIGHT).y[:, 0]
        return (WEIGHTS * y).sum()

    check(value, torch.cat((model.values[:2], tensor(2.2, 3.4, 0.5, 0.3))))


def test_doses_of_rows():
    model = antimony(DROP)

    def value(amounts):
        p = model.values
        doses = Doses(tensor([2.2, 3.4], [2.6, 4.1]), amounts.reshape(2, 2), target="S")
        start = model.initial(p).repeat(2, 1)
        y = doses.solve(model, start, TIMES, args=(p,), batched=True, **TIGHT).y
        return (WEIGHTS[:, None] * y[:, :, 0]).sum()

    check(value, tensor(0.5, 0.3, 0.2, 0.6))


@pytest.mark.parametrize("backend", ["torch", NATIVE])
@pytest.mark.parametrize("kind", ["linear", "held"])
def test_inputs(backend, kind):
    """The threshold follows an input, which S meets."""
    model = antimony(DROP)

    def value(x):
        u = InputTable(tensor(0.0, 2.0, 6.0), x[1:], kind=kind)
        driven = DrivenModel(model, {"c": u})
        p = torch.cat((x[:1], model.values[1:]))
        options = {**TIGHT, "backend": backend, **driven.stops()}
        y = solve(driven, model.initial(p), TIMES, args=driven.args(p), **options).y[:, 0]
        return (WEIGHTS * y).sum()

    check(value, torch.cat((model.values[:1], tensor(0.5, 0.45, 0.6))))


def test_known_times_within_a_plain_solve():
    """The time e is known beforehand, and has a gradient without the option jumps."""
    model = antimony("model m; S' = piecewise(-k*S, time < e, -0.1); S = 1; k = 0.5; e = 1.3; end")

    def value(p):
        y = solve(model, model.initial(p), TIMES, args=(p,), **TIGHT).y[:, 0]
        return (WEIGHTS * y).sum()

    check(value, model.values)


def test_conditions_of_learned_rates():
    """A condition with a learned rate is no known time, although it names the time."""
    text = (
        "model m; J1: A -> ; k*A; g := J1 - 0.1*time; B' = piecewise(1, g > c, -0.5);"
        "A = 1; B = 0; k = 1; c = 0.1; end"
    )
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    model = antimony(text).replace("J1", net.double(), ["A"])
    assert model.jumps().numel() == 0
    assert len(model.pynode_switches.names) == 1
    weight = net[2].weight

    def value(x):
        with torch.no_grad():
            weight.copy_(x[None])
        y = model.simulate(TIMES, **TIGHT)["B"]
        return (WEIGHTS * y).sum()

    start = weight.detach().clone()[0]
    right = central(lambda x: value(x).detach(), start, 1e-4)
    value(start)
    (found,) = torch.autograd.grad(value(start), weight)
    torch.testing.assert_close(found[0], right, rtol=3e-5, atol=1e-5)


def test_the_model_pickles_and_copies():
    import copy
    import pickle

    model = antimony(DROP)
    names = model.pynode_switches.names
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.pynode_switches.names == names == ("S = c",)


def test_transforms_say_what_they_leave_out():
    model = antimony(DROP)

    def end(p):
        return solve(model, model.initial(p), [0.0, 4.0], args=(p,), **TIGHT).y[-1, 0]

    with pytest.warns(UserWarning, match=r"S = c.*leaves out the times of the jumps"):
        torch.func.grad(end)(model.values)


def test_an_algebraic_rule():
    """The unknown z of z^3 + z = S crosses c where S crosses c^3 + c."""

    def change(model):
        free(model, "z")
        add_algebraic(model, "z^3 + z - S")

    text = "S' = piecewise(-k*S, z > c, -0.5); S = 10; k = 0.5; z = 1; c = 1.5"
    model = sbml(changed(text, change))
    assert model.mass.tolist() == [1.0, 0.0] and len(model.pynode_switches.names) == 1
    p = model.values.clone().requires_grad_()
    end = model.simulate([0.0, 2.0], p, rtol=1e-9, atol=1e-12)["S"][-1]
    (found,) = torch.autograd.grad(end, p)
    surface = 1.5**3 + 1.5
    crossing = math.log(10 / surface) / 0.5
    assert float(end.detach()) == pytest.approx(surface - 0.5 * (2 - crossing), rel=1e-7)
    # dS/ds = 1 + 0.5 dt*/ds with dt*/ds = -1/(k s), and ds/dc = 3 c^2 + 1.
    right = (1 - 0.5 / (0.5 * surface)) * (3 * 1.5**2 + 1)
    assert float(found[model.constants.index("c")]) == pytest.approx(right, rel=1e-5)
    assert float(found[model.constants.index("k")]) == pytest.approx(-crossing, rel=1e-5)


@pytest.mark.parametrize("backend", ["torch", NATIVE])
def test_elimination_of_order_zero(backend):
    """S rests at zero, receives a dose, falls at a constant rate, and rests again."""
    model = antimony("model m; S' = piecewise(-k, S > 0, 0); S = 0; k = 0.7; end")
    x = tensor(0.7, 1.0, 1.3).requires_grad_()
    p = torch.stack([x[0] if name == "k" else x[0] * 0 for name in model.constants])
    doses = Doses(x[1:2], x[2:3], target="S")
    options = {"args": (p,), "backend": backend, "rtol": 1e-8, "atol": 1e-10, "method": "rodas5p"}
    y = doses.solve(model, model.initial(p), [0.0, 0.5, 1.5, 5.0], **options).y[:, 0]
    torch.testing.assert_close(y.detach(), tensor(0.0, 0.0, 1.3 - 0.35, 0.0), rtol=0, atol=1e-7)
    (found,) = torch.autograd.grad(y[2], x, retain_graph=True)
    torch.testing.assert_close(found, tensor(-0.5, 0.7, 1.0), rtol=0, atol=1e-6)
    (found,) = torch.autograd.grad(y[3], x)
    torch.testing.assert_close(found, tensor(0.0, 0.0, 0.0), rtol=0, atol=1e-6)
