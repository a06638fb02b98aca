"""Many vectors of parameters as one batch equal one after the other."""

import math

import pytest
import torch

from pynode.fit import Prior, TableProblem
from tests.support.estimation import Chain, ChainOfRows, chain, chain_data

pytest.importorskip("numba", reason="the native engine needs numba")

THETAS = torch.tensor(
    [[-0.1, -0.6, -1.2, -1.0], [0.2, -0.4, -1.0, -1.3], [0.0, -0.5, -1.1, -1.1]],
    dtype=torch.float64,
)


def problem(model=chain, **options):
    data = chain_data(sigma=0.05, starts=(1.0, 2.0))
    return TableProblem(model, data, rtol=1e-8, **options)


@pytest.mark.parametrize("model", [chain, Chain(), ChainOfRows()])
def test_objectives_and_gradients(model):
    made = problem(model)
    values = made.objective_batch(THETAS)
    singly = torch.stack([made.objective(theta) for theta in THETAS])
    assert torch.allclose(values, singly, rtol=1e-9)
    found, slopes = made.gradient_batch(THETAS)
    assert torch.allclose(found, singly, rtol=1e-9)
    for theta, slope in zip(THETAS, slopes, strict=True):
        assert torch.allclose(slope, made.gauss_newton(theta)[1], rtol=1e-5, atol=1e-5)


def test_priors_and_unknown_initial_values():
    made = problem(initial={"B": "estimate"}, noise=0.05, priors={"k1": Prior("normal", 0.0, 0.5)})
    thetas = THETAS.clone()
    thetas[:, 2:] = torch.tensor([0.1, 0.2], dtype=torch.float64)
    values, slopes = made.gradient_batch(thetas)
    for theta, value, slope in zip(thetas, values, slopes, strict=True):
        expected, gradient, _ = made.gauss_newton(theta)
        assert torch.allclose(value, expected, rtol=1e-9)
        assert torch.allclose(slope, gradient, rtol=1e-5, atol=1e-5)


def test_a_theta_that_fails_leaves_the_others():
    def explodes(t, y, k1=1.0, k2=0.5):
        return chain(t, y, k1, k2) + torch.where(k1 > 1.4, 100.0, 0.0) * y * y

    made = problem(explodes, max_steps=2000)
    values, slopes = made.gradient_batch(THETAS)
    assert values[1] == math.inf
    assert slopes[1].tolist() == [0.0] * 4
    for i in (0, 2):
        assert torch.allclose(values[i], made.objective(THETAS[i]), rtol=1e-9)
        assert bool((slopes[i] != 0).any())


def test_a_model_of_a_file():
    pytest.importorskip("antimony", reason="antimony reads the model")
    pytest.importorskip("libsbml", reason="libsbml reads the model")
    from pynode.models import antimony

    model = antimony("A -> B; k1*A; B -> ; k2*B; A = 1; B = 0; k1 = 1; k2 = 0.5;")
    data = chain_data(sigma=0.05)
    made = TableProblem(model, data, estimate=["k1", "k2"], rtol=1e-8)
    values = made.objective_batch(THETAS)
    singly = torch.stack([made.objective(theta) for theta in THETAS])
    assert torch.allclose(values, singly, rtol=1e-9)
