"""A first guess of the weights without any solve.

From random weights a stiff field is learned slowly: it takes a thousand solves to learn the fast
transient. This guess takes none. It minimises the distance of linearised trajectories from the
observations (linearised.py): each iteration is one evaluation of f and J at all steps of the
trajectories. The solver then continues the training. Implicit Euler makes the residuals of fast
components harmless (Hairer & Wanner II, sec. IV.1). Solving all steps at once is the multiple
shooting of Bock & Plitt 1984 with one step in each window.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

from ..data import Dataset
from .adam import Adam
from .inputs import AtRows
from .linearised import Linearised, Steps
from .scaling import ScaledField
from .times import part_done

SUBSTEPS = 2
LONGEST = 1.0  # a longer gradient is shortened to this norm


def warm_start(
    fields: Sequence[ScaledField],
    data: Dataset,
    iterations: int = 1500,
    trial: int = 200,
    lr: float = 1e-2,
    seconds: float = math.inf,
    report: Callable[[int, int, float], None] | None = None,
    native: bool = False,
) -> ScaledField:
    """The best of several random fields, with its weights fitted to linearised trajectories.

    fields: candidates that differ in their random weights. Their losses after ``trial`` iterations
        of Adam predict the final ones, so that only the best one gets the rest of the
        ``iterations``.
    lr: Adam's first rate; it falls as a cosine.
    seconds: the fit ends early after this time.
    report: report(done, of, loss) is called in each iteration.
    native: whether native code computes the gradients, if the data have no inputs. Raises
        ValueError if it cannot translate a field.
    """
    steps = _steps(fields[0], data)
    # Before the clock starts, because native code may be compiled here.
    w = _inputs(fields[0], data)
    fits = [_Fit(field, steps, lr, native, w) for field in fields]
    began = time.monotonic()
    total = iterations + trial * (len(fields) - 1)
    done = 0

    def advance(fit: _Fit, first: int, last: int, until: float) -> None:
        nonlocal done
        for iteration in range(first, last):
            elapsed = (time.monotonic() - began) / seconds
            if elapsed >= until:
                break
            fit.advance(part_done(iteration, iterations, elapsed))
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

    def __init__(
        self,
        field: ScaledField,
        steps: Steps,
        lr: float,
        native: bool,
        w: torch.Tensor | None,
    ) -> None:
        self.field = field
        self.lr = lr
        self.loss = math.inf
        weights = list(field.parameters())
        self.optimizer = Adam(weights, lr)
        self.linearised: Callable[[], tuple[float, torch.Tensor]]
        if w is not None:
            self.linearised = Linearised(AtRows(field, w), weights, steps)
        elif native:
            from .linearised_native import NativeLinearised

            self.linearised = NativeLinearised(field, weights, steps)
        else:
            self.linearised = Linearised(field, weights, steps)

    def advance(self, progress: float) -> None:
        """One step of Adam, with the rate for this progress, 0 to 1."""
        self.optimizer.rate = self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        loss, gradient = self.linearised()
        norm = float(torch.linalg.vector_norm(gradient))
        # A pole of the linearisation can overflow in one iteration: the weights then stay.
        if math.isfinite(loss) and math.isfinite(norm):
            self.optimizer.step(gradient.mul_(min(1.0, LONGEST / (norm + 1e-6))))
            self.loss = loss


def _steps(field, data) -> Steps:
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
    return Steps(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _inputs(field, data) -> torch.Tensor | None:
    """(K, m) the scaled inputs at the ends of all steps, None without any. A held input has the
    value that it has in the step before its end, where it may jump."""
    inputs = field.scaling.inputs
    if inputs is None:
        return None
    parts = []
    for run in data.trajectories:
        fine = torch.linspace(
            0, len(run.t) - 1, SUBSTEPS * (len(run.t) - 1) + 1, dtype=torch.float64
        )[1:]
        u = inputs.scaled(run.u)
        before = (fine.ceil() - 1).long()
        if inputs.kind == "held":
            parts.append(u[before])
        else:
            parts.append(u[before] + (fine - before)[:, None] * (u[before + 1] - u[before]))
    return torch.cat(parts)


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
