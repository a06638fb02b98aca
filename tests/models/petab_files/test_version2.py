"""Problems of PEtab 2 with closed forms."""

import math

import pytest
import torch

pytest.importorskip("petab")
pytest.importorskip("antimony")

from pynode.models import petab
from pynode.models.reactions.refusal import UnsupportedFeature
from tests.support.petab_problems import CHAIN, TANK, differences, version2

BOUNDS = {"lowerBound": 0.01, "upperBound": 10.0, "estimate": "true"}
K = [{"parameterId": "k", "nominalValue": 0.5, **BOUNDS}]


def read(path):
    return petab(path, backend="torch")


def observable(name, formula, noise=1.0, **more):
    return {"observableId": name, "observableFormula": formula, "noiseFormula": noise, **more}


def at(observable, time, value=1.0, **more):
    return {
        "observableId": observable,
        "experimentId": "e",
        "time": time,
        "measurement": value,
        **more,
    }


def change(condition, target, value):
    return {"conditionId": condition, "targetId": target, "targetValue": value}


def period(time, condition):
    return {"experimentId": "e", "time": time, "conditionId": condition}


def test_periods(tmp_path):
    """A steady state, then a change of u, then one that depends on the state. A measurement at the
    time of a change comes after it."""
    problem = read(
        version2(
            tmp_path,
            TANK,
            parameters=K,
            conditions=[
                change("rest", "u", 2.0),
                change("dose", "u", "3*k"),
                change("jump", "A", "2*A + k"),
                change("jump", "u", 0.0),
            ],
            experiments=[period("-inf", "rest"), period(0.0, "dose"), period(2.0, "jump")],
            observables=[observable("a", "A")],
            measurements=[at("a", 0.0), at("a", 1.0), at("a", 2.0), at("a", 3.0)],
        )
    )
    found = problem.predictions(problem.start)["simulated"].tolist()
    first = 3 + math.exp(-0.5)
    second = 2 * (3 + math.exp(-1.0)) + 0.5
    right = [4.0, first, second, second * math.exp(-0.5)]
    torch.testing.assert_close(found, right, rtol=1e-8, atol=0)
    theta = problem.start
    slope = problem.gradient(theta)[1]
    torch.testing.assert_close(slope, differences(problem.objective, theta), rtol=1e-6, atol=1e-6)


def test_no_experiment_and_log_normal_noise(tmp_path):
    line = {"observableId": "a", "time": 1.0, "measurement": 0.5}
    problem = read(
        version2(
            tmp_path,
            CHAIN,
            parameters=[{"parameterId": "k1", "nominalValue": 0.4, **BOUNDS}],
            observables=[observable("a", "A", 0.3, noiseDistribution="log-normal")],
            measurements=[line],
        )
    )
    residual = (math.log(0.5) + 0.4) / 0.3
    right = 0.5 * residual**2 + math.log(0.3 * 0.5 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(float(problem.objective(problem.start)), right, rtol=1e-8, atol=0)


def test_placeholders(tmp_path):
    problem = read(
        version2(
            tmp_path,
            CHAIN,
            parameters=[{"parameterId": "k1", "nominalValue": 0.4, **BOUNDS}],
            observables=[
                observable(
                    "a", "scale*A", "sd", observablePlaceholders="scale", noisePlaceholders="sd"
                )
            ],
            measurements=[
                {
                    "observableId": "a",
                    "time": 1.0,
                    "measurement": 0.5,
                    "observableParameters": 2.0,
                    "noiseParameters": "k1",
                }
            ],
        )
    )
    values, noise = problem.simulated(problem.start)
    torch.testing.assert_close(values, torch.tensor([2 * math.exp(-0.4)]).double())
    torch.testing.assert_close(noise, torch.tensor([0.4]).double())


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("normal", "1;2"),
        ("log-normal", "0.2;0.5"),
        ("laplace", "1;0.3"),
        ("log-laplace", "0;0.4"),
        ("gamma", "2;0.5"),
        ("chisquare", "3"),
        ("exponential", "0.7"),
        ("rayleigh", "0.8"),
        ("cauchy", "1;0.5"),
        ("log-uniform", "0.1;5"),
        ("uniform", "0.1;5"),
    ],
)
def test_a_prior_integrates_to_one_between_its_bounds(tmp_path, kind, numbers):
    prior = {"priorDistribution": kind, "priorParameters": numbers}
    bounds = {"lowerBound": 0.2, "upperBound": 4.0, "estimate": "true"}
    problem = read(
        version2(
            tmp_path,
            CHAIN,
            parameters=[{"parameterId": "k1", "nominalValue": 0.4, **bounds, **prior}],
            observables=[observable("a", "A")],
            measurements=[{"observableId": "a", "time": 1.0, "measurement": 0.5}],
        )
    )
    nodes = torch.linspace(0.2, 4.0, 20001, dtype=torch.float64)
    found = problem.parameters[0].prior
    density = torch.exp(found.log_density(nodes, nodes))
    torch.testing.assert_close(float(torch.trapezoid(density, nodes)), 1.0, rtol=1e-4, atol=0)


def test_events_and_periods(tmp_path):
    """The change of the period at t = 1 comes before the event of the model at that time."""
    model = TANK.replace("end", "at (time >= 1): A = 2*A;\nend", 1)
    problem = read(
        version2(
            tmp_path,
            model,
            parameters=K,
            conditions=[change("begin", "u", 0.0), change("set", "A", 3.0)],
            experiments=[period(0.0, "begin"), period(1.0, "set")],
            observables=[observable("a", "A")],
            measurements=[at("a", 0.5), at("a", 1.0), at("a", 2.0)],
        )
    )
    found = problem.predictions(problem.start)["simulated"].tolist()
    torch.testing.assert_close(found, [0.0, 6.0, 6 * math.exp(-0.5)], rtol=1e-8, atol=1e-9)


def test_refusals(tmp_path):
    path = version2(tmp_path, CHAIN, parameters=K, observables=[observable("a", "A")])
    text = path.read_text()
    path.write_text(text.replace("language: sbml", "language: bngl"))
    with pytest.raises(UnsupportedFeature, match="'bngl'"):
        petab(path)


def test_a_steady_state_with_events(tmp_path):
    """A rises to u / k = 4 and opens a valve on its way, which stays open afterwards."""
    model = TANK.replace("end", "v = 0; at (A > 1): v = 1; B' = v - B;\nend", 1)
    model = model.replace("B -> ; cell*0.1*B;", "").replace("species A in cell, B in cell;", "")
    model = model.replace("compartment cell = 1;", "compartment cell = 1; species A in cell;")
    problem = read(
        version2(
            tmp_path,
            model,
            parameters=K,
            conditions=[change("rest", "u", 2.0), change("dose", "u", 0.0)],
            experiments=[period("-inf", "rest"), period(0.0, "dose")],
            observables=[observable("a", "A"), observable("b", "B")],
            measurements=[at("a", 0.0), at("a", 1.0), at("b", 3.0), at("b", math.inf)],
        )
    )
    found = problem.predictions(problem.start)["simulated"].tolist()
    torch.testing.assert_close(found, [4.0, 4 * math.exp(-0.5), 1.0, 1.0], rtol=1e-7, atol=1e-8)
