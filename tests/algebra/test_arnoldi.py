"""Arnoldi's method on matrices whose eigenvalues are known."""

import math

import numpy as np
import torch

from pynode.algebra.arnoldi import arnoldi
from tests.support.cases import tensor


def ritz(matrix, most):
    hessenberg = arnoldi(lambda v: matrix @ v, torch.ones(len(matrix)).to(matrix), most)
    return np.linalg.eigvals(hessenberg[:-1]), hessenberg


def test_as_many_vectors_as_states_give_all_eigenvalues():
    values = tensor(-1e3, -2.0, 0.5, -10.0)
    found, hessenberg = ritz(torch.diag(values), 4)
    assert hessenberg.shape == (5, 4)
    assert np.allclose(np.sort(found.real), np.sort(values.numpy()), rtol=1e-9)
    assert hessenberg[-1, -1] < 1e-9


def test_few_vectors_find_the_extreme_ones():
    values = torch.linspace(-1.0, 0.0, 200, dtype=torch.float64)
    values[0], values[-1] = -50.0, 20.0
    found, _ = ritz(torch.diag(values), 20)
    assert np.isclose(found.real.min(), -50.0, rtol=1e-9)
    assert np.isclose(found.real.max(), 20.0, rtol=1e-9)


def test_an_oscillation_is_complex():
    turning = torch.tensor([[0.0, 7.0], [-7.0, 0.0]], dtype=torch.float64)
    found, _ = ritz(turning, 2)
    assert np.allclose(np.sort(found.imag), [-7.0, 7.0])


def test_an_exhausted_space_ends_early():
    """The identity maps every vector to itself: one vector is all there is."""
    found, hessenberg = ritz(torch.eye(6, dtype=torch.float64), 5)
    assert hessenberg.shape == (2, 1)
    assert np.allclose(found, 1.0)


def test_what_is_not_finite_shows():
    broken = arnoldi(lambda v: v * math.nan, tensor(1.0, 2.0), 2)
    assert not np.isfinite(broken).all()
