"""Problems of a model and a table: their objective, gradient and Gauss-Newton matrix."""

import math

import pytest
import torch

from pynode.data import Dataset, Trajectory
from pynode.fit import EstimationProblem, Prior, TableProblem
from tests.support.estimation import (
    K1,
    K2,
    Chain,
    ChainOfRows,
    chain,
    chain_data,
    chain_states,
    growth,
    growth_data,
)

TIGHT = {"rtol": 1e-9}
THETA = torch.tensor([math.log10(0.9), math.log10(0.3)], dtype=torch.float64)


def problem(model=chain, data=None, **options):
    return TableProblem(
        model, data or chain_data(sigma=0.05), **{"noise": 0.05, **TIGHT, **options}
    )


def slope(made, theta, step=1e-4):
    """The gradient by central differences."""
    units = step * torch.eye(len(theta), dtype=torch.float64)
    pairs = [(made.objective(theta + u), made.objective(theta - u)) for u in units]
    return torch.stack([(a - b) / (2 * step) for a, b in pairs])


def test_it_is_an_estimation_problem():
    assert isinstance(problem(), EstimationProblem)


def test_the_objective_is_the_negative_log_likelihood():
    data = chain_data(sigma=0.05)
    run = data.trajectories[0]
    made = problem(data=data)
    simulated = chain_states(run.t, 0.9, 0.3)
    # The first line is the initial state and no measurement.
    density = torch.distributions.Normal(simulated[1:], 0.05)
    expected = -density.log_prob(run.y[1:]).sum()
    assert float(made.objective(THETA)) == pytest.approx(float(expected), rel=1e-6)


def test_all_derivatives_agree():
    made = problem(noise="estimate", priors={"k1": Prior("normal", 0.0, 0.5)})
    theta = torch.cat((THETA, torch.tensor([-1.2, -1.1], dtype=torch.float64)))
    value, grad = made.gradient(theta)
    other, forward, matrix = made.gauss_newton(theta)
    assert torch.allclose(value, made.objective(theta)) and torch.allclose(value, other)
    assert torch.allclose(grad, forward, rtol=1e-6, atol=1e-6)
    assert torch.allclose(grad, slope(made, theta), rtol=1e-4, atol=1e-4)
    assert torch.allclose(matrix, matrix.T) and bool((torch.linalg.eigvalsh(matrix) > 0).all())


def test_the_matrix_is_the_hessian_where_the_residuals_vanish():
    made = problem(data=chain_data(), scales={"k1": "lin", "k2": "log"})
    theta = torch.tensor([K1, math.log(K2)], dtype=torch.float64)
    matrix = made.gauss_newton(theta)[2]
    step = 1e-4
    units = step * torch.eye(2, dtype=torch.float64)
    rows = [(made.gradient(theta + u)[1] - made.gradient(theta - u)[1]) / (2 * step) for u in units]
    assert torch.allclose(matrix, torch.stack(rows), rtol=1e-3, atol=1e-3 * float(matrix.max()))


@pytest.mark.parametrize("model", [Chain(), ChainOfRows()], ids=["one state", "rows alone"])
def test_functions_and_modules_are_the_same_model(model):
    found = problem(model).gauss_newton(THETA)
    for a, b in zip(found, problem().gauss_newton(THETA), strict=True):
        assert torch.allclose(a, b, rtol=1e-9)


def test_modules_for_rows_have_the_same_gradient():
    assert torch.allclose(problem(ChainOfRows()).gradient(THETA)[1], problem().gradient(THETA)[1])


def test_engines_agree():
    native = problem(backend="native").gauss_newton(THETA)
    made = problem(backend="torch")
    for a, b in zip(native, made.gauss_newton(THETA), strict=True):
        assert torch.allclose(a, b, rtol=1e-6)
    assert torch.allclose(native[1], made.gradient(THETA)[1], rtol=1e-5)


def test_a_model_that_cannot_be_translated_runs_in_torch():
    def awkward(t, y, k1=1.0, k2=0.5):
        float(t.detach())  # a number in Python
        return chain(t, y, k1, k2)

    made = problem(awkward)
    assert torch.allclose(made.gauss_newton(THETA)[1], problem().gauss_newton(THETA)[1], rtol=1e-5)
    assert made.engine.startswith("Engine: torch. ")
    assert problem().engine == "Engine: native code."


def test_runs_with_other_times_and_starts_add_up():
    times = [torch.tensor([0.0, 1.0, 4.0]).double(), torch.linspace(0, 9, 8).double()]
    data = chain_data(times, 0.05, starts=(1.0, 2.0))
    alone = [problem(data=Dataset(("A", "B"), "t", (run,))) for run in data.trajectories]
    together = problem(data=data).gauss_newton(THETA)
    parts = [one.gauss_newton(THETA) for one in alone]
    for whole, a, b in zip(together, *parts, strict=True):
        assert torch.allclose(whole, a + b, rtol=1e-6)


def test_missing_values_do_not_count():
    data = chain_data(sigma=0.05)
    run = data.trajectories[0]
    seen = run.seen.clone()
    seen[3, 1] = False
    wrong = run.y.clone()
    wrong[3, 1] = 1e6
    made = problem(data=Dataset(("A", "B"), "t", (Trajectory("", run.t, wrong, seen),)))
    lost = float(run.y[3, 1] - chain_states(run.t, 0.9, 0.3)[3, 1]) / 0.05
    less = 0.5 * lost**2 + math.log(0.05) + 0.5 * math.log(2 * math.pi)
    expected = float(problem().objective(THETA)) - less
    assert float(made.objective(THETA)) == pytest.approx(expected, rel=1e-6)


