"""Inverses and products of many small matrices, written out for GPUs, against LAPACK and BLAS."""

import pytest
import torch

from pynode.algebra.row_matrices import applied, eliminated
from pynode.core.products import written_out

SIZES = [1, 2, 3, 5, 8]


def matrices(n, dtype):
    """100 matrices, among them some that need their pivots."""
    generator = torch.Generator().manual_seed(n)
    made = torch.randn(100, n, n, generator=generator, dtype=torch.float64)
    made[0] = torch.eye(n).flip(0)
    made[1] = torch.eye(n).roll(1, 0) + 1e-12 * made[1]
    made[2::4, 0] *= 1e-9
    return made.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", SIZES)
def test_elimination_is_lapacks_inverse(n, dtype):
    """To rounding in the condition of each matrix; the matrices stay as they are."""
    given = matrices(n, dtype)
    before = given.clone()
    found = eliminated(given)
    expected = torch.linalg.inv(given)
    size = expected.abs().amax((1, 2))
    allowed = 8 * n * torch.finfo(dtype).eps * torch.linalg.cond(given)
    assert torch.equal(given, before)
    assert ((found - expected).abs().amax((1, 2)) <= allowed * size).all()


def test_a_singular_matrix_spoils_no_other():
    given = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    given[1, 2] = given[1, 1]
    found = eliminated(given)
    assert not torch.isfinite(found[1]).all()
    assert torch.equal(found[::2], given[::2])


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("n", SIZES)
def test_written_out_products(n, width):
    given = matrices(n, torch.float64)
    columns = torch.randn(100, n, width, dtype=torch.float64)
    torch.testing.assert_close(written_out(given, columns), torch.bmm(given, columns))
    out = torch.empty(100, n, dtype=torch.float64)
    assert applied(given, columns[:, :, 0], out) is out
    torch.testing.assert_close(out, torch.bmm(given, columns)[:, :, 0])
    torch.testing.assert_close(applied(given, columns[:, :, 0]), out)
