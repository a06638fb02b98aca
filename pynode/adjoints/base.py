"""The one autograd.Function through which a solve is differentiated."""

from __future__ import annotations

import torch


class Integrate(torch.autograd.Function):
    """Outputs (T, n) of a recorded trajectory as a function of y0 and the parameters."""

    @staticmethod
    def forward(ctx, solve, pullback, y0, *parameters):
        """solve() -> (T, n) outputs; pullback(grads (T, n)) -> (cotangent of y0, cotangents of the parameters)."""
        ctx.pullback = pullback
        return solve()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grads):
        y0, parameters = ctx.pullback(grads.contiguous())
        return None, None, y0, *parameters
