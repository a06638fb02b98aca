"""Restarted GMRES. Saad & Schultz, SIAM J. Sci. Stat. Comput. 7 (1986)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def gmres(
    apply: Callable[[Tensor], Tensor], b: Tensor, tol: float, restart: int, cycles: int
) -> tuple[Tensor, float]:
    """Solve A x = b for x, (n,). Return (x, residual), with residual = |b - A x|.

    The residual is at most tol, unless all cycles were used. It is NaN if a product is not finite.
    apply: v -> A v. Uses modified Gram-Schmidt. The Hessenberg matrix and its rotations are floats;
    each iteration fetches them with one synchronisation.
    """
    x = None
    r = b
    size = float(b.norm())
    for _ in range(cycles):
        if not size > tol:
            break
        basis = [r / size]
        triangle = []
        rotations: list[tuple[float, float]] = []
        g = [size]
        for k in range(restart):
            w = apply(basis[k])
            products = []
            for v in basis:
                products.append(torch.dot(v, w))
                w = torch.addcmul(w, v, products[-1], value=-1)
            products.append(w.norm())
            column = torch.stack(products).tolist()
            if not all(map(math.isfinite, column)):
                return b * math.nan, math.nan
            below = column[-1]
            for i, (cos, sin) in enumerate(rotations):
                column[i], column[i + 1] = (
                    cos * column[i] + sin * column[i + 1],
                    cos * column[i + 1] - sin * column[i],
                )
            length = math.hypot(column[k], below)
            if length == 0:
                break
            cos = column[k] / length
            sin = below / length
            rotations.append((cos, sin))
            triangle.append([*column[:k], length])
            g[k:] = [cos * g[k], -sin * g[k]]
            if abs(g[-1]) <= tol or below <= 1e-14 * length:
                break
            basis.append(w / below)
        weights = _back(triangle, g)
        if weights:
            combined = torch.tensor(weights, dtype=b.dtype, device=b.device)
            update = torch.mv(torch.stack(basis[: len(weights)], 1), combined)
            if x is None:
                x = update
            else:
                x = x + update
            if abs(g[-1]) <= tol:
                return x, abs(g[-1])
            r = b - apply(x)
            size, last = float(r.norm()), size
            if size >= last:  # no progress: the next cycle would repeat this one
                break
        else:
            break
    return (torch.zeros_like(b) if x is None else x), size


def _back(triangle, g):
    """Solve the triangular system whose k-th column is triangle[k]."""
    weights = [0.0] * len(triangle)
    for i in range(len(triangle) - 1, -1, -1):
        total = g[i] - sum(triangle[j][i] * weights[j] for j in range(i + 1, len(triangle)))
        weights[i] = total / triangle[i][i]
    return weights
