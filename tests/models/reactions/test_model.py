"""ReactionModel: names, values, rates, quantities, learned constants, rows."""

import math
import pickle

import pytest
import torch

from pynode import models, solve
from tests.support.cases import tensor
from tests.support.sbml_texts import antimony

ROBERTSON = """
model robertson
  J1: A => B; k1*A
  J2: 2 B => B + C; k2*B^2
  J3: B + C => A + C; k3*B*C
  total := A + B + C
  A = 1; B = 0; C = 0
  k1 = 0.04; k2 = 3e7; k3 = 1e4
end
"""
EXCHANGE = """
model exchange
  compartment cell = 2, outside = 8
  species S in cell, E in outside
  J: S -> E; k*cell*S
  S = 3; E = 0; k = 0.5; half = 0
  half = k/2
end
"""


def test_names_and_values():
    model = antimony(ROBERTSON)
    assert isinstance(model, models.ReactionModel)
    assert model.states == ("A", "B", "C")
    assert model.reactions == ("J1", "J2", "J3")
    values = dict(zip(model.constants, model.values.tolist()))
    assert values.items() >= {"k1": 0.04, "k2": 3e7, "k3": 1e4, "init(A)": 1.0}.items()


def test_derivatives_rates_and_stoichiometry():
    model = antimony(ROBERTSON)
    y = tensor(0.7, 2e-5, 0.3)
    rates = tensor(0.04 * 0.7, 3e7 * 4e-10, 1e4 * 2e-5 * 0.3)
    torch.testing.assert_close(model.rates(0.0, y), rates)
    expected = tensor([-1, 0, 1], [1, -1, -1], [0, 1, 0])
    assert model.stoichiometry.is_sparse
    torch.testing.assert_close(model.stoichiometry.to_dense(), expected)
    torch.testing.assert_close(model(0.0, y), expected @ rates)


def test_concentrations_follow_the_volumes():
    """The rate is an amount per time; each concentration changes by its own volume."""
    model = antimony(EXCHANGE)
    rate = 0.5 * 2 * 3
    torch.testing.assert_close(model(0.0, model.initial()), tensor(-rate / 2, rate / 8))


def test_quantities_by_name_formula_and_expression():
    model = antimony(ROBERTSON)
    t = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None]
    y = torch.rand(4, 3, dtype=torch.float64)
    found = model.quantities(["total", "A + 2*scale", "J1", model.expression("k1*time")], ["scale"])
    values = found(t, y, None, tensor(5.0))
    expected = torch.stack((y.sum(1), y[:, 0] + 10, 0.04 * y[:, 0], 0.04 * t[:, 0]), 1)
    torch.testing.assert_close(values, expected)


def test_quantities_of_constants_have_the_rows_of_the_states():
    model = antimony(EXCHANGE)
    assert model.quantities(["k", "half"])(0.0, torch.zeros(5, 2).double()).shape == (5, 2)


def test_formula_texts():
    model = antimony(EXCHANGE)
    y = tensor(3.0, 2.0)
    texts = ["log(S)", "log10(S)", "S**2 - E^2", "piecewise(1, S > E, 0)", "max(S, E, 7)", "exp(1)"]
    expected = tensor(math.log(3), math.log10(3), 5.0, 1.0, 7.0, math.e)
    torch.testing.assert_close(model.quantities(texts)(0.0, y), expected)
    with pytest.raises(ValueError, match="is no formula"):
        model.quantities(["S +"])


def test_unknown_names_are_refused():
    model = antimony(ROBERTSON)
    with pytest.raises(ValueError, match="names D, which the model does not have"):
        model.quantities(["A + D"])
    with pytest.raises(ValueError, match="'k9', which is no constant"):
        antimony(ROBERTSON, learn=["k9"])
    with pytest.raises(ValueError, match="must be 'lin', 'log' or 'log10'"):
        antimony(ROBERTSON, learn={"k1": "ln"})
    with pytest.raises(ValueError, match="no quantity of this name"):
        model.initial_with(["D"])


