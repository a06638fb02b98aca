"""Arnoldi's method: the extreme eigenvalues of a linear map, from products with it."""

from __future__ import annotations

import numpy as np
import torch

# Of the largest entry: below it the space is exhausted, and what is left is rounding.
EXHAUSTED = 1e-12


@torch.no_grad()
def arnoldi(product, v, most) -> np.ndarray:
    """The Hessenberg matrix (k + 1, k) of a linear map on its Krylov space, k at most ``most``.

    product: maps (n,) to (n,); v: (n,) the first vector, not zero. The eigenvalues of the upper
    (k, k) are Ritz values, and the last entry measures how far they have converged. Entries are
    not finite where a product is not. One product and one synchronisation a column. Saad,
    Numerical Methods for Large Eigenvalue Problems (2011), sec. 6.2.
    """
    basis = [v / v.norm()]
    hessenberg = np.zeros((most + 1, most))
    for k in range(most):
        w = product(basis[k])
        stacked = torch.stack(basis)
        column = torch.zeros(k + 1, dtype=w.dtype, device=w.device)
        # Classical Gram-Schmidt twice is as orthogonal as it can be.
        for _ in range(2):
            part = torch.mv(stacked, w)
            w = w - torch.mv(stacked.T, part)
            column = column + part
        entries = torch.cat((column, w.norm().unsqueeze(0))).cpu().numpy()
        hessenberg[: k + 2, k] = entries
        if not entries[-1] > EXHAUSTED * np.abs(hessenberg).max():
            return hessenberg[: k + 2, : k + 1]
        basis.append(w / float(entries[-1]))
    return hessenberg
