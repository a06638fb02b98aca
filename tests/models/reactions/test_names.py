"""Parameters and networks of a model have names that a person reads."""

import pytest
import torch
from torch import nn

from pynode import solve
from pynode.models import antimony

pytest.importorskip("antimony", reason="antimony reads the models: pip install antimony")
pytest.importorskip("libsbml", reason="libsbml reads the models: pip install python-libsbml")

DOUBLE = torch.float64
TEXT = """
model chain
  J0: A -> B; k1*A + half*A;
  v3: B -> C; Vm*B/(Km + B);
  A = 5; B = 0; C = 0; k1 = 0.4; Vm = 1; Km = 0.5; half = 0.2;
end
"""
Y = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.1, 1.0]], dtype=DOUBLE)


def network(inputs=1):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def test_learned_constants():
    model = antimony(TEXT, learn={"k1": "log10", "half": "lin"})
    # half is a function of every module: torch allows no parameter of this name.
    assert [name for name, _ in model.named_parameters()] == ["learned.k1", "learned.half:"]
    assert model.learned["half"].item() == 0.2
    state = model.state_dict()
    state["learned.k1"] = torch.zeros(())
    other = antimony(TEXT, learn={"k1": "log10", "half": "lin"})
    other.load_state_dict(state)
    assert other.values[other.constants.index("k1")].item() == 1.0


def test_a_local_constant():
    """Its name has a dot, which torch forbids."""
    libsbml = pytest.importorskip("libsbml")
    from pynode.models import sbml
    from pynode.models.sbml_files.antimony_text import as_sbml

    document = libsbml.readSBMLFromString(as_sbml(TEXT))
    law = document.getModel().getReaction("J0").getKineticLaw()
    local = law.createLocalParameter()
    local.setId("k1")
    local.setValue(3.0)
    model = sbml(libsbml.writeSBMLToString(document), learn=["J0.k1"])
    assert [name for name, _ in model.named_parameters()] == ["learned.J0:k1"]
    assert model.learned["J0.k1"].item() == 3.0


def test_networks():
    model = antimony(TEXT).add_term("v3", network(), ["B"])
    more = model.add_term("v3", network(2), ["A", "B"])
    assert list(more.terms) == ["learned(v3)", "learned(v3, 2)"]
    names = {name for name, _ in more.named_parameters()}
    assert {"nets.v3.0.weight", "nets.v3:2.0.weight"} < names
    # A network in the place of both takes the first name.
    net = network()
    again = more.replace("v3", net, ["B"]).replace("v3", net, ["B"])
    assert list(again.terms) == ["learned(v3)"]
    assert "learned(v3)" in str(again)
    expected = nn.functional.softplus(net(Y[:, 1:2]))[:, 0] * Y[:, 1]
    assert torch.allclose(again.rates(0.0, Y)[:, 1], expected)


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_function_of_a_model_with_networks(engine):
    """It gives what ``quantities`` gives, and fields that call it can be solved."""
    if engine == "native":
        pytest.importorskip("numba", reason="the native engine needs numba")
    model = antimony(TEXT).replace("v3", network(), ["B"])
    function = model.function_of(["v3", "A + C"])
    zero = torch.zeros((), dtype=DOUBLE)
    right = model.quantities(["v3", "A + C"])(0.0, Y)
    assert torch.allclose(function(zero, Y, model.values, None), right)
    # A second formula of the same kind, made after the first one.
    assert torch.allclose(
        model.function_of(["2*v3"])(zero, Y, model.values, None), 2 * right[:, :1]
    )

    def field(t, y, p):
        return -function(t, y, p, None)[..., :1].expand(3)

    found = solve(field, Y[0], [0.0, 0.5], args=(model.values,), backend=engine, rtol=1e-8)
    slope = (found.y[-1] - Y[0])[0]
    assert -0.5 * float(right[0, 0]) < float(slope) < 0
