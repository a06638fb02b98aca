"""Estimation of a model whose formula jumps where a state crosses a value."""

import pytest
import torch

from pynode.data import Dataset, Trajectory
from pynode.fit import TableProblem
from tests.support.difference_quotients import central

pytest.importorskip("antimony", reason="antimony reads the model")
pytest.importorskip("libsbml", reason="libsbml reads the model")


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_gradient_goes_through_the_crossing(backend):
    from pynode.models import antimony

    model = antimony("S' = piecewise(-k*S, S > c, -0.1*k*c); S = 1; k = 0.5; c = 0.4;")
    t = torch.tensor([0.0, 1.0, 3.0, 5.0], dtype=torch.float64)
    y = torch.tensor([[1.0], [0.7], [0.3], [0.35]], dtype=torch.float64)
    data = Dataset(("S",), "t", (Trajectory("run", t, y, torch.ones_like(y, dtype=torch.bool)),))
    bounds = {"k": (1e-2, 1e2), "c": (1e-2, 1e2)}
    problem = TableProblem(model, data, bounds=bounds, noise=0.1, rtol=1e-9, backend=backend)
    theta = torch.tensor([-0.3, -0.4], dtype=torch.float64)  # log10 of k and c

    def objective(point):
        return problem.objective(point.clone().requires_grad_()).detach()

    _, found = problem.gradient(theta)
    torch.testing.assert_close(found, central(objective, theta, 1e-4), rtol=1e-4, atol=1e-4)
