"""Arnoldi's method: extreme eigenvalues of a linear map, from products with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# As a fraction of the largest entry. A smaller last entry is rounding: the space is exhausted.
EXHAUSTED = 1e-12


@torch.no_grad()
def arnoldi(product: Callable[[Tensor], Tensor], v: Tensor, max_columns: int) -> np.ndarray:
    """Return the Hessenberg matrix (k + 1, k) of a linear map on its Krylov space, k <=
    max_columns.

    product: maps (n,) to (n,). v: the first vector, (n,), not zero. The eigenvalues of the upper
    (k, k) block are Ritz values. The last entry measures their convergence. If a product is not
    finite, entries of the matrix are not finite. Each column costs one product and one
    synchronisation. Saad, Numerical Methods for Large Eigenvalue Problems (2011), sec. 6.2.
    """
    basis = [v / v.norm()]
    hessenberg = np.zeros((max_columns + 1, max_columns))
    for k in range(max_columns):
        w = product(basis[k])
        basis_rows = torch.stack(basis)
        column = torch.zeros(k + 1, dtype=w.dtype, device=w.device)
        # Two passes of classical Gram-Schmidt make the vectors orthogonal to rounding.
        for _ in range(2):
            part = torch.mv(basis_rows, w)
            w = w - torch.mv(basis_rows.T, part)
            column = column + part
        entries = torch.cat((column, w.norm().unsqueeze(0))).cpu().numpy()
        hessenberg[: k + 2, k] = entries
        if not entries[-1] > EXHAUSTED * np.abs(hessenberg).max():
            return hessenberg[: k + 2, : k + 1]
        basis.append(w / float(entries[-1]))
    return hessenberg
