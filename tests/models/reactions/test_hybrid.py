"""Networks inside reaction models."""

import pickle

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
  J0: A -> B; k1*A;
  v3: B -> C; Vm*B/(Km + B);
  A = 5; B = 0; C = 0; k1 = 0.4; Vm = 1; Km = 0.5;
end
"""
Y = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, 1.0]], dtype=DOUBLE)
TIMES = torch.linspace(0, 10, 25, dtype=DOUBLE)


@pytest.fixture(scope="module")
def model():
    return antimony(TEXT)


def network(inputs=1, outputs=1):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs)).double()


def test_a_replaced_rate(model):
    net = network(2)
    hybrid = model.replace("v3", net, inputs=["B", "A"], scale=0.5)
    seen = torch.stack((Y[:, 1], Y[:, 0]), 1)
    expected = 0.5 * nn.functional.softplus(net(seen))[:, 0] * Y[:, 1]
    rates = hybrid.rates(0.0, Y)
    assert torch.allclose(rates[:, 1], expected)
    assert torch.allclose(rates[:, 0], model.rates(0.0, Y)[:, 0])
    assert torch.allclose(hybrid(0.0, Y)[:, 2], expected)
    assert torch.allclose(hybrid.quantities(["2*v3 + C"])(0.0, Y)[:, 0], 2 * expected + Y[:, 2])
    # The model stays as it is.
    assert torch.allclose(model.rates(0.0, Y)[:, 1], Y[:, 1] / (0.5 + Y[:, 1]))


def test_what_holds_by_construction(model):
    hybrid = model.replace("v3", network(), inputs=["A"])
    hybrid = hybrid.add_term("back", network(), ["C"], stoichiometry={"C": -2, "A": 2})
    torch.manual_seed(1)
    y = torch.rand(20, 3, dtype=DOUBLE)
    assert hybrid(0.0, y).sum(1).abs().max() < 1e-12
    assert bool((hybrid.rates(0.0, y) > 0).all())
    y[:, 1] = 0
    assert hybrid.rates(0.0, y)[:, 1].abs().max() == 0


def test_an_added_term(model):
    net = network()
    more = model.add_term("J0", net, ["A"], sign="free")
    expected = 0.4 * Y[:, 0] + net(Y[:, :1])[:, 0]
    assert torch.allclose(more.rates(0.0, Y)[:, 0], expected)


def test_a_reversible_rate(model):
    net = network(1, 2)
    hybrid = model.replace("v3", net, ["B"], sign="reversible")
    speeds = nn.functional.softplus(net(Y[:, 1:2]))
    expected = speeds[:, 0] * Y[:, 1] - speeds[:, 1] * Y[:, 2]
    assert torch.allclose(hybrid.rates(0.0, Y)[:, 1], expected)


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_training(model, engine, tmp_path):
    """The network learns a rate law from the course of the states."""
    if engine == "native":
        pytest.importorskip("numba", reason="the native engine needs numba")
    hybrid = model.replace("v3", network(), inputs=["B"])
    options = {"method": "rodas5p", "backend": engine}
    with torch.no_grad():
        data = solve(model, model.initial(), TIMES, args=(model.values,), **options).y
    optimizer = torch.optim.Adam(hybrid.parameters(), 0.05)
    losses = []
    for _ in range(60 if engine == "native" else 4):
        optimizer.zero_grad()
        found = solve(hybrid, hybrid.initial(), TIMES, args=(hybrid.values,), **options).y
        loss = (found - data).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * (0.2 if engine == "native" else 1.0)
    pytest.importorskip("matplotlib", reason="matplotlib draws the rate")
    hybrid.picture_of_rate("v3", "B", [0.0, 1.0, 2.0], tmp_path / "rate.png", law=model)
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")


def test_a_simulation_with_events():
    model = antimony(TEXT.replace("end", "at B > 1: A = A + 1;\nend"))
    hybrid = model.replace("v3", network(), inputs=["B"])
    found = hybrid.simulate([0.0, 10.0])
    assert abs(found["A"][-1] + found["B"][-1] + found["C"][-1] - 6) < 1e-5
    rate = hybrid.rates(10.0, found.y[-1])[1]
    assert torch.allclose(found["v3"][-1], rate)


def test_triggers_that_depend_on_a_learned_rate_are_refused():
    model = antimony(TEXT.replace("end", "at v3 < 0.1: A = A + 1;\nend"))
    hybrid = model.replace("v3", network(), inputs=["B"])
    with pytest.raises(ValueError, match=r"triggers of events depend on learned\(v3\)"):
        hybrid.simulate([0.0, 10.0])


def test_a_rate_over_a_state(model):
    values = torch.tensor([0.0, 0.5, 2.0], dtype=DOUBLE)
    assert torch.allclose(model.rate_over("v3", "B", values), values / (0.5 + values))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m.replace("v9", network(), ["A"]), "no reaction 'v9'"),
        (lambda m: m.replace("v3", network(), "A"), "a list"),
        (lambda m: m.replace("v3", network(), ["A"], sign="no"), "sign must be"),
        (lambda m: m.replace("v3", network(), ["J0"]).replace("J0", network(), ["v3"]), "learned"),
        (lambda m: m.add_term("A", network(), ["A"], {"A": 1}), "already a name"),
        (lambda m: m.add_term("new", network(), ["A"], {"X": 1}), "not X"),
        (lambda m: m.replace("v3", network(1, 2), ["A"])(0.0, Y), "one number for each"),
        (lambda m: m.replace("v3", network(), ["A"]).to_python(), "save the model"),
    ],
)
def test_what_makes_no_sense(model, change, message):
    with pytest.raises(ValueError, match=message):
        change(model)


def test_copies_and_learned_constants():
    learned = antimony(TEXT, learn={"k1": "log"})
    hybrid = learned.replace("v3", network(), ["B"])
    assert len(list(hybrid.parameters())) == 5
    assert torch.allclose(hybrid.values, learned.values)
    copied = pickle.loads(pickle.dumps(hybrid))
    assert torch.equal(copied(0.0, Y), hybrid(0.0, Y))


@pytest.mark.parametrize(("net", "inputs"), [(network(1), ["A", "B"]), (network(1).float(), ["B"])])
def test_a_network_that_does_not_fit(model, net, inputs):
    hybrid = model.replace("v3", net, inputs=inputs)
    with pytest.raises(ValueError, match=r"network of 'v3' cannot take its \d inputs"):
        hybrid(0.0, Y)
