"""A node of the graph that refuses second derivatives."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor


class FirstOrderOnly(torch.autograd.Function):
    """Returns x. Refuses a second derivative, because a part of it would be missing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, what: str) -> Tensor:
        ctx.what = what
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _FirstOrderOnlyGrad.apply(grad, *ctx.saved_tensors, ctx.what), None


class _FirstOrderOnlyGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, what: str) -> Tensor:
        ctx.what = what
        return grad.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> NoReturn:
        raise NotImplementedError(
            f"second derivatives with respect to {ctx.what} are not available: detach them there"
        )
