"""Estimation of the weights of networks, in hybrid models and in modules."""

import pytest
import torch
from torch import nn

from pynode.data import read
from pynode.fit import TableProblem, estimate

pytest.importorskip("pypesto", reason="pypesto searches")


def truth():
    pytest.importorskip("antimony", reason="antimony reads the model")
    from pynode.models import antimony

    return antimony("""
        J0: A -> B; k1*A;
        v3: B -> C; Vm*B/(Km + B);
        A = 5; B = 0; C = 0; k1 = 0.4; Vm = 1; Km = 0.5;
    """)


def measured(model):
    """B and C at thirteen times, exact."""
    t = torch.linspace(0, 12, 13, dtype=torch.float64)
    course = model.simulate(t)
    return read({"t": t.numpy(), "B": course["B"].numpy(), "C": course["C"].numpy()})


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def hybrid_problem():
    model = truth()
    hybrid = model.replace("v3", network(), inputs=["B"])
    return TableProblem(hybrid, measured(model), bounds={"k1": (1e-2, 10.0)}, noise=0.03)


def test_weights_are_parameters_without_a_sign():
    infos = {info.name: info for info in hybrid_problem().parameters}
    assert infos["k1"].scale == "log10"
    weights = [info for info in infos.values() if info.network]
    assert [info.name for info in weights][:2] == ["nets.v3.0.weight[0,0]", "nets.v3.0.weight[1,0]"]
    assert len(weights) == 10
    assert {info.network for info in weights} == {"nets.v3"}
    assert all(info.scale == "lin" and info.lower < 0 < info.upper for info in weights)


def test_gradients_reach_constants_and_weights():
    problem = hybrid_problem()
    theta = torch.tensor([0.1 * (-1) ** i for i in range(11)], dtype=torch.float64)
    theta[0] = -0.5
    value, gradient = problem.gradient(theta)
    for i in range(len(theta)):
        step = torch.zeros_like(theta)
        step[i] = 1e-3
        difference = (problem.objective(theta + step) - problem.objective(theta - step)) / 2e-3
        assert gradient[i].item() == pytest.approx(difference.item(), rel=1e-3, abs=1e-2)
    with torch.no_grad():
        other, also, _ = problem.gauss_newton(theta)
    assert float(other) == pytest.approx(float(value), rel=1e-6)
    assert torch.allclose(also, gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


def test_an_estimation_trains_the_network():
    problem = hybrid_problem()
    found = estimate(problem, starts=1, iterations=60)
    assert found.values["k1"] == pytest.approx(0.4, rel=0.05)
    trained = problem.trained_model(found.values)
    at = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    learned = trained.rate_over("v3", "B", at).detach()
    assert torch.allclose(learned, at / (0.5 + at), atol=0.1)
    text = str(found)
    assert "nets.v3    10 weights" in text
    assert "have no meaning one by one" in text
    assert "nets.v3.0.weight" not in text


class Decay(nn.Module):
    columns = ("y",)

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.k = nn.Parameter(torch.tensor(0.3))
        self.net = nn.Linear(1, 1)

    def forward(self, t, y):
        return -self.k * y + 0 * self.net(y)


def test_layers_of_a_module_are_a_network():
    data = read({"t": [0.0, 1.0, 2.0, 3.0, 4.0], "y": [1.0, 0.6, 0.4, 0.2, 0.1]})
    problem = TableProblem(Decay(), data, noise=0.1)
    networks = {info.name: info.network for info in problem.parameters}
    assert networks == {"k": "", "net.weight[0,0]": "net", "net.bias[0]": "net"}
    trained = problem.trained_model({"k": 0.7, "net.bias[0]": 2.0})
    assert trained.k.item() == pytest.approx(0.7)
    assert trained.net.bias.tolist() == [2.0]


def test_an_error_of_the_model_ends_a_search_with_its_words():
    class Breaks(Decay):
        calls = 0

        def forward(self, t, y):
            self.calls += 1
            if self.calls > 300:
                raise RuntimeError("the table of rates has an end")
            return -self.k * y

    data = read({"t": [0.0, 1.0, 2.0, 3.0, 4.0], "y": [1.0, 0.6, 0.4, 0.2, 0.1]})
    problem = TableProblem(Breaks(), data, noise=0.1, estimate=["k"], backend="torch")
    with pytest.raises((ValueError, RuntimeError), match="table of rates has an end"):
        estimate(problem, starts=1)