def test_conditions_reach_the_model():
    def heated(t, y, T, k1=1.0, k2=0.5):
        return chain(t, y, k1 * T, k2)

    runs = []
    for T in (1.0, 2.0):
        t = torch.linspace(0, 4, 9, dtype=torch.float64)
        y = torch.cat((chain_states(t, K1 * T), torch.full((9, 1), T, dtype=torch.float64)), 1)
        runs.append(Trajectory(f"T={T}", t, y, torch.ones_like(y, dtype=torch.bool)))
    data = Dataset(("A", "B", "T"), "t", tuple(runs))
    made = problem(heated, data, conditions=("T",))
    theta = torch.tensor([math.log10(K1), math.log10(K2)], dtype=torch.float64)
    assert [info.name for info in made.parameters] == ["k1", "k2"]
    assert float(made.gradient(theta)[1].abs().max()) < 1e-3  # the data are exact


def test_unknown_initial_values_are_parameters():
    made = problem(data=chain_data(sigma=0.05, starts=(1.0, 2.0)), initial={"A": "estimate"})
    names = [info.name for info in made.parameters]
    assert names == ["k1", "k2", "init(A)[run0]", "init(A)[run1]"]
    theta = torch.cat((THETA, torch.tensor([1.1, 1.9], dtype=torch.float64)))
    _, grad, _ = made.gauss_newton(theta)
    assert torch.allclose(grad, slope(made, theta), rtol=1e-4, atol=1e-3)
    assert torch.allclose(grad, made.gradient(theta)[1], rtol=1e-6)
    # The first lines of A are measurements now.
    assert len(made.predictions(theta).measured) == 2 * (12 + 12 + 1)


class Sensor(Chain):
    """The chain with a sensor of unknown gain for A + B."""

    observables = ("B", "signal")

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def observe(self, t, y):
        return torch.stack((y[1], self.gain * (y[0] + y[1])))


def test_a_module_says_what_is_measured():
    run = chain_data(sigma=0.05).trajectories[0]
    signal = 3 * run.y.sum(1, keepdim=True)
    data = Dataset(("signal",), "t", (Trajectory("", run.t, signal, run.seen[:, :1]),))
    made = problem(Sensor(), data, initial={"A": 1.0, "B": 0.0})
    names = ["k[0]", "k[1]", "gain"]
    assert [info.name for info in made.parameters] == names
    theta = torch.cat((THETA, torch.tensor([math.log10(2.5)], dtype=torch.float64)))
    simulated = 2.5 * chain_states(run.t, 0.9, 0.3).sum(1)
    # The initial state is known from elsewhere, so the first line is a measurement.
    expected = -torch.distributions.Normal(simulated, 0.05).log_prob(signal[:, 0]).sum()
    value, grad, _ = made.gauss_newton(theta)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert torch.allclose(grad, slope(made, theta), rtol=1e-4, atol=1e-3)
    assert torch.allclose(grad, made.gradient(theta)[1], rtol=1e-6)
    other = Dataset(("C",), "t", data.trajectories)
    with pytest.raises(
        ValueError, match="column 'C', which the model does not list: it has B, signal"
    ):
        problem(Sensor(), other, initial={"A": 1.0, "B": 0.0})


def test_relative_errors_are_those_of_the_logarithm():
    data = growth_data(0.0)
    run = data.trajectories[0]
    made = problem(growth, data, relative=("y",), noise=0.1, scales={"k": "lin"})
    theta = torch.tensor([1.3], dtype=torch.float64)
    density = torch.distributions.LogNormal((1.3 * run.t[1:]).log(), 0.1)
    expected = -density.log_prob(run.y[1:, 0]).sum()
    assert float(made.objective(theta)) == pytest.approx(float(expected), rel=1e-6)
    value, grad, _ = made.gauss_newton(theta)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert torch.allclose(grad, slope(made, theta), rtol=1e-5)


def test_residuals_are_the_objective_but_for_a_constant():
    made = problem(noise="estimate", priors={"k2": Prior("normal", 0.0, 1.0)})
    points = torch.tensor([[-0.1, -0.6, -1.2, -1.1], [0.1, -0.4, -1.5, -0.9]], dtype=torch.float64)
    squares = [0.5 * float(made.residuals(x).square().sum()) for x in points]
    values = [float(made.objective(x)) for x in points]
    assert squares[0] - squares[1] == pytest.approx(values[0] - values[1], rel=1e-6)
    x = points[0].clone().requires_grad_()
    (grad,) = torch.autograd.grad(0.5 * made.residuals(x).square().sum(), x)
    assert torch.allclose(grad, made.gradient(points[0])[1], rtol=1e-6, atol=1e-6)


def test_what_cannot_be_simulated_has_an_infinite_objective():
    def explosion(t, y, k=1.0):
        return k * y * y

    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    y = (1 / (1 - 0.4 * t))[:, None]
    data = Dataset(("y",), "t", (Trajectory("", t, y, torch.ones_like(y, dtype=torch.bool)),))
    made = problem(explosion, data, scales={"k": "lin"})
    bad = torch.tensor([2.0], dtype=torch.float64)
    assert math.isinf(made.objective(bad)) and math.isinf(made.gradient(bad)[0])
    value, grad, matrix = made.gauss_newton(bad)
    assert math.isinf(value) and not grad.any() and not matrix.any()
    assert math.isfinite(made.objective(torch.tensor([0.4], dtype=torch.float64)))
