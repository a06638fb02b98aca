"""A function of one variable whose derivative is given.

Reverse mode sums the derivative of a vector function in one variable over every operation of the
function. With the slopes known, the sum is one product. The Jacobian of a mechanism has a column of
temperature, which becomes several times shorter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Tangent(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, _, slope = inputs
        ctx.save_for_backward(slope)
        ctx.save_for_forward(slope)
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, None]:
        (cotangent,) = cotangents
        (slope,) = ctx.saved_tensors
        return (cotangent * slope).sum(-1, keepdim=True).sum_to_size(ctx.shape), cotangent, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, value, _ = tangents
        (slope,) = ctx.saved_tensors
        if x is None:
            return value
        if value is None:
            return x * slope
        return value + x * slope


def with_slope(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """value, (..., m), whose derivative in x, (..., 1), is slope, (..., m).

    value must be computed from x.detach(). Derivatives of value in other tensors stay. slope is
    computed from x, so that second derivatives are right.
    """
    return _Tangent.apply(x, value, slope)
