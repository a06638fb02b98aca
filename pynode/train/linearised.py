"""Trajectories of a field that are linearised about the data: their distance from the data, and its
gradient.

The observations are interpolated, and implicit Euler steps connect the interpolated states. One
Newton iteration on all steps of a trajectory at once gives, to first order, the distance between
the solution of the field and the data:

    r_k = y_{k-1} + h_k f(y_k) - y_k,     d_k = A_k (d_{k-1} + r_k),     A_k = (I - h_k J_k)^-1,

with d_0 = 0. The loss is the mean of |d| / (1 + |d|), because far from the data d means little. Its
gradient needs no derivative of A: with the cotangents

    lambda_k = A_k^T (dloss/dd_k + lambda_{k+1}),

it is the gradient of sum_k h_k lambda_k^T (f(y_k) + J_k d_k) with h, lambda and d held fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Steps:
    """All K implicit Euler steps of all trajectories, in scaled states.

    t, h: (K,), end and length of a step.
    start, end: (K, n), the interpolated states at its ends.
    first: (K,), whether a trajectory begins with it.
    weight: (K, n), one where an observation lies at the end of the step.
    """

    t: torch.Tensor
    h: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    first: torch.Tensor
    weight: torch.Tensor


class Linearised:
    """The loss of a field and its gradient. A call evaluates f and J at all steps at once.

    field: f(t, u) for rows of states. weights: the tensors of the gradient.
    """

    def __init__(
        self, field: Callable[..., torch.Tensor], weights: Sequence[torch.Tensor], steps: Steps
    ) -> None:
        self.field = field
        self.weights = weights
        self.steps = steps

    def __call__(self) -> tuple[float, torch.Tensor]:
        """(loss, its gradient with respect to all weights as one vector). Both can overflow."""
        steps = self.steps
        end = steps.end.clone().requires_grad_()
        f = self.field(steps.t, end)
        inverse = inverses(steps, f, end)
        d = deviations(steps, f.detach(), inverse)
        size = d.abs()
        weight = steps.weight / steps.weight.sum()
        loss = float((weight * (size / (1 + size))).sum())
        cotangent = steps.h[:, None] * _adjoint(
            steps, inverse, weight * d.sign() / (1 + size).square()
        )
        (pulled,) = torch.autograd.grad(f, end, cotangent, create_graph=True)
        total = (cotangent * f).sum() + (pulled * d).sum()
        parts = torch.autograd.grad(total, self.weights, materialize_grads=True)
        return loss, torch.cat([part.reshape(-1) for part in parts])


def inverses(steps: Steps, f: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """A, (K, n, n). f: (K, n), with its graph from end."""
    n = end.shape[1]
    # Row k of f depends only on row k of the states: n products with unit vectors give all K
    # Jacobians.
    unit = torch.eye(n, dtype=f.dtype)[:, None].expand(n, *f.shape)
    (rows,) = torch.autograd.grad(f, end, unit, retain_graph=True, is_grads_batched=True)
    h = steps.h[:, None, None]
    # Not inv, which raises an error for one singular matrix.
    return torch.linalg.inv_ex(torch.eye(n, dtype=f.dtype) - h * rows.transpose(0, 1)).inverse


def deviations(steps: Steps, f: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """The distances d, (K, n), of the linearised trajectories from the interpolated data."""
    residual = steps.start + steps.h[:, None] * f - steps.end
    own = (inverse @ residual.unsqueeze(-1)).squeeze(-1)
    return scan(torch.where(steps.first[:, None, None], torch.zeros_like(inverse), inverse), own)


def _adjoint(steps, inverse, cotangent):
    """lambda, (K, n), for the cotangents of d, (K, n)."""
    transposed = inverse.mT
    own = (transposed @ cotangent.unsqueeze(-1)).squeeze(-1)
    # Nothing comes back from the next trajectory.
    last = steps.first.roll(-1)[:, None, None]
    factors = torch.where(last, torch.zeros_like(transposed), transposed)
    return scan(factors.flip(0), own.flip(0)).flip(0)


def scan(a: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """x_k = a_k x_{k-1} + c_k with x_{-1} = 0, for a (K, n, n) and c (K, n), in log2 K batched
    products.

    Hillis & Steele, Data parallel algorithms, CACM 29 (1986).
    """
    span = 1
    while span < len(c):
        c = torch.cat((c[:span], c[span:] + (a[span:] @ c[:-span].unsqueeze(-1)).squeeze(-1)))
        if 2 * span < len(c):
            a = torch.cat((a[:span], a[span:] @ a[:-span]))
        span *= 2
    return c
