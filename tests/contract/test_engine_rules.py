"""The torch engines for one system and for rows follow the same rules: tests run on both."""

import pytest
import torch

from pynode import Status, solve
from pynode.methods import registry
from pynode.solve_batched import serves
from tests.support.cases import tensor

ROWS = [name for name in registry.names() if serves(registry.get(name))]
IMPLICIT = [name for name in ROWS if registry.get(name).implicit]
FIXED = ["Euler", "RK4", "Rodas5P", "ImplicitEuler", "KenCarp4"]
engines = pytest.mark.parametrize("engine", ["single", "rows"], indirect=True)


@engines
@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps_are_stretched_by_rounding_only(method, engine):
    """Ten steps end 5e-4 of a step before the end: another one is due."""
    step = 0.1 * (1 - 5e-5)
    solution = engine.solve(
        lambda t, y: -y, tensor(1.0), [0.0, 1.0], throw=False, method=method, step_size=step
    )
    assert solution.stats.accepted == 11


@engines
@pytest.mark.parametrize("method", ["Euler", "RK4", "Tsit5"])
def test_a_fixed_step_that_overflows_ends_the_solve(method, engine):
    solution = engine.solve(
        lambda t, y: 1e200 * y * y * y,
        tensor(1.0),
        [0.0, 1.0],
        throw=False,
        method=method,
        step_size=0.1,
    )
    assert solution.status is Status.DIVERGED
    assert solution.stats.nfe < 30


@engines
@pytest.mark.parametrize("method", IMPLICIT)
def test_a_first_slope_that_is_not_finite_ends_the_solve_at_once(method, engine):
    solution = engine.solve(
        lambda t, y: 1 / (y - 1), tensor(1.0), [0.0, 1.0], throw=False, method=method
    )
    assert solution.status is Status.NONFINITE
    assert solution.stats.nfe <= 3


@engines
@pytest.mark.parametrize("method", ["ImplicitEuler", "SDIRK2"])
def test_newton_that_never_converges_is_named(method, engine):
    """y' = 1000 y^2 ends at t = 0.001: an implicit step of 0.1 has no solution."""
    solution = engine.solve(
        lambda t, y: 1e3 * y * y,
        tensor(1.0),
        [0.0, 1.0],
        throw=False,
        method=method,
        step_size=0.1,
        max_steps=1000,
    )
    assert solution.status is Status.NEWTON
    assert solution.stats.newton_failures


@engines
def test_nonnegative_false_asks_for_nothing(engine):
    solution = engine.solve(
        lambda t, y: -y, tensor(1.0), [0.0, 1.0], throw=False, nonnegative=False
    )
    assert solution.status is Status.SUCCESS


def test_a_row_with_a_broken_start_leaves_the_others_alone():
    def f(t, y):
        return -1 / y

    y0 = tensor([1.0], [0.0], [2.0]).requires_grad_()
    solution = solve(f, y0, [0.0, 0.1], method="qndf", batched=True, throw=False)
    assert [status.name for status in solution.statuses] == ["SUCCESS", "NONFINITE", "SUCCESS"]
    solution.y[-1, [0, 2]].sum().backward()
    exact = torch.sqrt(y0.detach() ** 2 - 0.2)
    torch.testing.assert_close(solution.y[-1, [0, 2]], exact[[0, 2]], rtol=1e-4, atol=0)
    wanted = (y0.detach() / exact)[[0, 2]]
    torch.testing.assert_close(y0.grad[[0, 2]], wanted, rtol=1e-3, atol=0)
