"""Rate constants, reaction networks and hybrid fields: against what is known in closed form,
conserving, learned."""

import pytest
import torch
from torch import nn

from pynode import solve
from pynode.core.reaction_equations import GAS_CONSTANT, sides
from pynode.nn import CRNN, Arrhenius, HybridField, NeuralODE, RateConstants, ReactionNetwork
from pynode.problems import get
from tests.support.cases import directional, tensor

ROBERTSON = ["A -> B", "2 B -> B + C", "B + C -> A + C"]
TIGHT = {"rtol": 1e-8, "atol": 1e-12}


def robertson():
    return ReactionNetwork.of(ROBERTSON, "ABC", RateConstants([0.04, 3e7, 1e4]))


def thermal(**options):
    """Robertson's reactions with constants that depend on the temperature."""
    constants = {"A": [4e4, 3e9, 5e5], "b": [0.0, 0.2, -0.3], "Ea": [6e4, 2e4, 1.5e4]}
    return ReactionNetwork.of(
        ROBERTSON, "ABC", Arrhenius(**{**constants, **options}, reference=500.0)
    )


def test_arrhenius_equation():
    A, b, Ea = (tensor(*values) for values in ((1e13, 3e5), (0.5, -1.0), (2e5, 4e4)))
    law = Arrhenius(A, b, Ea, learn_b=True)
    T = tensor(300.0, 1000.0, 2500.0)
    expected = torch.stack([A * s**b * torch.exp(-Ea / (8.314462618 * s)) for s in T])
    torch.testing.assert_close(law(T), expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(law(300.0), expected[0], rtol=1e-8, atol=0)
    torch.testing.assert_close(law.log10_A, A.log10(), rtol=1e-12, atol=0)
    torch.testing.assert_close(law.Ea, Ea, rtol=1e-12, atol=0)
    # What is learned is the constant at the reference, whatever its activation energy.
    with torch.no_grad():
        law.activation *= 1.3
    torch.testing.assert_close(law(1000.0), expected[1], rtol=1e-8, atol=0)
    assert law.Ea[0].item() == pytest.approx(2.6e5) and law.log10_A[0] > 15


def test_what_is_known_stays():
    """Masks hold A or Ea of some reactions through an optimiser's steps, with weight decay."""
    law = Arrhenius([1e3, 1e5], 0.0, [1e4, 5e4], learn_A=[True, False], learn_Ea=[False, True])
    constants = RateConstants([2.0, 3e8], known=[True, False])
    parameters = [p for p in (*law.parameters(), *constants.parameters()) if p.requires_grad]
    assert len(parameters) == 3  # b is not learned at all
    optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (law(800.0).log().sum() + constants().log().sum()).backward()
        optimizer.step()
    (A, Ea), k = (x.tolist() for x in (law.log10_A, law.Ea)), constants().tolist()
    assert A[1] == pytest.approx(5.0, rel=1e-12) and A[0] != pytest.approx(3.0, rel=1e-4)
    assert Ea[0] == pytest.approx(1e4, rel=1e-12) and Ea[1] != pytest.approx(5e4, rel=1e-4)
    assert k[0] == pytest.approx(2.0, rel=1e-12) and 0 < k[1] < 2.9e8
    assert GAS_CONSTANT == pytest.approx(8.314462618)


def test_it_is_robertsons_problem():
    problem, y = get("robertson"), torch.rand(5, 3, dtype=torch.float64)
    network = robertson()
    torch.testing.assert_close(network(0.0, y), problem.field(0.0, y), rtol=1e-12, atol=1e-12)
    matrices = ReactionNetwork(
        [[-1, 1, 0], [0, -1, 1], [1, -1, 0]],
        [[1, 0, 0], [0, 2, 0], [0, 1, 1]],
        RateConstants([0.04, 3e7, 1e4]),
    )
    assert torch.equal(matrices(0.0, y), network(0.0, y))


def test_reactions_as_text():
    for text in ("A + A -> 2 B + B", "2 A->B +B+ B"):
        assert sides(text) == ({"A": 2}, {"B": 3})
    assert sides("-> A") == ({}, {"A": 1})


def test_conservation():
    """2 A -> B, B + C -> D keeps A + 2 B + 2 D and C + D: in the equations to rounding, and along a
    stiff solve."""
    network = ReactionNetwork.of(["2 A -> B", "B + C -> D"], "ABCD", RateConstants([1e4, 3.0]))
    rows, y0 = network.conserved(), tensor(1.0, 0.0, 0.4, 0.1)
    assert rows.shape == (2, 4)
    for known in (tensor(1.0, 2.0, 0.0, 2.0), tensor(0.0, 0.0, 1.0, 1.0)):
        torch.testing.assert_close(rows.T @ (rows @ known), known, rtol=1e-12, atol=1e-12)
    y = torch.rand(50, 4, dtype=torch.float64)
    assert (network(0.0, y) @ rows.T).abs().max() < 1e-15 * network.reaction_rates(
        0.0, y
    ).abs().max() * 4
    for method in ("qndf", "rodas5p", "tsit5"):
        with torch.no_grad():
            path = solve(network, y0, [0.0, 0.1, 1.0], method=method, rtol=1e-4, atol=1e-7).y
        assert ((path - y0) @ rows.T).abs().max() < 1e-13


def test_conservation_in_float32():
    """A singular value that is zero is 1e-7 there; of seven species in five reactions, H and O and
    what no reaction touches."""
    reactions = [
        "H2 + O2 -> H2O2",
        "H2O2 -> 2 OH",
        "2 OH -> H2O + O",
        "O + H2 -> OH + H",
        "H + O2 -> OH + O",
    ]
    species = ["H2", "O2", "H2O2", "OH", "H2O", "O", "H"]
    single, double = (
        ReactionNetwork.of(reactions, species, RateConstants([1.0] * 5, dtype=dtype)).conserved()
        for dtype in (torch.float32, torch.float64)
    )
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(single.T @ single, (double.T @ double).float(), rtol=0, atol=1e-6)
    for known in (
        tensor(2.0, 0.0, 2.0, 1.0, 2.0, 0.0, 1.0),
        tensor(0.0, 2.0, 2.0, 1.0, 1.0, 1.0, 0.0),
    ):
        torch.testing.assert_close(
            single.T @ (single @ known.float()), known.float(), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("method", ["fbdf", "rodas5p"])
def test_gradients_at_several_temperatures(method):
    """Rows with steps of their own, a temperature each; float64 differences, from a start where
    species are zero."""
    network, T = thermal(), tensor(450.0, 500.0, 560.0)
    y0 = tensor(1.0, 0.0, 0.0).expand(3, 3)
    leaves = [p for p in network.parameters() if p.requires_grad]

    def loss():
        found = solve(
            network, y0, [0.0, 1.0, 40.0], args=(T,), method=method, batched=True, **TIGHT
        ).y
        return (found[1:] * tensor(1.0, 1e4, 3.0)).square().sum()

    exact, difference = directional(loss, leaves, 1e-4)
    assert difference == pytest.approx(exact, rel=2e-3)
    single = solve(thermal(), y0[1], [0.0, 1.0, 40.0], args=(500.0,), method=method, **TIGHT).y[-1]
    profile = solve(
        thermal(), y0[1], [0.0, 1.0, 40.0], args=(lambda t: 500.0 + 0 * t,), method=method, **TIGHT
    ).y[-1]
    assert torch.equal(single, profile) and abs(single.sum() - 1) < 1e-10


def test_a_temperature_in_time_for_rows_with_steps_of_their_own():
    """The rows' own times come as (rows, 1), also with further dimensions; each row is what it is
    alone."""
    y0 = torch.rand(2, 3, 3, dtype=torch.float64) * tensor(1.0, 1e-5, 1.0)

    def ramp(t):
        return 500.0 + 2000.0 * t

    options = {"args": (ramp,), "method": "fbdf", "rtol": 1e-8, "atol": 1e-11}
    with torch.no_grad():
        whole = solve(thermal(), y0, [0.0, 0.02], batched=True, **options).y[-1]
        rows = solve(thermal(), y0[:, 0], [0.0, 0.02], batched=True, **options).y[-1]
        for i in range(2):
            alone = solve(thermal(), y0[i, 0], [0.0, 0.02], **options).y[-1]
            torch.testing.assert_close(rows[i], alone, rtol=1e-5, atol=1e-9)
            torch.testing.assert_close(whole[i, 0], alone, rtol=1e-5, atol=1e-9)
    cold = solve(thermal(), y0[1, 0], [0.0, 0.02], **{**options, "args": (500.0,)}).y[-1]
    assert not torch.allclose(cold, alone, rtol=1e-2)


def test_constants_are_learned_from_a_stiff_reaction():
    """Robertson's three constants, started off by factors of 2 to 5, from noiseless data, through
    FBDF."""
    y0, t = tensor(1.0, 0.0, 0.0), torch.logspace(-4, 3, 12, dtype=torch.float64)
    t = torch.cat((torch.zeros(1), t))
    scale = tensor(1.0, 3.65e-5, 0.5)
    with torch.no_grad():
        data = solve(robertson(), y0, t, method="fbdf", **TIGHT).y
    network = ReactionNetwork.of(ROBERTSON, "ABC", RateConstants([0.1, 1e7, 2e4]))
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        y = solve(network, y0, t, method="fbdf", rtol=1e-6, atol=1e-10).y
        loss = ((y - data) / scale).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(network.rates(), tensor(0.04, 3e7, 1e4), rtol=1e-2, atol=0)


def test_a_crnn_finds_the_orders():
    """2 A -> B at the rate 1.5 A^2, from three starts."""
    y0, t = tensor((1.0, 0.0), (0.5, 0.2), (2.0, 0.1)), torch.linspace(0, 2, 9)
    truth = ReactionNetwork.of(["2 A -> B"], "AB", RateConstants([1.5]))
    with torch.no_grad():
        data = solve(truth, y0, t, method="tsit5").y
    crnn = CRNN(2, 1, most=2.5)
    with torch.no_grad():
        crnn.stoichiometry.copy_(tensor((-4.0, 0.5)))
        # No order above the largest.
        torch.testing.assert_close(crnn(0.0, tensor(0.5, 2.0)), 0.5**2.5 * tensor(-4.0, 0.5))
        crnn.stoichiometry.copy_(tensor((-1.0, 0.5)))
    model = NeuralODE(crnn, t, method="tsit5", rtol=1e-6, atol=1e-8, last_only=False)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=25, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (model(y0) - data).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(crnn.stoichiometry.detach(), tensor((-2.0, 1.0)), rtol=0, atol=0.02)
    torch.testing.assert_close(crnn.orders.detach()[0, 0], tensor(2.0)[0], rtol=0, atol=0.02)


class Quadratic(nn.Module):
    """A network that can be checked: every entry squared, then a matrix."""

    def __init__(self, n, m):
        super().__init__()
        self.map = nn.Linear(n, m, bias=False).double()

    def forward(self, y):
        return self.map(y.square())


def test_a_hybrid_field_is_the_sum():
    known, network = robertson(), Quadratic(3, 1)
    y, scale, rate, into = (
        torch.rand(5, 3, dtype=torch.float64),
        tensor(1.0, 1e-5, 1.0),
        0.3,
        tensor((0.0,), (-1.0,), (1.0,)),
    )
    field = HybridField(known, network, scale=scale, rate=rate, into=into)
    term = rate * (y / scale).square() @ network.map.weight.T
    torch.testing.assert_close(
        field(0.0, y), known(0.0, y) + torch.cat((0 * term, -term, term), -1), rtol=1e-12, atol=1e-9
    )
    torch.testing.assert_close(field.unknown(0.0, y), term, rtol=1e-12, atol=0)
    assert len(list(field.parameters())) == 2
    assert list(HybridField(lambda t, y, k: -k * y, network).state_dict()) == [
        "scale",
        "rate",
        "network.map.weight",
    ]
    timed = HybridField(lambda t, y, k: -k * y, nn.Bilinear(1, 3, 3).double())
    assert timed(tensor(2.0).expand(5, 1), y, 3.0).shape == (5, 3)


@pytest.mark.parametrize("method", ["qndf", "rodas5p"])
def test_a_hybrid_field_learns_the_missing_term(method):
    """A stiff known decay, 2000 times faster than what is missing, a cubic loss of the slow
    state."""

    def known(t, y):
        return torch.stack((-y[..., 0], -2000 * (y[..., 1] - y[..., 0])), -1)

    def truth(t, y):
        return known(t, y) - torch.stack((1.5 * y[..., 0] ** 3, 0 * y[..., 1]), -1)

    y0, t = tensor((2.0, 0.0), (1.0, 0.0), (0.5, 1.0)), torch.linspace(0, 1.5, 7)
    with torch.no_grad():
        data = solve(truth, y0, t, method=method).y
    net = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1)).double()
    field = HybridField(known, net, scale=1.0, rate=2.0, into=tensor((1.0,), (0.0,)))
    model = NeuralODE(field, t, method=method, rtol=1e-5, atol=1e-7, last_only=False)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (model(y0) - data).square().mean()
        loss.backward()
        return loss

    before = float(closure())
    optimizer.step(closure)
    assert float(closure()) < 0.05 * before


