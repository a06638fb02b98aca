"""Problems of PEtab 1 with closed forms."""

import math

import pytest
import torch

pytest.importorskip("petab")
pytest.importorskip("antimony")

from pynode.models import petab
from pynode.models.reactions.refusal import UnsupportedFeature
from tests.support.petab_problems import CHAIN, TANK, differences, version1

TIMES = (0.0, 1.0, 3.0)
K = [
    {"parameterId": "k1", "nominalValue": 0.4, "parameterScale": "log10"},
    {"parameterId": "k2", "nominalValue": 0.3, "parameterScale": "log"},
]


def read(path):
    return petab(path, backend="torch")


def a_of(t, a=1.0, k1=0.4):
    return a * math.exp(-k1 * t)


def b_of(t, a=1.0, b=0.0, k1=0.4, k2=0.3):
    return b * math.exp(-k2 * t) + a * k1 / (k2 - k1) * (math.exp(-k1 * t) - math.exp(-k2 * t))


def at(observable, time, value, condition="c", **more):
    return {
        "observableId": observable,
        "simulationConditionId": condition,
        "time": time,
        "measurement": value,
        **more,
    }


def observable(name, formula, noise, **more):
    return {"observableId": name, "observableFormula": formula, "noiseFormula": noise, **more}


def close(found, right, rtol=1e-8):
    torch.testing.assert_close(float(found), float(right), rtol=rtol, atol=1e-9)


def normal(value, right, sd):
    return 0.5 * ((value - right) / sd) ** 2 + math.log(sd) + 0.5 * math.log(2 * math.pi)


def test_normal_noise_and_scales(tmp_path):
    """theta has the scales of the parameters, and the gradient is that in theta."""
    measurements = [at("b", t, 0.3) for t in TIMES]
    problem = read(
        version1(
            tmp_path, CHAIN, K, [{"conditionId": "c"}], [observable("b", "B", 0.2)], measurements
        )
    )
    theta = problem.start
    torch.testing.assert_close(theta, torch.tensor([math.log10(0.4), math.log(0.3)]).double())
    close(problem.objective(theta), sum(normal(0.3, b_of(t), 0.2) for t in TIMES))
    value, slope = problem.gradient(theta)
    close(value, problem.objective(theta))
    torch.testing.assert_close(slope, differences(problem.objective, theta), rtol=1e-5, atol=1e-6)
    table = problem.predictions(theta)
    assert table["time"].tolist() == list(TIMES)
    assert table["observable"].tolist() == ["b"] * 3
    close(table["simulated"][2], b_of(3.0))


@pytest.mark.parametrize("transform", ["log", "log10"])
@pytest.mark.parametrize("distribution", ["normal", "laplace"])
def test_noise_models(tmp_path, transform, distribution):
    log = {"log": math.log, "log10": math.log10}[transform]
    base = {"log": 1.0, "log10": math.log(10)}[transform]
    kind = {"observableTransformation": transform, "noiseDistribution": distribution}
    problem = read(
        version1(
            tmp_path,
            CHAIN,
            K,
            [{"conditionId": "c"}],
            [observable("a", "A", "0.1 + 0.2*k2", **kind)],
            [at("a", t, 0.5) for t in TIMES],
        )
    )
    sd = 0.1 + 0.2 * 0.3
    right = 0.0
    for t in TIMES:
        residual = (log(0.5) - log(a_of(t))) / sd
        if distribution == "normal":
            cost = 0.5 * residual**2 + 0.5 * math.log(2 * math.pi)
        else:
            cost = abs(residual) + math.log(2)
        right += cost + math.log(sd * 0.5 * base)
    theta = problem.start
    close(problem.objective(theta), right)
    slope = problem.gradient(theta)[1]
    torch.testing.assert_close(slope, differences(problem.objective, theta), rtol=1e-5, atol=1e-5)


def test_conditions_in_one_batch(tmp_path):
    """Conditions set initial values and parameters, and rows have times of their own. An empty cell
    means the value of the model."""
    conditions = [
        {"conditionId": "c", "A": 2.0, "k1": "fast"},
        {"conditionId": "d", "k1": 0.1},
    ]
    parameters = [
        {"parameterId": "fast", "nominalValue": 0.9},
        {"parameterId": "k2", "nominalValue": 0.3},
    ]
    measurements = [at("b", 1.0, 0.1), at("b", 4.0, 0.1), at("b", 2.0, 0.1, "d")]
    problem = read(
        version1(tmp_path, CHAIN, parameters, conditions, [observable("b", "B", 1.0)], measurements)
    )
    found = problem.predictions(problem.start)["simulated"].tolist()
    right = [b_of(1.0, 2.0, k1=0.9), b_of(4.0, 2.0, k1=0.9), b_of(2.0, 1.0, k1=0.1)]
    torch.testing.assert_close(found, right, rtol=1e-8, atol=0)


def test_overrides_of_single_measurements(tmp_path):
    """Scales and noise differ between the measurements of one observable at one time."""
    parameters = [*K, {"parameterId": "s", "nominalValue": 3.0, "estimate": 1}]
    name = "observableParameter1_a*A + observableParameter2_a"
    measurements = [
        at("a", 1.0, 1.0, observableParameters="s;0.5", noiseParameters="0.1"),
        at("a", 1.0, 1.0, observableParameters="2;0", noiseParameters="k2"),
    ]
    problem = read(
        version1(
            tmp_path,
            CHAIN,
            parameters,
            [{"conditionId": "c"}],
            [observable("a", name, "noiseParameter1_a")],
            measurements,
        )
    )
    right = normal(1.0, 3 * a_of(1) + 0.5, 0.1) + normal(1.0, 2 * a_of(1), 0.3)
    close(problem.objective(problem.start), right)


