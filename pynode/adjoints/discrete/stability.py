"""Detects gradients that are mostly noise because the steps reached the stability limit of an
explicit method.

At this limit the method keeps a fast mode alive from step to step, although the solution forgets it
at once. In the state this is an error below the tolerance. In the derivative of the state, this
error counts once for each step that it survived.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ...methods.adams import AdamsPECE
    from ...methods.base import Step
    from ...methods.explicit import ExplicitRungeKutta

STEPS = 100  # fewer steps cannot hide a gradient
LARGEST = 32  # states; for more, the Jacobians cost more than the rest
SAMPLES = 12  # the number of steps to check
EVERY = 8  # check one of this many Adams steps, when the backward pass repeats it
FAST = 1.0  # a fast mode decays by more than exp(-FAST) in a step
SURVIVES = 0.8  # a larger remainder of a fast mode after a step is too large for a derivative
# Adams methods, medians over the steps. If accuracy limits the steps, h rho is at most 0.67
# (Lorenz, Lotka and Volterra, an oscillator, a network; rtol 1e-2; 0.42 at 1e-3). If stability
# limits them, h rho is 0.9 to 1.7, which is 0.77 to 0.94 of the stability limit.
ADAMS_FAST = 0.8
ADAMS_NEAR = 0.6


def sampled(count: int) -> np.ndarray | None:
    """The numbers of the steps to check, out of count. None if there are too few steps."""
    if count < STEPS:
        return None
    return np.linspace(0, count - 1, SAMPLES).astype(np.int64)


def check_explicit(method: ExplicitRungeKutta, jacobians: Tensor, h: Tensor) -> None:
    """Warn if an explicit Runge-Kutta method kept fast modes alive. jacobians: (m, n, n) at the
    starts of steps h, (m,)."""
    matrices = h.view(-1, 1, 1) * jacobians
    sizes = matrices.flatten(1).norm(dim=1)
    if not bool((sizes > FAST).sum() * 2 > len(sizes)) or not bool(torch.isfinite(sizes).all()):
        return
    z = torch.linalg.eigvals(matrices).cpu().numpy()
    remaining = np.abs(np.polyval(_stability(method.tableau)[::-1], z))
    if np.median(np.where(z.real < -FAST, remaining, 0).max(1)) > SURVIVES:
        _warn(method)


@cache
def _stability(tableau):
    """Coefficients of the stability function in powers of z = h lambda: one step on y' = lambda
    y."""
    s = tableau.stages
    a = tableau.matrix()[:s, :s]
    term = np.ones(s)
    powers = [1.0]
    b = np.array([float(x) for x in tableau.b])
    for _ in range(s):
        powers.append(float(b @ term))
        term = a @ term
    return powers


class AdamsWatch:
    """Checks some of the steps of an Adams method when the backward pass repeats them."""

    def __init__(self, method: AdamsPECE, count: int) -> None:
        self.method = method
        if count >= STEPS:
            self.count = count
        else:
            self.count = 0
        self.seen = 0
        self.near = 0

    def look(self, step: Step, order: int) -> None:
        """Check a step. order: of this step."""
        self.seen += 1
        if self.count == 0 or self.seen % EVERY:
            return
        stiffness = self.method.stiffness(step, order)
        self.near += stiffness > ADAMS_FAST and stiffness > ADAMS_NEAR * adams_boundary(order)

    def finish(self) -> None:
        """Warn if most checked steps were near the limit."""
        if 2 * self.near > self.seen // EVERY:
            _warn(self.method)


@cache
def adams_boundary(k: int) -> float:
    """The stability limit on the negative axis of z, for the predictor of order k with the
    corrector of order k + 1."""
    predictor = _weights(-np.arange(k))
    corrector = _weights(1 - np.arange(k + 1))
    companion = np.eye(k, k=-1)

    def stable(z):
        # y1 = y + z (c0 p + sum c_j y_j) with p = y + z sum b_j y_j
        companion[0] = z * (corrector[0] * z * predictor + corrector[1:])
        companion[0, 0] += 1 + z * corrector[0]
        return np.abs(np.linalg.eigvals(companion)).max() <= 1 + 1e-9

    return next(z for z in np.arange(0.05, 4, 0.01) if not stable(-z))


def _weights(nodes):
    """Weights of values at these nodes whose sum is the integral of their polynomial over [0,
    1]."""
    powers = np.arange(len(nodes))
    return np.linalg.solve(nodes[None] ** powers[:, None].astype(float), 1 / (powers + 1))


def _warn(method):
    warnings.warn(
        f"the steps of {method.name} were as long as its stability allows, so this gradient may be"
        " noise although the solution is as accurate as requested: the problem is stiff; use"
        " method='auto', 'rodas5p' or 'qndf', or adjoint='gauss', which does not differentiate the"
        " steps",
        RuntimeWarning,
        stacklevel=2,
    )