def test_constants_that_follow_from_others():
    """An initial assignment of a constant holds for all values of what it depends on."""
    model = antimony(EXCHANGE)
    assert "half" not in model.constants
    k = model.constants.index("k")
    p = model.values.clone().index_fill(0, torch.tensor(k), 4.0).requires_grad_()
    half = model.quantities(["half"])(0.0, model.initial(), p)[0]
    (gradient,) = torch.autograd.grad(half, p)
    assert half == 2 and gradient[k] == 0.5
    assert "half" in antimony(EXCHANGE, free=["half"]).constants


def test_start_values_can_be_replaced():
    """What depends on a replaced value follows; the value is in the unit of the name."""
    model = antimony("model m; S' = -S; R' = 0; S = 2; R = 3*S; end")
    start = model.initial_with(["S"])
    assert dict(zip(model.states, model.initial().tolist())) == {"S": 2, "R": 6}
    given = tensor([5.0], [7.0]).requires_grad_()
    y0 = start(None, given)
    torch.testing.assert_close(y0, torch.cat((given, 3 * given), 1))
    (gradient,) = torch.autograd.grad(y0.sum(), given)
    torch.testing.assert_close(gradient, tensor([4.0], [4.0]))


@pytest.mark.parametrize("scale", ["lin", "log", "log10"])
def test_learned_constants(scale):
    """The parameter is the constant in its scale, and gradients reach it."""
    model = antimony(ROBERTSON, learn={"k3": scale})
    (parameter,) = model.parameters()
    torch.testing.assert_close(model.values[model.constants.index("k3")], tensor(1e4)[0])
    model(0.0, tensor(1.0, 2.0, 3.0))[0].backward()
    factor = {"lin": 1.0, "log": 1e4, "log10": 1e4 * 2.302585092994046}[scale]
    torch.testing.assert_close(parameter.grad, 6 * tensor(factor)[0])


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_rows_have_constants_of_their_own(backend):
    if backend == "native":
        pytest.importorskip("llvmlite", reason="native code needs llvmlite")
    model = antimony("model decay; S => ; k*S; S = 2; k = 1; end")
    k = torch.linspace(0.5, 2, 3, dtype=torch.float64)
    p = model.values.repeat(3, 1)
    p[:, model.constants.index("k")] = k
    p.requires_grad_()
    y0 = model.initial(p)
    options = {"rtol": 1e-9, "atol": 1e-12, "batched": True, "backend": backend}
    solution = solve(model, y0, [0.0, 1.0], args=(p,), method="tsit5", **options)
    torch.testing.assert_close(solution.y[-1, :, 0], 2 * torch.exp(-k), rtol=1e-7, atol=0)
    (gradient,) = torch.autograd.grad(solution.y[-1].sum(), p)
    expected = -2 * torch.exp(-k)
    found = gradient[:, model.constants.index("k")]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_native_code_sees_a_changed_model():
    """The key of native code is what the model computes, not its class."""
    pytest.importorskip("llvmlite", reason="native code needs llvmlite")
    ends = []
    for law in ("k*S", "k*S^2"):
        model = antimony(f"model m; S => ; {law}; S = 1; k = 1; end")
        solution = solve(model, model.initial(), [0.0, 1.0], rtol=1e-9, backend="native")
        ends.append(solution.y[-1, 0])
    torch.testing.assert_close(torch.stack(ends), tensor(torch.e**-1, 0.5), rtol=1e-6, atol=0)


def test_models_pickle():
    model = antimony(ROBERTSON, learn=["k1"])
    copy = pickle.loads(pickle.dumps(model))
    y = tensor(0.5, 0.1, 0.4)
    torch.testing.assert_close(copy(0.0, y), model(0.0, y))


def test_times_at_which_the_rates_jump():
    """Conditions that are linear in the time, also through constants; those of states are not
    known in advance."""
    text = (
        "model m; S' = piecewise(1, time < 2*lag, 0) + piecewise(1, S < 3, 2); S = 0; lag = 2; end"
    )
    model = antimony(text)
    p = model.values.clone().requires_grad_()
    jumps = model.jumps(p)
    (gradient,) = torch.autograd.grad(jumps.sum(), p)
    assert jumps.tolist() == [4.0] and gradient[model.constants.index("lag")] == 2
    assert model.jumps(p.detach().repeat(3, 1)).shape == (3, 1)
