"""A first guess of the weights without a single solve.

From random weights a stiff field is learned slowly: a thousand solves go by before the fast
transient is where it belongs. This guess needs none. The observations are interpolated, and
implicit Euler steps are laid along them. If the field were right, every step would close; where it
does not, one Newton iteration on all steps of a trajectory at once tells, to first order, how far
the solution of this field lies from the data:

    r_k = y_{k-1} + h_k f(y_k) - y_k,     d_k = (I - h_k J_k)^{-1} (d_{k-1} + r_k),     d_0 = 0

Minimising |d| over the observed values is training on a linearised trajectory: each iteration is
one batched evaluation of f and J, and one associative scan over the steps. The solver then trains
on from there. Implicit Euler is what makes the residuals of fast components harmless (Hairer &
Wanner II, sec. IV.1); solving all steps at once is the multiple shooting of Bock & Plitt 1984 with
a window per step. What is optimised is |d| / (1 + |d|), because far from the data d means little.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from .data import Dataset

SUBSTEPS = 2


@dataclass(frozen=True)
class _Steps:
    """All K implicit Euler steps of all trajectories, in scaled states.

    t, h: (K,), end and length of a step; start, end: (K, n), the interpolated states around it;
    first: (K,), whether a trajectory begins; weight: (K, n), one where an observation lies at the
    end of the step.
    """

    t: torch.Tensor
    h: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    first: torch.Tensor
    weight: torch.Tensor


def warm_start(
    fields, data: Dataset, iterations=1500, trial=200, lr=1e-2, seconds=math.inf, report=None
):
    """The best of some random fields, its weights moved to fit linearised trajectories.

    fields: candidates that differ in their random weights; how well each does after ``trial``
    iterations of Adam tells where it will end, so that only the best one gets the rest of the
    ``iterations``. The steps' length decays as a cosine. Ends early after ``seconds``. report(done,
    of, loss) is called each iteration.
    """
    steps = _steps(fields[0], data)
    # Before the clock starts: the first optimiser of a process loads much.
    fits = [_Fit(field, steps, lr) for field in fields]
    began = time.monotonic()
    total = iterations + trial * (len(fields) - 1)
    done = 0

    def advance(fit, first, last, until):
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

    def __init__(self, field, steps, lr):
        self.field = field
        self.steps = steps
        self.lr = lr
        self.loss = math.inf
        self.weights = list(field.parameters())
        self.optimizer = torch.optim.Adam(self.weights, lr=lr)

    def advance(self, progress: float) -> None:
        """One step of Adam, with the rate that suits the progress, 0 to 1."""
        self.optimizer.param_groups[0]["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.zero_grad()
        deviation = _deviation(self.field, self.steps)
        weight = self.steps.weight
        loss = (weight * (deviation / (1 + deviation))).sum() / weight.sum()
        loss.backward()
        # An overflow in one iteration, of a pole of the linearisation, is no reason to lose the
        # weights.
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.weights, 1.0)):
            self.optimizer.step()
            self.loss = float(loss.detach())


def _deviation(field, steps: _Steps) -> torch.Tensor:
    """|d|, (K, n), of the linearised trajectories from the interpolated data."""

    end = steps.end.clone().requires_grad_()
    f = field(steps.t, end)
    n = end.shape[1]
    # Row k of f depends on row k of the states alone, so that n products with unit vectors give all
    # K Jacobians.
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


def interpolated(t, u, seen, at):
    """Times and states, (K,) and (K, n), at fractional indices ``at`` of the observations u, (T,
    n), gaps left out."""
    index = torch.arange(len(t), dtype=torch.float64)
    columns = [pchip(index[known], u[:, i][known], at) for i, known in enumerate(seen.T)]
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
