"""A first guess of the weights without a single solve.

From random weights a stiff field is learned slowly: a thousand solves go by before the fast transient is where it belongs.
This guess needs none. The observations are interpolated, and implicit Euler steps are laid along them. If the field were
right, every step would close; where it does not, one Newton iteration on all steps of a trajectory at once tells, to first
order, how far the solution of this field lies from the data:

    r_k = y_{k-1} + h_k f(y_k) - y_k,     d_k = (I - h_k J_k)^{-1} (d_{k-1} + r_k),     d_0 = 0

Minimising |d| over the observed values is training on a linearised trajectory: each iteration is one batched evaluation of f
and J, and one associative scan over the steps. The solver then trains on from there. Implicit Euler is what makes the
residuals of fast components harmless (Hairer & Wanner II, sec. IV.1); solving all steps at once is the multiple shooting
of Bock & Plitt 1984 with a window per step. What is optimised is |d| / (1 + |d|), because far from the data d means little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from .data import Dataset
from .scaling import ScaledField

SUBSTEPS = 2


@dataclass(frozen=True)
class _Steps:
    """All implicit Euler steps of all trajectories, in scaled states. t, h: (K,); start, end: (K, n), states around a step;
    first: (K,), whether a trajectory begins; weight: (K, n), one where an observation lies at the end of the step."""

    t: torch.Tensor
    h: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    first: torch.Tensor
    weight: torch.Tensor


def warm_start(field: ScaledField, data: Dataset, iterations=1500, lr=5e-3, seconds=float("inf"), report=None) -> float:
    """Move the weights of the field to fit linearised trajectories; returns the last mean |d| / (1 + |d|).

    Stops after ``iterations`` of Adam with a cosine decay, or after ``seconds``. report(iteration, loss) is called each time.
    """
    steps = _steps(field, data)
    weights = list(field.parameters())
    optimizer = torch.optim.Adam(weights, lr=lr)
    began, loss = time.monotonic(), float("nan")
    for iteration in range(iterations):
        elapsed = (time.monotonic() - began) / seconds
        if elapsed >= 1:
            break
        _anneal(optimizer, lr, max(iteration / iterations, elapsed))
        optimizer.zero_grad()
        deviation = _deviation(field, steps)
        value = (steps.weight * (deviation / (1 + deviation))).sum() / steps.weight.sum()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
        if torch.isfinite(norm):
            optimizer.step()
            loss = float(value.detach())
        if report:
            report(iteration + 1, loss)
    return loss


def _anneal(optimizer, lr, progress):
    for group in optimizer.param_groups:
        group["lr"] = lr * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * progress))))


def _deviation(field, steps: _Steps) -> torch.Tensor:
    """|d|, (K, n), of the linearised trajectories from the interpolated data."""

    end = steps.end.clone().requires_grad_()
    f = field(steps.t, end)
    n = end.shape[1]
    # Row k of f depends on row k of the states alone, so that n products with unit vectors give all K Jacobians.
    unit = torch.eye(n, dtype=f.dtype)[:, None].expand(n, *f.shape)
    (rows,) = torch.autograd.grad(f, end, unit, create_graph=True, is_grads_batched=True)
    h = steps.h[:, None]
    inverse = torch.linalg.inv(torch.eye(n, dtype=f.dtype) - h[:, :, None] * rows.transpose(0, 1))
    residual = steps.start + h * f - steps.end
    own = (inverse @ residual.unsqueeze(-1)).squeeze(-1)
    return scan(torch.where(steps.first[:, None, None], torch.zeros_like(inverse), inverse), own).abs()


def scan(a: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """x_k = a_k x_{k-1} + c_k with x_{-1} = 0, for a (K, n, n) and c (K, n), in log2 K batched products.

    Hillis & Steele, Data parallel algorithms, CACM 29 (1986).
    """
    span = 1
    while span < len(c):
        c = torch.cat((c[:span], c[span:] + (a[span:] @ c[:-span].unsqueeze(-1)).squeeze(-1)))
        if 2 * span < len(c):
            a = torch.cat((a[:span], a[span:] @ a[:-span]))
        span *= 2
    return c


def _steps(field, data) -> _Steps:
    parts = []
    for run in data.trajectories:
        u = field.scaling.scaled(run.y)
        index = torch.arange(len(run.t), dtype=torch.float64)
        fine = torch.linspace(0, len(run.t) - 1, SUBSTEPS * (len(run.t) - 1) + 1, dtype=torch.float64)
        t = pchip(index, run.t, fine)
        path = torch.stack([pchip(index[seen], u[:, i][seen], fine) for i, seen in enumerate(run.seen.T)], 1)
        first = torch.zeros(len(fine) - 1, dtype=torch.bool)
        first[0] = True
        weight = torch.zeros_like(path)
        weight[::SUBSTEPS] = run.seen.to(weight.dtype)
        parts.append((t[1:], t.diff(), path[:-1], path[1:], first, weight[1:]))
    return _Steps(*(torch.cat(part) for part in zip(*parts)))


def pchip(x: torch.Tensor, y: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Monotone cubic interpolation of the points (x, y), each (m,), at ``at``; constant outside.

    Fritsch & Butland 1984, as in SciPy's PchipInterpolator, with one-sided slopes at the ends.
    """
    if len(x) == 1:
        return y.expand_as(at).clone()
    h = x.diff()
    slope = y.diff() / h
    d = torch.cat((slope[:1], torch.zeros_like(slope[1:]), slope[-1:]))
    if len(slope) > 1:
        w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
        same = slope[1:] * slope[:-1] > 0
        harmonic = (w1 + w2) / (w1 / slope[:-1] + w2 / slope[1:])
        d[1:-1] = torch.where(same, harmonic, torch.zeros_like(harmonic))
    at = at.clamp(float(x[0]), float(x[-1]))
    k = (torch.searchsorted(x, at, right=True) - 1).clamp(0, len(h) - 1)
    s = (at - x[k]) / h[k]
    return (
        y[k] * (1 + 2 * s) * (1 - s) ** 2
        + y[k + 1] * s * s * (3 - 2 * s)
        + h[k] * s * (1 - s) * (d[k] * (1 - s) - d[k + 1] * s)
    )
