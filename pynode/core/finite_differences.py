"""Finite differences of f where its derivative is not finite. For example sqrt(y) at y = 0 has a
value, but an infinite slope."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .status import RejectStep


def finite(*parts: Tensor | None) -> bool:
    """Whether all entries are finite. Copies one number to the host."""
    sums = [part.detach().sum() for part in parts if part is not None]
    total = sums[0]
    for other in sums[1:]:
        total = total + other
    return math.isfinite(total.cpu().numpy())


def repaired(f: Callable[[Tensor], Tensor], y: Tensor, jac: Tensor) -> Tensor:
    """jac, (..., n, n). Finite differences of f(y), (..., n) -> (..., n), replace entries that are
    not finite, where f itself is finite."""
    with torch.no_grad():
        y = y.detach()
        base = f(y)
        undefined = ~torch.isfinite(base).all(-1)
        good = torch.isfinite(jac) | undefined.unsqueeze(-1).unsqueeze(-1)
        if bool(good.all()):
            return jac
        change = _changes(y)
        columns = torch.zeros_like(jac)
        for j in (
            (~good)
            .reshape(-1, jac.shape[-2], jac.shape[-1])
            .any(0)
            .any(0)
            .nonzero()
            .flatten()
            .tolist()
        ):
            columns[..., j] = _difference(f, y, base, change, j)
    _warn()
    return torch.where(good, jac, columns)


def repaired_entries(
    f: Callable[[Tensor], Tensor], y: Tensor, values: np.ndarray, rows: np.ndarray, cols: np.ndarray
) -> np.ndarray:
    """The same for the entries of a sparse Jacobian as NumPy arrays: values at rows and cols."""
    values, bad = values.copy(), ~np.isfinite(values)
    with torch.no_grad():
        y = y.detach()
        base = f(y)
        if not finite(base):
            return values
        change = _changes(y)
        for j in np.unique(cols[bad]).tolist():
            which = bad & (cols == j)
            values[which] = _difference(f, y, base, change, j).cpu().numpy()[rows[which]]
    _warn()
    return values


def _warn():
    warnings.warn(
        "the Jacobian of the vector field has infinite or NaN entries at some point (a"
        " square root or a power of a state that is zero?): finite differences replace them there",
        stacklevel=3,
    )


def repaired_slope(f: Callable[[Tensor], Tensor], t: Tensor, y: Tensor, slope: Tensor) -> Tensor:
    """The same for df/dt, (..., n). f(t) -> (..., n), t (...,). The change of t is a fraction of t
    or of the time |y| / |y'|."""
    with torch.no_grad():
        good = torch.isfinite(slope)
        if bool(good.all()):
            return slope
        base = f(t)
        size = torch.maximum(
            t.abs(), (y.norm(dim=-1) / base.norm(dim=-1)).nan_to_num(0.0, 0.0).to(t)
        )
        step = math.sqrt(torch.finfo(base.dtype).eps) * torch.where(
            size > 0, size, torch.ones_like(size)
        )
        quotient = torch.full_like(base, torch.nan)
        for sign in (1, -1):
            moved = t + sign * step
            quotient = _replace_nonfinite(
                quotient, lambda moved=moved: (f(moved) - base) / (moved - t).unsqueeze(-1).to(base)
            )
    return torch.where(good, slope, quotient)


def _changes(y):
    """A change of every component, (..., n): a fraction of its size. For a zero component it is a
    fraction of the size of the others."""
    part = math.sqrt(torch.finfo(y.dtype).eps)
    size = y.abs()
    typical = size.mean(-1, keepdim=True).expand_as(size)
    size = torch.where(size > 0, size, torch.where(typical > 0, typical, torch.ones_like(size)))
    return part * size


def _difference(f, y, base, change, j):
    """Column j, (..., n), from the side on which f is finite."""
    quotient = torch.full_like(base, torch.nan)
    for sign in (1, -1):
        moved = y.clone()
        moved[..., j] += sign * change[..., j]
        quotient = _replace_nonfinite(
            quotient, lambda moved=moved: (f(moved) - base) / (moved - y)[..., j].unsqueeze(-1)
        )
    return quotient


def _replace_nonfinite(quotient, other):
    """The quotient, with the entries of other() instead of entries that are not finite."""
    good = torch.isfinite(quotient)
    if bool(good.all()):
        return quotient
    try:
        return torch.where(good, quotient, other())
    except RejectStep:
        return quotient
