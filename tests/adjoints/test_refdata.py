"""Every adjoint against the reference sensitivities of stiff problems; BacksolveAdjoint refuses
them (tests/adjoints/continuous/test_guard.py)."""

import pytest
import torch

from pynode import problems, solve
from tests.support.refdata import load, sensitivity, thinned, tolerances

# (times thinned, components, error allowed) of what is compared: each gradient of a continuous
# adjoint is a reverse solve.
CASES = {
    "robertson": (40, slice(1, 2), 1e-5),
    "hires": (60, slice(5, 6), 1e-5),
    "pollution": (60, slice(5, 6), 1e-5),
}
CONTINUOUS = ["gauss", "gausskronrod", "quadrature", "interpolating"]


def error_of(name, adjoint, method, every, components):
    """Largest error of scaled sensitivities at rtol 1e-9, relative to the largest of each component
    over the times."""
    problem = problems.get(name)
    reference, scale = thinned(load(name), every)
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    k = problem.field.k
    y = solve(
        problem.field,
        problem.y0,
        times,
        method=method,
        adjoint=adjoint,
        **tolerances(problem, 1e-9),
    ).y[1:, components]
    rows = [
        torch.stack([torch.autograd.grad(v, k, retain_graph=True)[0] for v in state]) for state in y
    ]
    found = torch.stack(rows) * k.detach()
    return float(
        ((found - sensitivity(reference, problem)[:, components]).abs() / scale[components]).max()
    )


@pytest.mark.parametrize("adjoint", CONTINUOUS)
def test_continuous_adjoints(adjoint):
    every, components, allowed = CASES["robertson"]
    assert error_of("robertson", adjoint, "FBDF", every, components) <= allowed


@pytest.mark.parametrize("name", ["hires", "pollution"])
def test_more_species(name):
    """Pollution: of 25 parameters, on a species of 1e-7 beside others of 0.1, so that its
    cotangents are as small."""
    every, components, allowed = CASES[name]
    assert error_of(name, "gauss", "FBDF", every, components) <= allowed


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("robertson", 1e-5), ("hires", 1e-5), ("pollution", 1e-5), ("oregonator", 1e-3)],
)
def test_forward_sensitivities_of_all_components(name, allowed):
    assert error_of(name, "forward", "FBDF", 25, slice(None)) <= allowed
