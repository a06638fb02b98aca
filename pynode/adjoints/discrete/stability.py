"""Whether a gradient was made of steps as long as the stability of an explicit method allows, where
it is mostly noise.

There a fast mode, which the solution forgets at once, is kept alive from step to step by the method
alone: in the state as an error below the tolerance, in the derivative of the state as that error
times the number of steps that it lived through.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ...methods.adams import Adams
    from ...methods.base import Step
    from ...methods.explicit import ExplicitRungeKutta

STEPS = 100  # fewer do not hide a gradient
LARGEST = 32  # states; Jacobians of larger ones cost more than the rest
SAMPLES = 12  # steps that are looked at
EVERY = 8  # of Adams' steps, which are looked at when they are taken again
FAST = 1.0  # a mode is fast that decays by more than exp(-FAST) in a step
SURVIVES = 0.8  # of a fast mode after a step, where it dies out too slowly for a derivative
# Adams methods, medians over the steps: where accuracy chose them h rho is 0.67 at most (Lorenz,
# Lotka and Volterra, an oscillator, a network; rtol 1e-2, and 0.42 at 1e-3); where stability did
# 0.9 to 1.7, which is 0.77 to 0.94 of what it allows.
ADAMS_FAST = 0.8
ADAMS_NEAR = 0.6


def sampled(count: int) -> np.ndarray | None:
    """Numbers of the steps, of so many, that are looked at; None where there are too few."""
    if count < STEPS:
        return None
    return np.linspace(0, count - 1, SAMPLES).astype(np.int64)


def check_explicit(method: ExplicitRungeKutta, jacobians: Tensor, h: Tensor) -> None:
    """Warn where an explicit Runge-Kutta method kept fast modes alive. jacobians: (m, n, n) at the
    starts of steps h, (m,)."""
    matrices = h.view(-1, 1, 1) * jacobians
    sizes = matrices.flatten(1).norm(dim=1)
    if not bool((sizes > FAST).sum() * 2 > len(sizes)) or not bool(torch.isfinite(sizes).all()):
        return
    z = torch.linalg.eigvals(matrices).cpu().numpy()
    left = np.abs(np.polyval(_stability(method.tableau)[::-1], z))
    if np.median(np.where(z.real < -FAST, left, 0).max(1)) > SURVIVES:
        _warn(method)


@cache
def _stability(tableau):
    """Coefficients of the powers of z of what a step makes of y' = lambda y, z = h lambda."""
    s = tableau.stages
    a = tableau.matrix()[:s, :s]
    term = np.ones(s)
    found = [1.0]
    b = np.array([float(x) for x in tableau.b])
    for _ in range(s):
        found.append(float(b @ term))
        term = a @ term
    return found


class AdamsWatch:
    """Looks at some of the steps of an Adams method as they are taken again."""

    def __init__(self, method: Adams, count: int) -> None:
        self.method = method
        if count >= STEPS:
            self.count = count
        else:
            self.count = 0
        self.seen = 0
        self.near = 0

    def look(self, step: Step, order: int) -> None:
        """step: just taken at this order."""
        self.seen += 1
        if self.count == 0 or self.seen % EVERY:
            return
        found = self.method.stiffness(step, order)
        self.near += found > ADAMS_FAST and found > ADAMS_NEAR * adams_boundary(order)

    def finish(self) -> None:
        if 2 * self.near > self.seen // EVERY:
            _warn(self.method)


@cache
def adams_boundary(k: int) -> float:
    """Where stability ends on the negative axis of z for the predictor of order k with the
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
        f"the steps of {method.name} were as long as its stability allows, so that this gradient"
        " may be noise although the solution is as accurate as asked: the problem is stiff; take"
        " method='auto', 'rodas5p' or 'qndf' for it, or adjoint='gauss', which does not"
        " differentiate the steps",
        RuntimeWarning,
        stacklevel=2,
    )
