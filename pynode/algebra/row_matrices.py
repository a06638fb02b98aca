"""Small matrices, one for each row of a batch: their inverses, and products with vectors.

On the CPU LAPACK and BLAS are fast for every size. A GPU's batched routines are made for larger
matrices. There the same arithmetic is written out for small ones, with one operation for all
matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import products
from ..core.products import SMALL


def _small(matrices: Tensor) -> bool:
    """Whether the device of these matrices, (m, n, n), is faster without LAPACK and BLAS."""
    return not matrices.is_cpu and matrices.shape[-1] <= SMALL


def inverses(matrices: Tensor, check: bool = False) -> Tensor:
    """The inverses of (m, n, n). A singular matrix gets numbers that are not finite. With check
    LAPACK raises an error for it."""
    if _small(matrices):
        return eliminated(matrices)
    if check:
        return products.inv(matrices)
    return products.inv_ex(matrices)[0]


def applied(matrices: Tensor, vectors: Tensor, out: Tensor | None = None) -> Tensor:
    """The product of every row, (m, n, n) with (m, n), into out if there is one."""
    if _small(matrices):
        return torch.sum(matrices * vectors.unsqueeze(1), 2, out=out)
    if out is None:
        return products.bmm(matrices, vectors.unsqueeze(2)).squeeze(2)
    products.bmm_into(matrices, vectors.unsqueeze(2), out=out.unsqueeze(2))
    return out


def eliminated(matrices: Tensor) -> Tensor:
    """The inverses of (m, n, n) by Gauss-Jordan elimination with partial pivoting: about ten
    operations for each of the n columns."""
    n = matrices.shape[-1]
    eye = torch.eye(n, dtype=matrices.dtype, device=matrices.device)
    work = torch.cat((matrices, eye.expand_as(matrices)), 2)
    for k in range(n):
        # The row with the largest element changes places with row k.
        place = work[:, k:, k].abs().argmax(1).add_(k).view(-1, 1, 1).expand(-1, 1, 2 * n)
        pivot = work.gather(1, place)
        work.scatter_(1, place, work[:, k : k + 1].clone())
        pivot = pivot / pivot[:, :, k : k + 1]
        work = torch.addcmul(work, work[:, :, k : k + 1], pivot, value=-1)
        work[:, k : k + 1] = pivot
    return work[:, :, n:]
