"""What every adjoint offers, and the one autograd.Function through which a solve is differentiated."""

from __future__ import annotations

import torch


class Adjoint:
    """A way to make gradients, by SciML's name. Its constructor takes what the user may choose about it.

    needs: what the forward solve keeps for it: 'steps' (with what their derivative needs), 'dense' (polynomials of all
    steps) or 'outputs' alone.
    """

    name = ""
    needs = "steps"

    def check(self, field, method):
        """ValueError where it does not serve this field under the forward method. Asked once, before the solve."""

    def admit(self, field, trajectory):
        """ValueError where the solve that was made cannot be taken back by this adjoint. Asked before it is returned."""

    def pullback(self, field, method, trajectory, times, grads, options):
        """Cotangents grads, (T, n), of the outputs at times to (cotangent of y0 (n,), list beside field.parameters).

        times: inside the trajectory, in any order. options: of the solve, atol as a tensor, 0-d or (n,).
        """
        raise NotImplementedError


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
