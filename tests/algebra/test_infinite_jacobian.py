"""Where a derivative of f is infinite and f is not, differences replace it, with a warning."""

import math

import pytest
import torch

import pynode
from pynode.algebra.structure import linearise
from pynode.methods.registry import get
from tests.support.cases import field_of

SINGLE = (
    "Rodas5P",
    "Rosenbrock23",
    "RadauIIA5",
    "KenCarp4",
    "TRBDF2",
    "Kvaerno5",
    "QNDF",
    "FBDF",
    "ABDF2",
    "auto",
)
BATCHED = ("Rodas5P", "Rosenbrock23", "KenCarp4", "TRBDF2", "QNDF", "FBDF")
JULIA = ("Rodas5P", "QNDF", "KenCarp4")
RUNS = [
    *((method, "single") for method in SINGLE),
    *((method, "rows") for method in BATCHED),
    *((method, "julia") for method in JULIA),
]
each_run = pytest.mark.parametrize(("method", "engine"), RUNS, indirect=["engine"])
RIGHT = math.exp(-2 / 3 * 2**1.5)

pytestmark = pytest.mark.filterwarnings("ignore:the Jacobian of the vector field")


def root(t, y, rate=1.0):
    return torch.stack((-rate * y[0] * torch.sqrt(y[1]), torch.ones_like(y[1])))


START = torch.tensor([1.0, 0.0], dtype=torch.float64)


@each_run
def test_a_root_of_a_state_that_is_zero(method, engine):
    found = engine.solve(root, START, (0.0, 2.0), method=method).y[-1]
    assert found.tolist() == pytest.approx([RIGHT, 2.0], rel=2e-4)


def test_one_row_of_several():
    """Only the first row has an infinite derivative."""

    def roots(t, y):
        return torch.stack((-y[:, 0] * torch.sqrt(y[:, 1]), torch.ones_like(y[:, 1])), 1)

    y0 = torch.tensor([[1.0, 0.0], [0.5, 0.25]], dtype=torch.float64)
    found = pynode.solve(roots, y0, (0.0, 2.0), method="Rodas5P", batched=True).y[-1, :, 0]
    other = 0.5 * math.exp(-2 / 3 * (2.25**1.5 - 0.125))
    assert found.tolist() == pytest.approx([RIGHT, other], rel=2e-4)


@each_run
def test_a_root_of_the_time(method, engine):
    """Rosenbrock methods take df/dt as well."""
    y0 = torch.ones(1, dtype=torch.float64)
    found = engine.solve(lambda t, y: -y * torch.sqrt(t), y0, (0.0, 2.0), method=method)
    assert float(found.y[-1]) == pytest.approx(RIGHT, rel=2e-4)


@pytest.mark.parametrize(
    ("method", "engine"),
    [
        ("Rodas5P", "single"),
        ("KenCarp4", "single"),
        ("RadauIIA5", "single"),
        ("Rodas5P", "rows"),
        ("Rodas5P", "julia"),
    ],
    indirect=["engine"],
)
def test_it_is_said(method, engine):
    with pytest.warns(UserWarning, match="infinite or NaN entries at some point"):
        engine.solve(root, START, (0.0, 2.0), method=method)


@pytest.mark.parametrize(
    ("engine", "structure"),
    [("single", "sparse"), ("single", "banded"), ("julia", "sparse")],
    indirect=["engine"],
)
@pytest.mark.parametrize("method", ["Rodas5P", "KenCarp4", "QNDF"])
def test_structures(method, engine, structure):
    pytest.importorskip("scipy")
    structure = pynode.Banded(1, 1) if structure == "banded" else pynode.Sparse(torch.ones(2, 2))
    found = engine.solve(root, START, (0.0, 2.0), method=get(method, jacobian=structure)).y[-1]
    assert found.tolist() == pytest.approx([RIGHT, 2.0], rel=2e-4)


@pytest.mark.parametrize("method", ["Rodas5P", "RadauIIA5", "KenCarp4", "QNDF"])
def test_the_side_on_which_f_is_finite(method):
    """sqrt(-y) has a value at and below zero alone; a start with every component zero has no size
    of its own."""
    y0 = torch.zeros(1, dtype=torch.float64)
    f = lambda t, y: -1 - 0.1 * torch.sqrt(-y)  # noqa: E731
    found = pynode.solve(f, y0, (0.0, 1.0), method=method).y[-1]
    # -y = s^2 with 2 s s' = 1 + s / 10.
    s = torch.linspace(0, 2, 400001, dtype=torch.float64)
    t = 20 * (s - 10 * torch.log1p(s / 10))
    right = -(float(s[int((t - 1).abs().argmin())]) ** 2)
    assert float(found) == pytest.approx(right, rel=1e-3)


@each_run
def test_a_root_that_a_solve_reaches(method, engine):
    """y falls below 0.5, where f has no value. A linear solve with an infinite derivative returns
    zero, so a Rosenbrock method stayed at y = 0.5 and reported success."""
    y0 = torch.ones(1, dtype=torch.float64)
    with pytest.raises(pynode.SolveError):
        engine.solve(lambda t, y: torch.sqrt(y - 0.5) - 1, y0, (0.0, 3.0), method=method)


@pytest.mark.parametrize("method", ["Rodas5P", "Rosenbrock23", "KenCarp4", "QNDF"])
def test_a_jacobian_of_the_user(method):
    """The same with jac: it returns the infinite derivative that it was written to return."""

    def field(t, y):
        return torch.sqrt(y - 0.5) - 1

    def jac(t, y):
        return (0.5 / torch.sqrt(y - 0.5)).reshape(1, 1)

    with pytest.raises(pynode.SolveError):
        pynode.solve(field, torch.ones(1, dtype=torch.float64), (0.0, 3.0), method=method, jac=jac)


@pytest.mark.parametrize(
    ("method", "engine"),
    [("KenCarp4", "single"), ("QNDF", "single"), ("RadauIIA5", "single"), ("KenCarp4", "rows")],
    indirect=["engine"],
)
def test_the_gradient_of_a_rate(method, engine):
    """The start has a constant gradient of infinite size in itself, the rate has not."""
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    end = engine.solve(root, START, (0.0, 2.0), method=method, args=(rate,)).y[-1, 0]
    (found,) = torch.autograd.grad(end, rate)
    assert float(found) == pytest.approx(-2 / 3 * 2**1.5 * RIGHT, rel=1e-3)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_a_later_point_is_repaired_too(sparse):
    """The infinite entry is -1 / (2 sqrt(0)), in the first row. Its difference is about -1e4."""
    field = field_of(root, START)
    if sparse:
        pytest.importorskip("scipy")
        field.structure = pynode.Sparse(torch.ones(2, 2))
    jacobian = linearise(field)
    jacobian.with_time(0.0, START + 1.0)
    jac, _ = jacobian.with_time(1.0, START)
    found = jacobian.factorised(jac, 0.1).solve(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert -1e5 < float(found[0]) < -10.0
    assert float(found[1]) == pytest.approx(1.0)


def test_an_infinite_jacobian_of_the_user_solves_nothing():
    """Its solution would be zero, and a method would take the state for one at rest."""
    y = torch.zeros(1, dtype=torch.float64)
    field = field_of(
        lambda t, y: -torch.sqrt(y), y, jac=lambda t, y: torch.full((1, 1), -math.inf).double()
    )
    jacobian = linearise(field)
    found = jacobian.factorised(jacobian(0.0, y), 0.1).solve(torch.ones_like(y))
    assert math.isnan(float(found))
