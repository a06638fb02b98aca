"""Priors of both versions against scipy's densities: values and gradients, on every scale."""

import math

import pytest
import torch

pytest.importorskip("petab")
pytest.importorskip("antimony")
pytest.importorskip("scipy")

from scipy import stats

from pynode.models import petab
from tests.support.petab_problems import CHAIN, differences, version1, version2

AT = 0.4
LOW = 0.2
HIGH = 4.0
TO_SCALE = {"lin": float, "log": math.log, "log10": math.log10}
FROM_SCALE = {"lin": lambda x: x, "log": math.exp, "log10": lambda x: 10**x}

# Kind -> (numbers, distribution, whether it is one of theta).
VERSION1 = {
    "uniform": ("0.1;5", stats.uniform(0.1, 4.9), False),
    "normal": ("1;2", stats.norm(1, 2), False),
    "laplace": ("1;0.3", stats.laplace(1, 0.3), False),
    "logNormal": ("0.2;0.5", stats.lognorm(0.5, scale=math.exp(0.2)), False),
    "logLaplace": ("0.2;0.5", stats.loglaplace(1 / 0.5, scale=math.exp(0.2)), False),
    "parameterScaleUniform": ("-3;5", stats.uniform(-3, 8), True),
    "parameterScaleNormal": ("0.1;0.5", stats.norm(0.1, 0.5), True),
    "parameterScaleLaplace": ("0.1;0.5", stats.laplace(0.1, 0.5), True),
}
# Kind -> (numbers, distribution before the bounds cut it).
VERSION2 = {
    "uniform": ("0.1;5", stats.uniform(0.1, 4.9)),
    "log-uniform": ("0.1;5", stats.loguniform(0.1, 5)),
    "normal": ("1;2", stats.norm(1, 2)),
    "log-normal": ("0.2;0.5", stats.lognorm(0.5, scale=math.exp(0.2))),
    "laplace": ("1;0.3", stats.laplace(1, 0.3)),
    "log-laplace": ("0.2;0.5", stats.loglaplace(1 / 0.5, scale=math.exp(0.2))),
    "gamma": ("2;0.5", stats.gamma(2, scale=0.5)),
    "chisquare": ("3", stats.chi2(3)),
    "exponential": ("0.7", stats.expon(scale=0.7)),
    "rayleigh": ("0.8", stats.rayleigh(scale=0.8)),
    "cauchy": ("1;0.5", stats.cauchy(1, 0.5)),
}


def check(problem, log_density):
    """The prior, its part of the objective and its gradient. log_density: of theta as a float."""
    theta = problem.start
    right = log_density(float(theta[0]))
    assert float(problem.log_prior(theta)) == pytest.approx(right, rel=1e-12)
    likelihood = float(problem.log_likelihood(theta))
    assert float(problem.objective(theta)) == pytest.approx(-right - likelihood, rel=1e-10)

    def whole(x):
        values = [-log_density(float(one)) - float(problem.log_likelihood(x)) for one in x]
        return torch.tensor(values, dtype=torch.float64).squeeze(0)

    slope = problem.gradient(theta)[1]
    torch.testing.assert_close(slope, differences(whole, theta), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", TO_SCALE)
@pytest.mark.parametrize("kind", VERSION1)
def test_version_1(tmp_path, kind, scale):
    numbers, distribution, of_theta = VERSION1[kind]
    parameter = {
        "parameterId": "k1",
        "nominalValue": AT,
        "parameterScale": scale,
        "lowerBound": LOW,
        "upperBound": HIGH,
        "objectivePriorType": kind,
        "objectivePriorParameters": numbers,
    }
    path = version1(
        tmp_path,
        CHAIN,
        [parameter],
        [{"conditionId": "c"}],
        [{"observableId": "a", "observableFormula": "A", "noiseFormula": 1.0}],
        [{"observableId": "a", "simulationConditionId": "c", "time": 1, "measurement": 0.5}],
    )

    def log_density(theta):
        if of_theta:
            return distribution.logpdf(theta)
        return distribution.logpdf(FROM_SCALE[scale](theta))

    problem = petab(path, backend="torch")
    assert float(problem.start[0]) == pytest.approx(TO_SCALE[scale](AT))
    check(problem, log_density)


@pytest.mark.parametrize("kind", VERSION2)
def test_version_2(tmp_path, kind):
    """The bounds cut the distribution."""
    numbers, distribution = VERSION2[kind]
    parameter = {
        "parameterId": "k1",
        "nominalValue": AT,
        "lowerBound": LOW,
        "upperBound": HIGH,
        "estimate": "true",
        "priorDistribution": kind,
        "priorParameters": numbers,
    }
    path = version2(
        tmp_path,
        CHAIN,
        parameters=[parameter],
        observables=[{"observableId": "a", "observableFormula": "A", "noiseFormula": 1.0}],
        measurements=[{"observableId": "a", "time": 1.0, "measurement": 0.5}],
    )
    inside = math.log(distribution.cdf(HIGH) - distribution.cdf(LOW))
    check(petab(path, backend="torch"), lambda theta: distribution.logpdf(theta) - inside)
