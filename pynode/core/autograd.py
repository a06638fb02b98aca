"""A mark in the graph behind which there are no second derivatives."""

from __future__ import annotations

import torch


class FirstOrderOnly(torch.autograd.Function):
    """x itself; a second derivative that passes here is refused, because part of it would be
    missing."""

    @staticmethod
    def forward(ctx, x, what):
        ctx.what = what
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return _FirstOrderOnlyGrad.apply(grad, *ctx.saved_tensors, ctx.what), None


class _FirstOrderOnlyGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad, x, what):
        ctx.what = what
        return grad.clone()

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError(
            f"second derivatives with respect to {ctx.what} are not available: detach them there"
        )
