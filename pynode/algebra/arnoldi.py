"""Arnoldi's method: the extreme eigenvalues of a linear map, from products with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Of the largest entry: below it the space is exhausted, and what is left is rounding.
EXHAUSTED = 1e-12


@torch.no_grad()
def arnoldi(product: Callable[[Tensor], Tensor], v: Tensor, max_columns: int) -> np.ndarray:
    """The Hessenberg matrix (k + 1, k) of a linear map on its Krylov space, k at max_columns ``max_columns``.

    product: maps (n,) to (n,); v: (n,) the first vector, not zero. The eigenvalues of the upper
    (k, k) are Ritz values, and the last entry measures how far they have converged. Entries are
    not finite where a product is not. One product and one synchronisation a column. Saad,
    Numerical Methods for Large Eigenvalue Problems (2011), sec. 6.2.
    """
    basis = [v / v.norm()]
    hessenberg = np.zeros((max_columns + 1, max_columns))
    for k in range(max_columns):
        w = product(basis[k])
        basis_rows = torch.stack(basis)
        column = torch.zeros(k + 1, dtype=w.dtype, device=w.device)
        # Classical Gram-Schmidt twice is as orthogonal as it can be.
        for _ in range(2):
            part = torch.mv(basis_rows, w)
            w = w - torch.mv(basis_rows.T, part)
            column = column + part
        column = torch.cat((column, w.norm().unsqueeze(0))).cpu().numpy()
        hessenberg[: k + 2, k] = column
        if not column[-1] > EXHAUSTED * np.abs(hessenberg).max():
            return hessenberg[: k + 2, : k + 1]
        basis.append(w / float(column[-1]))
    return hessenberg
