"""BacksolveAdjoint is refused where the reversed problem is explosive."""

import pytest
import torch

from pynode import problems, solve
from pynode.adjoints.continuous import reverse_stability
from tests.support.cases import field_of, tensor


@pytest.mark.parametrize("name", ["robertson", "hires", "vanderpol", "pollution", "oregonator"])
@pytest.mark.parametrize("outputs", [2, 12])
def test_stiff_problems_are_refused(name, outputs):
    problem = problems.get(name)
    times = torch.linspace(*problem.tspan, outputs, dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"BacksolveAdjoint is refused.*10\^.*'discrete', or 'gauss'"
    ):
        solve(
            problem.field, problem.y0, times, method="qndf", atol=problem.atol, adjoint="backsolve"
        )


@pytest.mark.filterwarnings("ignore:BacksolveAdjoint")  # from two outputs the spiral drifts
@pytest.mark.parametrize("name", ["spiral", "lotka_volterra"])
@pytest.mark.parametrize("outputs", [2, 12])
def test_others_are_allowed(name, outputs):
    problem = problems.get(name)
    times = torch.linspace(*problem.tspan, outputs, dtype=torch.float64)
    options = {"method": "tsit5", "rtol": 1e-5, "atol": 1e-7}
    found = []
    for adjoint in ("backsolve", "discrete"):
        y = solve(problem.field, problem.y0, times, adjoint=adjoint, **options).y
        found.append(torch.autograd.grad(y.square().sum(), problem.field.k)[0])
    assert (found[0] - found[1]).abs().max() < 1e-3 * found[1].abs().max()


def test_growth_of_a_linear_problem_is_its_decay():
    """Forward and backward in time, and from one restart to the next; growing solutions are no
    danger on the way back."""
    field = field_of(lambda t, y: torch.stack((-3.0 * y[0], 2.0 * y[1])), tensor(1.0, 1.0))
    points = [(0.1 * i, tensor(1.0, 1.0)) for i in range(11)]
    assert reverse_stability.reverse_error_growth(
        field, points, 1.0, restarts=False
    ) == pytest.approx(3.0)
    assert reverse_stability.reverse_error_growth(
        field, points, 1.0, restarts=True
    ) == pytest.approx(0.3)
    assert reverse_stability.reverse_error_growth(
        field, points[::-1], -1.0, restarts=False
    ) == pytest.approx(2.0)
    growing = field_of(lambda t, y: 2.0 * y, tensor(1.0))
    assert (
        reverse_stability.reverse_error_growth(
            growing, [(0.0, tensor(1.0)), (1.0, tensor(1.0))], 1.0, restarts=False
        )
        == 0.0
    )


def test_growth_of_a_decay_that_changes():
    """Linearly from 2 to 4 between the points: 3 on the average, in either direction of time."""
    field = field_of(lambda t, y: -(2.0 + 2.0 * t) * y, tensor(1.0))
    assert reverse_stability.reverse_error_growth(
        field, [(0.0, tensor(1.0)), (1.0, tensor(1.0))], 1.0, restarts=False
    ) == pytest.approx(3.0)
    rising = field_of(lambda t, y: (2.0 + 2.0 * t) * y, tensor(1.0))
    backwards = [(1.0, tensor(1.0)), (0.0, tensor(1.0))]
    assert reverse_stability.reverse_error_growth(
        rising, backwards, -1.0, restarts=False
    ) == pytest.approx(3.0)


def test_many_points_are_thinned():
    field = field_of(lambda t, y: -3.0 * y, tensor(1.0))
    points = [(0.01 * i, tensor(1.0)) for i in range(101)]
    assert reverse_stability.reverse_error_growth(
        field, points, 1.0, restarts=False
    ) == pytest.approx(3.0)
    assert reverse_stability.reverse_error_growth(
        field, points, 1.0, restarts=True
    ) == pytest.approx(0.03)


def test_extreme_eigenvalues_of_large_systems_come_from_products():
    """A chain of 400: the Hessenberg matrix of a few products sees the fastest decay."""
    n = reverse_stability.DENSE_UP_TO + 200
    rates = torch.linspace(1.0, 500.0, n, dtype=torch.float64)
    field = field_of(lambda t, y: -rates * y, torch.ones(n, dtype=torch.float64))
    assert reverse_stability.max_decay(
        field, 0.0, torch.ones(n, dtype=torch.float64)
    ) == pytest.approx(500.0, rel=0.02)


def test_a_jacobian_that_is_not_finite_counts_as_explosive():
    field = field_of(lambda t, y: torch.sqrt(y), tensor(0.0))
    assert reverse_stability.reverse_error_growth(
        field, [(0.0, tensor(0.0)), (1.0, tensor(0.0))], 1.0, restarts=False
    ) == float("inf")