def test_mistakes_are_told():
    for call, message in (
        (
            lambda: RateConstants([1.0, -2.0]),
            r"k must be positive and finite, one value a reaction",
        ),
        (lambda: RateConstants([1.0, 2.0], known=[True]), None),
        (
            lambda: RateConstants([1.0, 2.0], known=[1, 0]),
            "known must be True, False or a bool for each of the 2 reactions",
        ),
        (
            lambda: Arrhenius([1.0, 2.0], Ea=[1.0, 2.0, 3.0]),
            "Ea must be finite, a number or one for each of the 2",
        ),
        (lambda: Arrhenius([1.0], reference=-3.0), "reference must be a temperature in K"),
        (
            lambda: ReactionNetwork([[-1, 1]], [[0.5, 0]], RateConstants([1.0])),
            "CRNN learns real orders",
        ),
        (
            lambda: ReactionNetwork([[-1, 1]], [[1, 0, 0]], RateConstants([1.0])),
            r"not \(1, 2\) and \(1, 3\)",
        ),
        (
            lambda: ReactionNetwork.of(["A -> D"], "AB", RateConstants([1.0])),
            "name D, not among the species A, B",
        ),
        (
            lambda: ReactionNetwork.of(["H+ + OH- -> W"], "HW", RateConstants([1.0])),
            r"'H\+ \+ OH-'.* because of ''",
        ),
        (
            lambda: ReactionNetwork.of(["1.5 A -> B"], "AB", RateConstants([1.0])),
            "whole numbers before names",
        ),
        (lambda: ReactionNetwork.of(["A B -> A"], "AB", RateConstants([1.0])), "because of 'A B'"),
        (
            lambda: ReactionNetwork.of(["-1 A -> B"], "AB", RateConstants([1.0])),
            "because of '-1 A'",
        ),
        (
            lambda: ReactionNetwork.of(["A <-> B"], "AB", RateConstants([1.0])),
            "write a reversible one as two",
        ),
        (lambda: HybridField(robertson(), nn.Linear(3, 3), scale=0.0), "scale must be positive"),
        (
            lambda: HybridField(robertson(), nn.Linear(3, 1), into=[1.0, 0.0, 0.0]),
            "into is a matrix",
        ),
    ):
        if message is None:
            call()  # one bool serves all
            continue
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"rates must be an nn\.Module"):
        ReactionNetwork([[-1, 1]], [[1, 0]], [1.0])
    with pytest.raises(TypeError, match=r"network must be an nn\.Module"):
        HybridField(robertson(), lambda y: y)
    with pytest.raises(TypeError, match=r"known must be an nn\.Module or a function"):
        HybridField(1.0, nn.Linear(1, 1))
