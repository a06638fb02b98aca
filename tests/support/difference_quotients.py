"""Derivatives by central differences in float64."""

from collections.abc import Callable

import torch
from torch import Tensor


def central(value: Callable[[Tensor], Tensor], p: Tensor, size: float = 1e-5) -> Tensor:
    """The gradient of value(p), a number, in p, (k,): error of order four."""
    found = []
    for i in range(len(p)):
        step = torch.zeros_like(p)
        step[i] = size * max(1.0, abs(float(p[i])))
        near = value(p + step) - value(p - step)
        far = value(p + 2 * step) - value(p - 2 * step)
        found.append((8 * near - far) / (12 * step[i]))
    return torch.stack(found).detach()


def gradient(value: Callable[[Tensor], Tensor], p: Tensor) -> Tensor:
    """The gradient of value(p), a number, in p, (k,), by autograd."""
    p = p.detach().clone().requires_grad_()
    return torch.autograd.grad(value(p), p)[0]
