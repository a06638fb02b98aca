"""A first guess of the weights without any solve.

From random weights a stiff field is learned slowly: it takes a thousand solves to learn the fast
transient. This guess takes none. The observations are interpolated, and implicit Euler steps
connect the interpolated states. If the field were right, every step would close. Otherwise, one
Newton iteration on all steps of a trajectory at once gives, to first order, the distance between
the solution of this field and the data:

    r_k = y_{k-1} + h_k f(y_k) - y_k,     d_k = (I - h_k J_k)^{-1} (d_{k-1} + r_k),     d_0 = 0

Minimising |d| over the observed values is training on a linearised trajectory: each iteration is
one batched evaluation of f and J, and one associative scan over the steps. The solver then
continues the training. Implicit Euler makes the residuals of fast components harmless (Hairer &
Wanner II, sec. IV.1). Solving all steps at once is the multiple shooting of Bock & Plitt 1984 with
one step in each window. The loss is |d| / (1 + |d|), because far from the data d means little.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .data import Dataset
from .scaling import ScaledField

SUBSTEPS = 2


@dataclass(frozen=True)
class _Steps:
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


def warm_start(
    fields: Sequence[ScaledField],
    data: Dataset,
    iterations: int = 1500,
    trial: int = 200,
    lr: float = 1e-2,
    seconds: float = math.inf,
    report: Callable[[int, int, float], None] | None = None,
) -> ScaledField:
    """The best of several random fields, with its weights fitted to linearised trajectories.

    fields: candidates that differ in their random weights. Their losses after ``trial`` iterations
        of Adam predict the final ones, so that only the best one gets the rest of the
        ``iterations``.
    lr: Adam's first rate; it falls as a cosine.
    seconds: the fit ends early after this time.
    report: report(done, of, loss) is called in each iteration.
    """
    steps = _steps(fields[0], data)
    # Before the clock starts, because the first optimiser of a process takes time to load.
    fits = [_Fit(field, steps, lr) for field in fields]
    began = time.monotonic()
    total = iterations + trial * (len(fields) - 1)
    done = 0

    def advance(fit: _Fit, first: int, last: int, until: float) -> None:
        nonlocal done
        for iteration in range(first, last):
            elapsed = (time.monotonic() - began) / seconds
            if elapsed >= until:
                break
            fit.advance(max(iteration / iterations, elapsed))
            done += 1
            if report:
                report(done, total, fit.loss)

    trial = min(trial, iterations)
    for k, fit in enumerate(fits):
        advance(fit, 0, trial, until=trial * (k + 1) / total)
    best = min(fits, key=lambda fit: fit.loss)
    advance(best, trial, iterations, until=1.0)
    return best.field


class _Fit:
    """One candidate and its optimiser. loss: of the last iteration, infinite before the first."""

    def __init__(self, field: ScaledField, steps: _Steps, lr: float) -> None:
        self.field = field
        self.steps = steps
        self.lr = lr
        self.loss = math.inf
        self.weights = list(field.parameters())
        self.optimizer = torch.optim.Adam(self.weights, lr=lr)

    def advance(self, progress: float) -> None:
        """One step of Adam, with the rate for this progress, 0 to 1."""
        self.optimizer.param_groups[0]["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.zero_grad()
        deviation = _deviation(self.field, self.steps)
        weight = self.steps.weight
        loss = (weight * (deviation / (1 + deviation))).sum() / weight.sum()
        loss.backward()
        # A pole of the linearisation can overflow in one iteration: the weights then stay.
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.weights, 1.0)):
            self.optimizer.step()
            self.loss = float(loss.detach())


def _deviation(field, steps: _Steps) -> torch.Tensor:
    """The distances |d|, (K, n), of the linearised trajectories from the interpolated data."""

    end = steps.end.clone().requires_grad_()
    f = field(steps.t, end)
    n = end.shape[1]
    # Row k of f depends only on row k of the states: n products with unit vectors give all K
    # Jacobians.
    unit = torch.eye(n, dtype=f.dtype)[:, None].expand(n, *f.shape)
    (rows,) = torch.autograd.grad(f, end, unit, create_graph=True, is_grads_batched=True)
    h = steps.h[:, None]
    inverse = torch.linalg.inv(torch.eye(n, dtype=f.dtype) - h[:, :, None] * rows.transpose(0, 1))
    residual = steps.start + h * f - steps.end
    own = (inverse @ residual.unsqueeze(-1)).squeeze(-1)
    return scan(
        torch.where(steps.first[:, None, None], torch.zeros_like(inverse), inverse), own
    ).abs()


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


def _steps(field, data) -> _Steps:
    parts = []
    for run in data.trajectories:
        fine = torch.linspace(
            0, len(run.t) - 1, SUBSTEPS * (len(run.t) - 1) + 1, dtype=torch.float64
        )
        t, path = interpolated(run.t, field.scaling.scaled(run.y), run.seen, fine)
        first = torch.zeros(len(fine) - 1, dtype=torch.bool)
        first[0] = True
        weight = torch.zeros_like(path)
        weight[::SUBSTEPS] = run.seen.to(weight.dtype)
        parts.append((t[1:], t.diff(), path[:-1], path[1:], first, weight[1:]))
    return _Steps(*(torch.cat(part) for part in zip(*parts, strict=True)))


def interpolated(
    t: torch.Tensor, u: torch.Tensor, seen: torch.Tensor, at: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Times and states, (K,) and (K, n), at fractional indices ``at`` of the observations u, (T,
    n). Gaps are left out."""
    index = torch.arange(len(t), dtype=torch.float64)
    columns = [pchip(index[there], u[:, i][there], at) for i, there in enumerate(seen.T)]
    return pchip(index, t, at), torch.stack(columns, 1)


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
        w1 = 2 * h[1:] + h[:-1]
        w2 = h[1:] + 2 * h[:-1]
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
