"""Problems of PEtab whose model jumps where a state crosses a value."""

import pytest
import torch

pytest.importorskip("petab")
pytest.importorskip("antimony")

from pynode.backends.packages import missing_for_native
from pynode.models import petab
from tests.support.difference_quotients import central
from tests.support.petab_problems import version1

SWITCHED = """
model drop()
  compartment cell = 1;
  species A in cell;
  A = 1; k = 0.5; c = 0.4;
  J := piecewise(k*A, A > c, 0.1*k*c);
  A -> ; cell*J;
end
"""
PARAMETERS = [
    {"parameterId": "k", "nominalValue": 0.5, "parameterScale": "log10"},
    {"parameterId": "c", "nominalValue": 0.4},
    {"parameterId": "sigma", "nominalValue": 0.2, "parameterScale": "log"},
]
MEASURED = {"low": (0.9, 0.5, 0.3), "high": (2.6, 1.4, 0.7)}
NATIVE = pytest.mark.skipif(bool(missing_for_native()), reason="native code needs its packages")


def read(folder, model, backend):
    measurements = [
        {
            "observableId": "a",
            "simulationConditionId": condition,
            "time": time,
            "measurement": value,
        }
        for condition, values in MEASURED.items()
        for time, value in zip((0.0, 1.5, 4.0), values, strict=True)
    ]
    observables = [{"observableId": "a", "observableFormula": "A", "noiseFormula": "sigma"}]
    conditions = [{"conditionId": "low", "A": 1}, {"conditionId": "high", "A": 3}]
    path = version1(folder, model, PARAMETERS, conditions, observables, measurements)
    return petab(path, backend=backend, method="rodas5p", rtol=1e-9, atol=1e-11)


EVENT = "E: at (time >= 3): A = A + 0.3;\nend"


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        (SWITCHED, "torch"),
        pytest.param(SWITCHED, "native", marks=NATIVE),
        pytest.param(SWITCHED.replace("end", EVENT), "native", marks=NATIVE),
    ],
)
def test_gradient_and_matrix(tmp_path, model, backend):
    """The rows are one batch; with an event they are simulated one by one."""
    problem = read(tmp_path, model, backend)
    theta = problem.start

    def objective(point):
        return problem.objective(point.clone().requires_grad_()).detach()

    def scaled(point):
        values, noise = problem.simulated(point.clone().requires_grad_())
        return torch.cat((values / 0.2, 2**0.5 * noise.log())).detach()

    value, slope = problem.gradient(theta)
    right = central(objective, theta, 1e-4)
    torch.testing.assert_close(slope, right, rtol=1e-4, atol=1e-4)
    again, gradient, matrix = problem.gauss_newton(theta)
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-8)
    rows = central(scaled, theta, 1e-4)
    torch.testing.assert_close(matrix, rows.T @ rows, rtol=1e-4, atol=1e-3)
