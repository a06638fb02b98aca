"""Whether a solve can run backward: an estimate of the error growth in the reversed problem.

What decays forward grows backward, at the rate of the fastest decay. Errors of the reversed states
grow like exp(integral of alpha dt). alpha is the largest real part of the eigenvalues of -M^-1 J.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...algebra.arnoldi import arnoldi
from ...algebra.jacobian import Jacobian
from ...algebra.products import Products

if TYPE_CHECKING:
    from ...core.vector_field import VectorField

STATES = 32  # the number of states at which to evaluate J
# Up to this number of components, compute all eigenvalues. For more, Arnoldi's method computes the
# extreme ones.
DENSE_UP_TO = 200
ARNOLDI = 24  # products with J in Arnoldi's method


def reverse_error_growth(
    field: VectorField, points: Sequence[tuple[float, Tensor]], direction: float, restarts: bool
) -> float:
    """The log of the largest factor by which errors of the reversed states grow in the backward
    solve.

    points: [(t, y (n,))] in the order of the forward solve. The function interpolates alpha
    linearly between them. restarts: whether the states restart at each point, so that errors grow
    only from one point to the next.
    """
    chosen = points
    if len(points) > STATES:
        chosen = [points[round(i * (len(points) - 1) / (STATES - 1))] for i in range(STATES)]
    rates = dict(
        zip(
            (t for t, _ in chosen),
            (max_decay(field, t, y, direction) for t, y in chosen),
            strict=True,
        )
    )
    worst = total = 0.0
    for (a, _), (b, _) in zip(chosen[:0:-1], chosen[-2::-1], strict=True):
        length = direction * (a - b)
        if restarts and chosen is not points:
            length = min(
                length,
                max(
                    direction * (v - u) for (u, _), (v, _) in zip(points, points[1:], strict=False)
                ),
            )
        rate = 0.5 * (rates[a] + rates[b])
        if math.isfinite(rate):
            step = rate * length
        else:
            step = math.inf
        if restarts:
            total = step
        else:
            total = max(0.0, total) + step
        worst = max(worst, total)
    return worst


def max_decay(field: VectorField, t: float, y: Tensor, direction: float = 1.0) -> float:
    """alpha at (t, y), in 1/time: the largest real part of the eigenvalues of -direction M^-1 J."""
    with torch.no_grad():
        if field.size <= DENSE_UP_TO:
            matrix = Jacobian(field, repairs=False)(t, y)
        else:
            matrix = _ritz(field, t, y)
        if field.mass is not None and field.size <= DENSE_UP_TO:
            matrix = field.mass.pinv_apply_columns(matrix)
        if not bool(torch.isfinite(matrix).all()):
            return math.inf
        return float((-direction * torch.linalg.eigvals(matrix.double()).real).max())


def _ritz(field, t, y):
    """A matrix (k, k) whose eigenvalues approach the extreme ones of M^-1 J, from products with
    M^-T J^T."""
    products = Products(field, t, y)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(y), generator=generator, dtype=torch.float64).to(y)

    def product(v):
        if field.mass is not None:
            v = field.mass.pinv_apply_transposed(v)
        return products.vjps(v.unsqueeze(0))[0]

    return torch.from_numpy(arnoldi(product, start, ARNOLDI)[:-1])
