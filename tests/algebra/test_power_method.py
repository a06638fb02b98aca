"""The power method on matrices whose eigenvalues are known, and on a field by differences."""

import math

import pytest
import torch

from pynode.algebra.power_method import (
    any_direction,
    power_method,
    scaled_difference_product,
    scaled_matrix_product,
)
from pynode.core.norm import Tolerance
from tests.support.cases import field_of, tensor

TOLERANCE = Tolerance(1e-3, torch.full((4,), 1e-3, dtype=torch.float64), 4)
Y = tensor(1.0, -2.0, 0.5, 3.0)


def matrix(*values):
    """A symmetric matrix with these eigenvalues."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))[0]
    return basis @ torch.diag(tensor(*values)) @ basis.T


def test_a_real_negative_eigenvalue():
    product = scaled_matrix_product(matrix(-1e3, -2.0, 0.5, -700.0), Y, TOLERANCE)
    mode = power_method(product, any_direction(Y), 60)
    assert mode.radius == pytest.approx(1e3, rel=1e-3)
    assert mode.cosine == pytest.approx(-1, abs=1e-3)
    assert mode.vector.norm().item() == pytest.approx(1)


def test_the_accuracy_ends_it_early():
    taken = []

    def product(v):
        taken.append(v)
        return matrix(-1e3, -2.0, 0.5, -10.0) @ v

    mode = power_method(product, any_direction(Y), 60, accuracy=0.05)
    assert len(taken) < 20
    assert mode.radius == pytest.approx(1e3, rel=0.05)


def test_a_turning_mode_has_a_right_angle():
    turning = torch.tensor([[0.0, 1e3], [-1e3, 0.0]], dtype=torch.float64)
    mode = power_method(lambda v: turning @ v, tensor(1.0, 0.5), 8)
    assert mode.radius == pytest.approx(1e3)
    assert abs(mode.cosine) < 1e-6


def test_no_motion_and_no_number():
    assert power_method(torch.zeros_like, any_direction(Y), 5) == (0.0, 0.0, None)
    broken = power_method(lambda v: v * math.nan, any_direction(Y), 5)
    assert broken == (math.inf, 0.0, None)


def test_differences_of_f_agree_with_the_matrix():
    jacobian = matrix(-1e3, -2.0, 0.5, -10.0)
    field = field_of(lambda t, y: jacobian @ y, Y)
    by_field = power_method(
        scaled_difference_product(field, 0.0, Y, field(0.0, Y), TOLERANCE), any_direction(Y), 10
    )
    by_matrix = power_method(scaled_matrix_product(jacobian, Y, TOLERANCE), any_direction(Y), 10)
    assert by_field.radius == pytest.approx(by_matrix.radius, rel=1e-5)
    assert by_field.cosine == pytest.approx(by_matrix.cosine, abs=1e-5)


def test_a_component_without_a_scale_is_left_out():
    """Zero without atol: nothing is known of its size."""
    bare = Tolerance(1e-3, tensor(0.0, 1e-3, 1e-3, 1e-3), 4)
    y = tensor(0.0, 1.0, 1.0, 1.0)
    field = field_of(lambda t, y: -y * tensor(1e6, 5.0, 2.0, 1.0), y)
    mode = power_method(
        scaled_difference_product(field, 0.0, y, field(0.0, y), bare), any_direction(y), 20
    )
    assert mode.radius == pytest.approx(5.0, rel=1e-2)
