"""Differential-algebraic systems of index 1 that are hard to keep on their algebraic equations."""

import math

import pytest
import torch

from pynode import solve
from tests.support.cases import tensor

# At t = 0.1, by Rodas5P at rtol 1e-7.
AMPLIFIED = (
    -0.0055621450,
    3.0065224718,
    2.8499587885,
    3.0740785429,
    2.6307900444,
    2.6889811392,
    5.1361521923,
    0.8718074766,
)


def transistor_amplifier(t, y):
    """Of the IVP test set. Its exponentials make a Jacobian worthless some tolerances from where it
    was made."""
    supply, r = 6.0, 9000.0
    one, two = (1e-6 * (torch.exp((y[i] - y[i + 1]) / 0.026) - 1) for i in (1, 4))
    return torch.stack(
        (
            (y[0] - 0.1 * torch.sin(200 * math.pi * t)) / 1000,
            (2 * y[1] - supply) / r + 0.01 * one,
            y[2] / r - one,
            (y[3] - supply) / r + 0.99 * one,
            (2 * y[4] - supply) / r + 0.01 * two,
            y[5] / r - two,
            (y[6] - supply) / r + 0.99 * two,
            y[7] / r,
        )
    )


def capacities():
    """M, of rank 5 and not diagonal."""
    mass = torch.zeros(8, 8, dtype=torch.float64)
    for i, c in ((0, 1e-6), (3, 3e-6), (6, 5e-6)):
        mass[i : i + 2, i : i + 2] = c * tensor([-1.0, 1.0], [1.0, -1.0])
    mass[2, 2], mass[5, 5] = -2e-6, -4e-6
    return mass


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [("auto", 1e-3), ("QNDF", 1e-3), ("FBDF", 1e-3), ("QNDF", 1e-5), ("FBDF", 1e-5)],
)
def test_transistor_amplifier(method, tolerance):
    y0 = tensor(0.0, 3, 3, 6, 3, 3, 6, 0)
    options = {"method": method, "rtol": tolerance, "atol": tolerance, "mass": capacities()}
    solution = solve(transistor_amplifier, y0, (0.0, 0.1), **options)
    assert torch.allclose(
        solution.y[-1], tensor(*AMPLIFIED), atol=20 * tolerance, rtol=20 * tolerance
    )
    assert solution.stats.accepted + solution.stats.rejected < 5000


@pytest.mark.parametrize("turned", [False, True])
def test_rosenbrock23_by_its_error_in_the_algebraic_components(turned):
    """Its estimate there is 5.8 times the error, both of order 2: 700 steps, where half of them
    hold the tolerance."""
    turn = (
        torch.linalg.qr(tensor([3.0, 4.0], [-4.0, 3.0]))[0]
        if turned
        else torch.eye(2, dtype=torch.float64)
    )

    def f(t, x):
        _, z = turn.T @ x
        return turn @ torch.stack((z, torch.sin(5 * t) - z))

    mass = turn @ torch.diag(tensor(1.0, 0.0)) @ turn.T
    solution = solve(
        f, tensor(0.0, 0.0), [0.0, 3.0], method="Rosenbrock23", rtol=1e-4, atol=1e-4, mass=mass
    )
    exact = tensor((1 - math.cos(15)) / 5, math.sin(15))
    assert torch.allclose(turn.T @ solution.y[-1], exact, atol=5e-4)
    assert solution.stats.accepted < 500
