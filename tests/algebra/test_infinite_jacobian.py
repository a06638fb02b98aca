"""Where a derivative of f is infinite at the start and f is not, differences stand in for it, and a
warning says so."""

import math

import pytest
import torch

from pynode import solve
from pynode.methods.registry import get

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
RUNS = [(method, False) for method in SINGLE] + [(method, True) for method in BATCHED]
RIGHT = math.exp(-2 / 3 * 2**1.5)

pytestmark = pytest.mark.filterwarnings("ignore:the Jacobian of the vector field")


def root(t, y, rate=1.0):
    return torch.stack((-rate * y[..., 0] * torch.sqrt(y[..., 1]), torch.ones_like(y[..., 1])), -1)


@pytest.mark.parametrize(("method", "batched"), RUNS)
def test_a_root_of_a_state_that_is_zero(method, batched):
    y0 = torch.tensor([[1.0, 0.0], [0.5, 0.25]] if batched else [1.0, 0.0], dtype=torch.float64)
    found = solve(root, y0, (0.0, 2.0), method=method, batched=batched).y[-1].reshape(-1, 2)
    assert found[0].tolist() == pytest.approx([RIGHT, 2.0], rel=2e-4)
    if batched:
        assert float(found[1, 0]) == pytest.approx(
            0.5 * math.exp(-2 / 3 * (2.25**1.5 - 0.125)), rel=2e-4
        )


@pytest.mark.parametrize(("method", "batched"), RUNS)
def test_a_root_of_the_time(method, batched):
    """Rosenbrock methods take df/dt as well."""
    y0 = torch.ones(1, 1, dtype=torch.float64)
    found = solve(
        lambda t, y: -y * torch.sqrt(torch.as_tensor(t)),
        y0,
        (0.0, 2.0),
        method=method,
        batched=batched,
    )
    assert float(found.y[-1]) == pytest.approx(RIGHT, rel=2e-4)


@pytest.mark.parametrize(
    ("method", "batched"),
    [("Rodas5P", False), ("KenCarp4", False), ("RadauIIA5", False), ("Rodas5P", True)],
)
def test_it_is_said(method, batched):
    y0 = torch.tensor([[1.0, 0.0]] if batched else [1.0, 0.0], dtype=torch.float64)
    with pytest.warns(UserWarning, match="infinite or NaN entries where a solve starts"):
        solve(root, y0, (0.0, 2.0), method=method, batched=batched)


@pytest.mark.parametrize("structure", ["sparse", "banded"])
@pytest.mark.parametrize("method", ["Rodas5P", "KenCarp4", "QNDF"])
def test_structures(method, structure):
    pytest.importorskip("scipy")
    import pynode

    structure = pynode.Banded(1, 1) if structure == "banded" else pynode.Sparse(torch.ones(2, 2))
    y0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = solve(root, y0, (0.0, 2.0), method=get(method, jacobian=structure)).y[-1]
    assert found.tolist() == pytest.approx([RIGHT, 2.0], rel=2e-4)


@pytest.mark.parametrize("method", ["Rodas5P", "RadauIIA5", "KenCarp4", "QNDF"])
def test_the_side_on_which_f_is_finite(method):
    """sqrt(-y) has a value at and below zero alone; a start with every component zero has no size
    of its own."""
    y0 = torch.zeros(1, dtype=torch.float64)
    found = solve(lambda t, y: -1 - 0.1 * torch.sqrt(-y), y0, (0.0, 1.0), method=method).y[-1]
    # -y = s^2 with 2 s s' = 1 + s / 10.
    s = torch.linspace(0, 2, 400001, dtype=torch.float64)
    t = 20 * (s - 10 * torch.log1p(s / 10))
    right = -(float(s[int((t - 1).abs().argmin())]) ** 2)
    assert float(found) == pytest.approx(right, rel=1e-3)


@pytest.mark.parametrize(
    ("method", "batched"),
    [("KenCarp4", False), ("QNDF", False), ("RadauIIA5", False), ("KenCarp4", True)],
)
def test_the_gradient_of_a_rate(method, batched):
    """The start has a constant gradient of infinite size in itself, the rate has not."""
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([[1.0, 0.0]] if batched else [1.0, 0.0], dtype=torch.float64)
    end = (
        solve(root, y0, (0.0, 2.0), method=method, batched=batched, args=(rate,))
        .y[-1]
        .reshape(-1)[0]
    )
    (found,) = torch.autograd.grad(end, rate)
    assert float(found) == pytest.approx(-2 / 3 * 2**1.5 * RIGHT, rel=1e-3)
