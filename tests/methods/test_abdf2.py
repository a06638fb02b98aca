"""ABDF2: its order on steps that hardly vary and on steps that do, and its coefficients."""

import math

import numpy as np
import pytest

from pynode import solve
from pynode.methods.bdf.abdf2 import VariableHistory
from tests.support.cases import smooth, smooth_exact, tensor


def error(h):
    """Steps of h, which the tolerance does not cut: at t = 2, and between the steps."""
    solution = solve(
        smooth,
        smooth_exact(0.0),
        [0.0, 2.0],
        method="ABDF2",
        rtol=1e-4,
        atol=1e-4,
        first_step=h**1.5,
        max_step=h,
        dense=True,
    )
    assert max(step.h for step in solution._trajectory.steps) == pytest.approx(h)
    times = tensor(1.0301, 1.7703)
    return float((solution.y[-1] - smooth_exact(2.0)).norm()), float(
        (solution(times) - smooth_exact(times)).norm()
    )


def test_order_of_steps_and_of_dense_output():
    for coarse, fine in zip(error(1 / 256), error(1 / 512), strict=True):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("w", [0.5, 1.0, 2.0])
def test_coefficients_are_those_of_the_formula(w):
    """y1 = ((1 + w)^2 y - w^2 y_before) / (1 + 2 w) + h (1 + w) / (1 + 2 w) f, w the ratio of the
    steps."""
    form, h, past = VariableHistory(), 0.3, (0.0, 0.3 / w, 0.9 / w)
    assert 1 / form.leading(past, 2, h) == pytest.approx((1 + w) / (1 + 2 * w))
    p, q = form._read(tuple(-x / h for x in past), 2)
    # d = c f - q z and y1 = p z + d, so that the old values enter as p - q.
    expected = np.array([(1 + w) ** 2, -(w**2), 0.0, 0.0, 0.0]) / (1 + 2 * w)
    np.testing.assert_allclose(p - q, expected, atol=1e-13)
