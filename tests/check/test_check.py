"""check_gradients: right gradients pass, wrong ones are named."""

import pytest
import torch
from torch import nn

from pynode import ODEProblem, check_gradients, crosscheck, diagnose, problems
from pynode.adjoints.continuous.gauss import GaussAdjoint
from tests.support.cases import Forced, tensor

Y0 = tensor(1.0, -0.5, 0.3)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "FBDF", "RadauIIA5", "KenCarp4"])
def test_right_gradients_pass(method):
    result = check_gradients(
        Forced(), Y0, [0.0, 0.5, 1.0], method=method, rtol=1e-7, atol=1e-7, directions=2
    )
    assert result.ok and result.same_steps < 1e-9 and result.error < 1e-4
    assert (
        "are right" in str(result) and "\n" not in str(result) and "DiscreteAdjoint" in str(result)
    )
    assert len(result.vjps) == len(result.jvps) == len(result.differences) == 2


@pytest.mark.parametrize("method", ["auto", "Tsit5", "QNDF"])
def test_native_gradients(method):
    """The torch engine repeats the steps."""
    pytest.importorskip("numba")
    pytest.importorskip("llvmlite")
    times = [0.0, 0.5, 1.0]
    result = check_gradients(Forced(), Y0, times, method=method, directions=2, backend="native")
    assert result.ok
    assert result.same_steps < 1e-7
    assert result.adjoint == "DiscreteAdjoint"


@pytest.mark.parametrize("adjoint", ["gauss", "interpolating", "backsolve", "direct"])
def test_every_adjoint_can_be_checked(adjoint):
    result = check_gradients(
        Forced(), Y0, [0.0, 1.0], method="Tsit5", adjoint=adjoint, directions=1
    )
    assert result.ok and result.same_steps < 1e-6


def test_stiff_problem_that_starts_from_zero():
    problem = problems.get("robertson")
    result = check_gradients(
        problem.field,
        problem.y0,
        [0.0, 40.0],
        method="FBDF",
        atol=(1e-10, 1e-14, 1e-10),
        directions=1,
    )
    assert result.ok
    assert torch.equal(problem.field.k, problems.get("robertson").field.k)  # put back


def test_differences_are_of_fourth_order():
    """Central ones alone would be off by 1e-3 here."""
    k = tensor(3.0).requires_grad_()
    f = lambda t, y: -k * y**3  # noqa: E731
    assert (
        check_gradients(f, tensor(1.0, 2.0), [0.0, 0.5, 1.0], method="Tsit5", eps=0.05).error < 1e-5
    )


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate, self.drive = nn.Parameter(tensor(0.5)), nn.Parameter(tensor(0.7))

    def forward(self, t, y):
        return -self.rate * y + self.drive.detach() * torch.sin(t) + 0 * self.drive


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_a_detached_part_is_named():
    result = check_gradients(Detached(), Y0, [0.0, 1.0], method="Tsit5")
    assert not result.ok and result.error > 0.01
    assert "WRONG" in str(result) and result.worst == "drive"


def test_a_wrong_backward_is_found():
    result = check_gradients(lambda t, y: -Wrong.apply(y), Y0, [0.0, 1.0], method="Tsit5")
    assert not result.ok and result.worst == "y0"


def test_a_poor_adjoint_is_told_from_a_poor_field():
    """A quadrature with one node: the steps' own derivative disagrees as well, which a fault of f
    does not cause."""
    result = check_gradients(
        Forced(),
        Y0,
        [0.0, 8.0],
        method="Tsit5",
        adjoint=GaussAdjoint(rtol=1e-1, atol=1e-1, nodes=1),
    )
    assert not result.ok and result.same_steps > 1e-3


def test_structures_args_and_without_the_graph():
    rate = tensor(0.8).requires_grad_()

    def f(t, y, rate):
        return {"a": -rate * y["a"], "b": y["a"] - y["b"]}

    result = check_gradients(
        f,
        {"a": tensor(1.0), "b": tensor(0.5)},
        [0.0, 1.0],
        args=(rate,),
        method="Tsit5",
        same_steps=False,
    )
    assert result.ok and result.jvps == [] and "same steps" not in str(result)


def test_bad_input():
    with pytest.raises(ValueError, match="in float64"):
        check_gradients(Forced(dtype=torch.float32), Y0.float(), [0.0, 1.0])
    for options in ({"directions": 0}, {"eps": 2.0}, {"tol": 0.0}):
        with pytest.raises(ValueError, match="directions must be"):
            check_gradients(Forced(), Y0, [0.0, 1.0], **options)


def test_a_problem_comes_with_its_own_arguments():
    """What stands beside an ODEProblem is refused, as by solve, by all that take one; and not
    forgotten."""
    problem = ODEProblem(lambda t, y, k: -k * y, Y0, [0.0, 1.0], (tensor(2.0),))
    jac, mass = (
        (lambda t, y, k: -k * torch.eye(3, dtype=torch.float64)),
        torch.eye(3, dtype=torch.float64),
    )
    for take, names in (
        (check_gradients, ("y0", "t", "args", "jac", "mass")),
        (crosscheck, ("y0", "t", "args", "jac", "mass")),
        (diagnose, ("y0", "t", "args", "jac")),
    ):
        beside = {"y0": Y0, "t": [0.0, 2.0], "args": (tensor(3.0),), "jac": jac, "mass": mass}
        for name in names:
            with pytest.raises(ValueError, match=f"holds its own {name}"):
                take(problem, **{name: beside[name]})