def test_pre_equilibration(tmp_path):
    """A comes from the steady state of the first condition; B begins anew, and an empty cell keeps
    the state."""
    conditions = [
        {"conditionId": "before", "u": 4.0, "B": 0.0},
        {"conditionId": "c", "u": 1.0, "B": 2.0},
        {"conditionId": "d", "u": 1.0},
    ]
    parameters = [{"parameterId": "k", "nominalValue": 0.5, "parameterScale": "log10"}]
    rest = {"preequilibrationConditionId": "before"}
    measurements = [
        at("a", 0.0, 1.0, **rest),
        at("a", 2.0, 1.0, **rest),
        at("b", 0.0, 1.0, **rest),
        at("b", 1.0, 1.0, "d", **rest),
        at("a", math.inf, 1.0, **rest),
    ]
    problem = read(
        version1(
            tmp_path,
            TANK,
            parameters,
            conditions,
            [observable("a", "A", 1.0), observable("b", "B + 1", 1.0)],
            measurements,
        )
    )
    found = problem.predictions(problem.start)["simulated"].tolist()
    right = [8.0, 2 + 6 * math.exp(-1.0), 3.0, 1.0, 2.0]
    torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-9)
    theta = problem.start
    slope = problem.gradient(theta)[1]
    torch.testing.assert_close(slope, differences(problem.objective, theta), rtol=1e-6, atol=1e-6)


def test_priors(tmp_path):
    parameters = [
        {**K[0], "objectivePriorType": "parameterScaleNormal", "objectivePriorParameters": "0;0.5"},
        {**K[1], "objectivePriorType": "laplace", "objectivePriorParameters": "0.2;0.1"},
    ]
    problem = read(
        version1(
            tmp_path,
            CHAIN,
            parameters,
            [{"conditionId": "c"}],
            [observable("a", "A", 1.0)],
            [at("a", 0, 1)],
        )
    )
    theta = problem.start
    right = normal(math.log10(0.4), 0.0, 0.5) + abs(0.3 - 0.2) / 0.1 + math.log(0.2)
    close(-problem.log_prior(theta), right)
    close(problem.objective(theta), right - float(problem.log_likelihood(theta)))


def test_gauss_newton(tmp_path):
    """J^T W J with derivatives of values and noise, and the curvature of a prior."""
    parameters = [
        {**K[0], "objectivePriorType": "parameterScaleNormal", "objectivePriorParameters": "0;0.5"},
        K[1],
    ]
    path = version1(
        tmp_path,
        CHAIN,
        parameters,
        [{"conditionId": "c"}],
        [observable("b", "B", "0.1 + k2")],
        [at("b", t, 0.2) for t in TIMES],
    )
    pytest.importorskip("numba")
    problem = petab(path, backend="native")
    theta = problem.start
    value, slope, matrix = problem.gauss_newton(theta)
    close(value, problem.objective(theta))
    torch.testing.assert_close(slope, problem.gradient(theta)[1], rtol=1e-7, atol=1e-9)
    values = differences(lambda x: problem.simulated(x)[0], theta)
    noise = differences(lambda x: problem.simulated(x)[1], theta)
    width = problem.simulated(theta)[1]
    right = values.T @ (values / width[:, None] ** 2) + 2 * noise.T @ (noise / width[:, None] ** 2)
    right[0, 0] += 4.0
    torch.testing.assert_close(matrix, right, rtol=1e-5, atol=1e-6)


def test_several_theta_at_once(tmp_path):
    problem = read(
        version1(
            tmp_path,
            CHAIN,
            K,
            [{"conditionId": "c"}, {"conditionId": "d", "A": 3.0}],
            [observable("b", "B", 0.5)],
            [at("b", 1.0, 0.1), at("b", 2.0, 0.3, "d")],
        )
    )
    thetas = problem.start + torch.tensor([[0.0, 0.0], [0.3, -0.2], [-0.4, 0.1]])
    alone = torch.stack([problem.objective(theta) for theta in thetas])
    torch.testing.assert_close(problem.objective_batch(thetas), alone, rtol=1e-8, atol=0)
    values, slopes = problem.gradient_batch(thetas)
    torch.testing.assert_close(values, alone, rtol=1e-8, atol=0)
    torch.testing.assert_close(slopes[1], problem.gradient(thetas[1])[1], rtol=1e-6, atol=1e-8)


def test_a_simulation_that_fails(tmp_path):
    """A grows beyond all numbers: its objective is infinite, and the other is not."""
    burst = CHAIN.replace("cell*k1*A", "-cell*k1*A*A")
    problem = petab(
        version1(
            tmp_path,
            burst,
            K,
            [{"conditionId": "c"}],
            [observable("a", "A", 1.0)],
            [at("a", 2.0, 1.0)],
        ),
        backend="torch",
        rtol=1e-6,
        max_steps=500,
    )
    theta = problem.theta({"k1": 5.0})
    assert math.isinf(problem.objective(theta))
    value, slope = problem.gradient(theta)
    assert math.isinf(value)
    assert not slope.any()
    both = problem.objective_batch(torch.stack((theta, problem.theta({"k1": 0.1}))))
    assert torch.isinf(both).tolist() == [True, False]


def test_refusals(tmp_path):
    path = tmp_path / "problem.yaml"
    path.write_text("format_version: 3\n")
    with pytest.raises(UnsupportedFeature, match="format_version"):
        petab(path)
    rule = CHAIN.replace("B -> ;", "c := A + B; B -> ;")
    conditions = [{"conditionId": "c", "c": 2.0}]
    path = version1(tmp_path, rule, K, conditions, [observable("a", "A", 1.0)], [at("a", 1, 1)])
    with pytest.raises(UnsupportedFeature, match="sets 'c'"):
        petab(path)
