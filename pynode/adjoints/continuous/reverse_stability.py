"""Whether a solve can be run backwards: how errors grow in the reversed problem, estimated
beforehand.

What decays forward grows backward, at the rate of the fastest decay: errors of the reversed states
grow like exp(integral of alpha dt), alpha the largest real part of the eigenvalues of -M^-1 J.
"""

from __future__ import annotations

import math

import torch

from ...algebra.jacobian import Jacobian
from ...algebra.products import Products

STATES = 32  # states at which J is looked at
# Components up to which all eigenvalues are computed; beyond, the extreme ones by Arnoldi's method.
DENSE_UP_TO = 200
ARNOLDI = 24  # products with J for those


def growth(field, points, direction, restarts):
    """log of the factor by which errors of the reversed states grow, at most, on the way back.

    points: [(t, y (n,))] in the order of the forward solve, between which alpha is interpolated
    linearly. restarts: whether the states start anew at each of them, so that errors grow from one
    to the next alone.
    """
    chosen = points
    if len(points) > STATES:
        chosen = [points[round(i * (len(points) - 1) / (STATES - 1))] for i in range(STATES)]
    rates = dict(
        zip((t for t, _ in chosen), (decay(field, t, y, direction) for t, y in chosen), strict=True)
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


def decay(field, t: float, y, direction=1.0):
    """alpha at (t, y), in 1/time: the largest real part of the eigenvalues of -direction M^-1 J."""
    with torch.no_grad():
        if field.size <= DENSE_UP_TO:
            matrix = Jacobian(field, repairs=False)(t, y)
        else:
            matrix = _arnoldi(field, t, y)
        if field.mass is not None and field.size <= DENSE_UP_TO:
            matrix = field.mass.rate_columns(matrix)
        if not bool(torch.isfinite(matrix).all()):
            return math.inf
        return float((-direction * torch.linalg.eigvals(matrix.double()).real).max())


def _arnoldi(field, t, y):
    """The Hessenberg matrix of M^-T J^T, whose eigenvalues approach the extreme ones of J from
    inside."""
    products = Products(field, t, y)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(len(y), generator=generator, dtype=torch.float64).to(y)
    basis = [v / v.norm()]
    hessenberg = torch.zeros(ARNOLDI + 1, ARNOLDI, dtype=y.dtype)
    for k in range(ARNOLDI):
        if field.mass is None:
            v = basis[-1]
        else:
            v = field.mass.pinv_apply_transposed(basis[-1])
        w = products.vjps(v.unsqueeze(0))[0]
        for _ in range(2):  # orthogonal to rounding
            for i, b in enumerate(basis):
                part = torch.dot(b, w)
                hessenberg[i, k] += part.item()
                w = w - part * b
        norm = w.norm().item()
        if not norm > 1e-12 * abs(hessenberg[: k + 1, k]).max().item():
            return hessenberg[: k + 1, : k + 1]
        hessenberg[k + 1, k] = norm
        basis.append(w / norm)
    return hessenberg[:ARNOLDI]
