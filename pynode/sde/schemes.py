"""Steps of fixed size for Itô's dy = f dt + g dW. Kloeden & Platen, Numerical Solution of SDEs,
1992.

A scheme is explicit or implicit in the drift, and has the noise of Euler and Maruyama or that of
Milstein:

    y' = y + h f + g dW (+ (g dg/dy)(dW^2 - h) / 2)

with f at (t, y), or at (t + h, y') if it is implicit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from ..core import products
from .equation import SDE


class Scheme(NamedTuple):
    """A scheme.

    name: SciML's if it has one.
    strong: the order of convergence of the paths, if g depends on y. If it does not, the order is
        1.
    milstein: whether the noise has its second term.
    implicit: whether the drift is evaluated at the end of the step.
    """

    name: str
    strong: float
    milstein: bool
    implicit: bool
    reference: str


SCHEMES = {
    scheme.name.lower(): scheme
    for scheme in (
        Scheme("EM", 0.5, False, False, "Kloeden & Platen, eq. (10.2.4)"),
        Scheme("Milstein", 1.0, True, False, "Kloeden & Platen, eq. (10.3.1)"),
        Scheme("ImplicitEM", 0.5, False, True, "Kloeden & Platen, eq. (12.2.2)"),
        Scheme("ImplicitMilstein", 1.0, True, True, "Kloeden & Platen, eq. (12.2.9)"),
    )
}

ITERATIONS = 12


def step(
    scheme: Scheme, sde: SDE, t: float, h: float, y: torch.Tensor, dw: torch.Tensor
) -> torch.Tensor | None:
    """The state at t + h from y (..., d) at t, with the increment dw of the noise. None if Newton's
    iteration fails."""
    if scheme.milstein:
        g, slope = sde.with_slope(t, y)
        noise = g * dw + 0.5 * slope * (dw * dw - h)
    else:
        g = sde.diffusion(t, y)
        if sde.diagonal:
            noise = g * dw
        else:
            noise = (g * dw.unsqueeze(-2)).sum(-1)
    if scheme.implicit:
        return _implicit_step(sde, t + h, h, y + noise, y)
    return y + noise + h * sde.drift(t, y)


def _implicit_step(sde, t, h, rhs, start):
    """The solution of y = rhs + h f(t, y), by Newton's iteration. The implicit function theorem
    gives its derivative.

    Only the last correction is in the graph. With A = I - h df/dy it adds A^-1 (rhs + h f(t, y) -
    y) to a y without derivatives. The derivative of this sum, A^-1 (drhs + h df), is that of the
    solution. Nothing is unrolled.
    """
    with torch.no_grad():
        y = start.detach()
        unit = torch.eye(start.shape[-1], dtype=start.dtype, device=start.device)
        # The convergence is quadratic: the remaining error is about the square of this.
        small = torch.finfo(y.dtype).eps ** 0.5
        tiny = torch.finfo(y.dtype).tiny
        for _ in range(ITERATIONS):
            matrix = unit - h * sde.jacobian(t, y)
            # A singular matrix gives infinity.
            change = products.solve_ex(matrix, rhs + h * sde.drift(t, y) - y)[0]
            # For each row, relative to the terms of the sum, which may cancel.
            whole = (
                torch.stack((rhs, y, y + change)).abs().amax((0, -1)).unsqueeze(-1).clamp(min=tiny)
            )
            size = float((change.abs() / whole).max())
            if size <= small:
                break
            if not math.isfinite(size):
                return None
            y = y + change
        else:
            return None
    if not torch.is_grad_enabled():
        return y + change
    return y + products.solve(matrix, rhs + h * sde.drift(t, y) - y)
