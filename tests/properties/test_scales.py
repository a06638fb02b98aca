"""Nothing depends on the unit of y or t: extreme scales, and components without absolute tolerance
that start at zero."""

import math

import pytest
import torch

from pynode import solve
from pynode.cli.catalogue import methods

METHODS = [
    e.name for e in methods() if "torch" in e.backends and e.name not in ("VelocityVerlet", "Euler")
] + ["auto"]
BATCHED = (
    "Tsit5",
    "Rosenbrock23",
    "Rodas5P",
    "QNDF",
    "FBDF",
    "SDIRK2",
    "TRBDF2",
    "KenCarp4",
    "Kvaerno5",
    "auto",
)
RUNS = [(method, False) for method in METHODS] + [(method, True) for method in BATCHED]


@pytest.mark.parametrize(
    "method",
    ["auto", "QNDF", "FBDF", "ABDF2", "AdamsPECE", "Rodas5P", "Tsit5", "RadauIIA5", "Kvaerno5"],
)
def test_nineteen_decades(method):
    y0 = torch.tensor([1e6], dtype=torch.float64)
    found = float(solve(lambda t, c: 1e50 / c, y0, (0.0, 1.0), method=method, rtol=1e-5).y[-1])
    assert found == pytest.approx(math.sqrt(1e12 + 2e50), rel=1e-3)


def test_nineteen_decades_at_order_one():
    y0 = torch.tensor([1e6], dtype=torch.float64)
    found = float(
        solve(lambda t, c: 1e50 / c, y0, (0.0, 1.0), method="ImplicitEuler", rtol=1e-2).y[-1]
    )
    assert found == pytest.approx(math.sqrt(1e12 + 2e50), rel=0.3)


@pytest.mark.parametrize(("method", "batched"), RUNS)
def test_no_absolute_tolerance_and_a_start_at_zero(method, batched):
    y0 = torch.zeros(1, 1, dtype=torch.float64)
    rtol = 1e-6 if method not in ("ImplicitEuler",) else 1e-4
    found = float(
        solve(
            lambda t, y: 1 - y, y0, (0.0, 1.0), method=method, batched=batched, rtol=rtol, atol=0.0
        ).y[-1]
    )
    assert found == pytest.approx(1 - math.exp(-1), abs=1e-4 if rtol == 1e-6 else 1e-2)


@pytest.mark.parametrize(
    ("method", "batched"),
    [("QNDF", False), ("Kvaerno5", False), ("RadauIIA5", False), ("QNDF", True)],
)
def test_one_component_without_absolute_tolerance(method, batched):
    """The other one has its own, and the pair is not linear."""
    y0, atol = (
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        torch.tensor([1e-9, 0.0], dtype=torch.float64),
    )

    def f(t, y):
        return torch.stack((-(y[..., 0] ** 2), y[..., 0] ** 2), -1)

    found = solve(
        f, y0, (0.0, 1.0), method=method, batched=batched, atol=atol if batched else atol.view(1, 2)
    ).y[-1, 0]
    assert found.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)


@pytest.mark.parametrize("unit", [2.0**-60, 2.0**-30, 2.0**30])
@pytest.mark.parametrize("method", ["QNDF", "FBDF", "Kvaerno5", "RadauIIA5", "Rodas5P", "Tsit5"])
def test_another_unit_of_time(method, unit):
    """A rest state that begins to move: first steps are parts of the span, not of one unit."""
    y0 = torch.zeros(1, dtype=torch.float64)
    solution = solve(lambda t, y: (torch.cos(t / unit) - y) / unit, y0, (0.0, unit), method=method)
    right = (math.cos(1) + math.sin(1) - math.exp(-1)) / 2
    assert float(solution.y[-1]) == pytest.approx(right, rel=1e-4)
    assert solution.stats.accepted + solution.stats.rejected < 200
