"""Derivatives by central differences in float64."""

from collections.abc import Callable

import torch
from torch import Tensor


def central(value: Callable[[Tensor], Tensor], p: Tensor, size: float = 1e-5) -> Tensor:
    """The derivatives of value(p), a number or a vector, in p, (k,), as (..., k): error of order
    two."""
    found = []
    for i in range(len(p)):
        step = torch.zeros_like(p)
        step[i] = size * max(1.0, abs(float(p[i])))
        found.append((value(p + step) - value(p - step)) / (2 * step[i]))
    return torch.stack(found, -1).detach()


def gradient(value: Callable[[Tensor], Tensor], p: Tensor) -> Tensor:
    """The gradient of value(p), a number, in p, (k,), by autograd."""
    p = p.detach().clone().requires_grad_()
    return torch.autograd.grad(value(p), p)[0]
