"""A first guess of the weights without a single solve.

From random weights a stiff field is learned slowly: a thousand solves go by before the fast transient is where it
belongs. This guess needs none. Steps of the Lobatto IIIC method are laid from each observation to the next. If the
field were right, every step would close; where it does not, one Newton iteration on all steps of a trajectory at once
tells, to first order, how far the solution of this field lies from the data. With a and b the observations around a
step of length h, p and q the corrections of the stages there, and d the deviation:

    a + p = a + d_{k-1} + h/2 (f_a + J_a p - f_b - J_b q)
    b + q = a + d_{k-1} + h/2 (f_a + J_a p + f_b + J_b q),        d_k = q,  d_0 = 0

Minimising |d| over the observed values is training on a linearised trajectory: each iteration is one batched evaluation
of f and J, and one associative scan over the steps. The solver then trains on from there. Lobatto IIIC is of order 2,
needs f at the observations only, and is L-stable, which makes the residuals of fast components harmless (Hairer & Wanner
II, sec. IV.5); all steps at once are the multiple shooting of Bock & Plitt 1984 with a window per step. What is
minimised is |d| / (1 + |d|), because far from the data d means little.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from .data import Dataset


@dataclass(frozen=True)
class _Steps:
    """The K steps between the M observations of all trajectories, one trajectory after the other, in scaled states.

    t: (M,); u: (M, n), gaps filled in; seen: (M, n), one where a value was observed; start: (K,), the row where a step
    starts, the next one being where it ends; first: (K,), whether a trajectory begins with it.
    """

    t: torch.Tensor
    u: torch.Tensor
    seen: torch.Tensor
    start: torch.Tensor
    first: torch.Tensor


def warm_start(fields, data: Dataset, iterations=1500, trial=200, lr=1e-2, seconds=math.inf, report=None):
    """The best of some random fields, its weights moved to fit linearised trajectories.

    fields: candidates that differ in their random weights; how well each does after ``trial`` iterations of Adam
    tells where it will end, so that only the best one gets the rest of the ``iterations``. The steps' length decays
    as a cosine. Ends early after ``seconds``. report(done, of, loss) is called each iteration.
    """
    steps = _steps(fields[0], data)
    began, total, done = time.monotonic(), iterations + trial * (len(fields) - 1), 0
    fits = [_Fit(field, steps, lr) for field in fields]

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
        self.field, self.steps, self.lr, self.loss = field, steps, lr, math.inf
        self.weights = list(field.parameters())
        self.optimizer = torch.optim.Adam(self.weights, lr=lr)

    def advance(self, progress: float) -> None:
        """One step of Adam, with the rate that suits the progress, 0 to 1."""
        self.optimizer.param_groups[0]["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.zero_grad()
        deviation, weight = _deviation(self.field, self.steps), self.steps.seen[self.steps.start + 1]
        loss = (weight * (deviation / (1 + deviation))).sum() / weight.sum()
        loss.backward()
        # An overflow in one iteration, of a pole of the linearisation, is no reason to lose the weights.
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.weights, 1.0)):
            self.optimizer.step()
            self.loss = float(loss.detach())


def _deviation(field, steps: _Steps) -> torch.Tensor:
    """|d|, (K, n), of the linearised trajectories from the observations at the ends of the steps."""
    u = steps.u.clone().requires_grad_()
    f = field(steps.t, u)
    n = u.shape[1]
    # Row k of f depends on row k of the states alone, so that n products with unit vectors give all M Jacobians.
    unit = torch.eye(n, dtype=f.dtype)
    seeds = unit[:, None].expand(n, *f.shape)
    (rows,) = torch.autograd.grad(f, u, seeds, create_graph=True, is_grads_batched=True)
    jacobian = rows.transpose(0, 1)
    a, b = steps.start, steps.start + 1
    half = 0.5 * (steps.t[b] - steps.t[a])[:, None]
    fa, fb = half * f[a], half * f[b]
    ja, jb = half[:, :, None] * jacobian[a], half[:, :, None] * jacobian[b]
    system = torch.cat((torch.cat((unit - ja, jb), 2), torch.cat((-ja, unit - jb), 2)), 1)
    own = torch.cat((fa - fb, steps.u[a] - steps.u[b] + fa + fb), 1).unsqueeze(2)
    passed = torch.cat((unit, unit)).expand(len(a), 2 * n, n)
    q = torch.linalg.solve(system, torch.cat((own, passed), 2))[:, n:]
    carried = torch.where(steps.first[:, None, None], torch.zeros_like(q[:, :, 1:]), q[:, :, 1:])
    return scan(carried, q[:, :, 0]).abs()


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
    t, u, seen, start, first, row = [], [], [], [], [], 0
    for run in data.trajectories:
        count = len(run.t)
        t.append(run.t)
        u.append(_filled(run.t, field.scaling.scaled(run.y), run.seen))
        seen.append(run.seen.to(run.y.dtype))
        start.append(torch.arange(row, row + count - 1))
        first.append(torch.arange(count - 1) == 0)
        row += count
    return _Steps(*map(torch.cat, (t, u, seen, start, first)))


def _filled(t, u, seen):
    """The states (T, n) with missing values put on the line between their neighbours, the last one held at the end."""
    columns = []
    for value, known in zip(u.T, seen.T, strict=True):
        x, y = t[known], value[known]
        right = torch.searchsorted(x, t).clamp(max=len(x) - 1)
        left = (right - 1).clamp(min=0)
        share = ((t - x[left]) / (x[right] - x[left]).clamp_min(torch.finfo(t.dtype).tiny)).clamp(0, 1)
        columns.append(torch.where(known, value, y[left] + share * (y[right] - y[left])))
    return torch.stack(columns, 1)
