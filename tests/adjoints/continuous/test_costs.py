"""What continuous adjoints may cost: no matrix for explicit solves, and steps by the tolerances
that are given."""

import math

import pytest
import torch

from pynode import solve
from pynode.adjoints import registry
from pynode.adjoints.continuous.backsolve import BacksolveAdjoint
from pynode.adjoints.continuous.base import Continuous
from pynode.adjoints.continuous.gauss import GaussAdjoint
from pynode.adjoints.continuous.interpolating import InterpolatingAdjoint
from pynode.algebra import structure
from tests.support.cases import leaf, tensor

CLASSES = [c for c in registry.CLASSES if issubclass(c, Continuous)]
every_adjoint = pytest.mark.parametrize("adjoint", CLASSES, ids=lambda c: c.name)


@every_adjoint
def test_no_matrix_where_all_is_explicit(adjoint, monkeypatch):
    """Images have more states than a matrix of them fits in memory."""
    made, eye = [], torch.eye

    def watched(n, *args, **options):
        made.append(n)
        return eye(n, *args, **options)

    monkeypatch.setattr(torch, "eye", watched)
    weight = leaf(torch.full((3,), 0.1, dtype=torch.float64))
    y0 = torch.ones(500, dtype=torch.float64)
    solve(lambda t, y: -weight.sum() * y, y0, [0.0, 1.0], method="Tsit5", adjoint=adjoint()).y[
        -1
    ].sum().backward()
    assert not [n for n in made if n >= 500]
    assert weight.grad.abs().min() > 0


def test_an_implicit_reverse_solver_of_images_is_refused(monkeypatch):
    monkeypatch.setattr(structure, "DENSE_UP_TO", 10)
    y0 = leaf(torch.ones(11, dtype=torch.float64))
    y = solve(
        lambda t, y: -y, y0, [0.0, 1.0], method="Tsit5", adjoint=GaussAdjoint(method="rodas5p")
    ).y[-1]
    with pytest.raises(ValueError, match="explicit reverse solver"):
        y.sum().backward()


@pytest.mark.parametrize("adjoint", [BacksolveAdjoint, InterpolatingAdjoint])
def test_atol_reaches_the_parameters(adjoint):
    """The state's cotangent is constant here; only the parameter's, an oscillation in time, needs
    small steps."""
    k = leaf(tensor(1.0))

    def steps(atol):
        solution = solve(
            lambda t, y: k * torch.cos(40 * t) + 0 * y,
            tensor(1.0),
            [0.0, 1.0],
            method="Tsit5",
            adjoint=adjoint(rtol=1e-12, atol=atol),
            rtol=1e-6,
            atol=1e-6,
        )
        (found,) = torch.autograd.grad(solution.y[-1].sum(), k)
        return solution.stats.backward_accepted, abs(float(found) - math.sin(40) / 40)

    (few, _), (many, error) = steps(1e-2), steps(1e-9)
    assert many > 3 * few
    assert error < 1e-8
