"""The torch engine for batches: every row with its own step, order, Newton iteration and end.

One pass of the loop tries one step of every row that is still running. A stepper (a family's rows at work) says which rows
completed a step and between what polynomials; this file keeps the rows' times, outputs and ends, and leaves finished rows out.
"""

from __future__ import annotations

import math

import torch

from ..norm import RowTolerance
from ..status import Status


class Rows:
    """Outputs and ends of a batch. ys: (T, B, n), NaN where a row did not arrive; statuses: one a row."""

    def __init__(self, y0, times):
        count, total = len(y0), times.shape[0]
        self.ys = y0.new_full((total, *y0.shape), math.nan)
        self.ys[0] = y0
        self.statuses = [None] * count
        self.t = times[0].tolist()
        self.accepted = torch.zeros(count, dtype=torch.long, device=y0.device)
        self.rejected = torch.zeros_like(self.accepted)


class Clock:
    """Times of the running rows: t, h, end (m,), next output (m,), rows' numbers (m,). Steps run in one direction a row."""

    def __init__(self, times, h):
        self.times = times
        count = times.shape[1]
        self.index = torch.arange(count, device=times.device)
        self.t, self.end = times[0].clone(), times[-1]
        self.direction = torch.sign(self.end - self.t)
        self.h = self.direction * torch.minimum(h, (self.end - self.t).abs())
        self.position = torch.ones(count, dtype=torch.long, device=times.device)

    def select(self, keep):
        for name in ("index", "t", "end", "direction", "h", "position"):
            setattr(self, name, getattr(self, name)[keep])
        self.times = self.times[:, keep]


def first_steps(field, t, end, y, f0, order, tol, longest):
    """|h| of every row's first step, (m,). Hairer, Norsett & Wanner I, sec. II.4, as control.first_step."""
    scale = tol.scale(y)
    d0, d1 = tol.rms(y, scale), tol.rms(f0, scale)
    span = (end - t).abs()
    h0 = torch.where((d0 > 1e-5) & (d1 > 1e-5), 0.01 * d0 / d1, torch.full_like(d0, 1e-6)).to(span.dtype)
    h0 = torch.minimum(h0, span).clamp(max=longest)
    step = (torch.sign(end - t) * h0).unsqueeze(1).to(y.dtype)
    d2 = tol.rms(field(t + step.squeeze(1).to(t.dtype), y + step * f0) - f0, scale) / h0
    largest = torch.maximum(d1, d2)
    h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp(min=1e-6), (0.01 / largest) ** (1 / order))
    h = torch.minimum(torch.minimum(100 * h0, h1), span).clamp(max=longest)
    return torch.where(torch.isfinite(h), h, 1e-3 * h0 + 1e-12 * span)


def integrate(field, stepper_type, method, y0, times, options, atol) -> Rows:
    """Integrate all rows from times[0] to times[-1], outputs at times, (T, B) float64, each row its own column.

    y0: (B, n). A row that fails ends with a status of its own; the others go on.
    """
    tol = RowTolerance(options.rtol, atol, y0.shape[1])
    t0, end = times[0], times[-1]
    f0 = field(t0, y0)
    if options.first_step is not None or options.step_size is not None:
        h = torch.full_like(t0, options.first_step or options.step_size)
    else:
        h = first_steps(field, t0, end, y0, f0, method.error_order, tol, options.max_step)
    rows, clock = Rows(y0, times), Clock(times, h.clamp(max=options.max_step))
    stepper = stepper_type(method, field, y0, f0, clock.h, tol)
    while len(clock.index):
        h = torch.where(_last(clock), clock.end - clock.t, clock.h)
        done = stepper.advance(clock.t, h)
        arrived = torch.where(_last(clock), clock.end, clock.t + h)
        running = _book(rows, clock, done, h, arrived, options, field.stats)
        if not bool(running.all()):
            clock.select(running)
            stepper.select(running)
    field.stats.accepted, field.stats.rejected = int(rows.accepted.sum()), int(rows.rejected.sum())
    return rows


def _last(clock):
    """Rows whose next step is their last: it reaches the end, or so nearly that it is stretched to it."""
    return clock.direction * (clock.t + clock.h - clock.end) >= -1e-3 * clock.h.abs()


def _book(rows, clock, done, h, arrived, options, stats):
    """Outputs, new times and ends after one pass. Returns the mask of rows that go on, (m,)."""
    rows.accepted[clock.index] += done.accepted
    rows.rejected[clock.index] += done.rejected
    _write_outputs(rows, clock, done, h, arrived)
    clock.t = torch.where(done.accepted, arrived, clock.t)
    size = (h * done.factor).abs().clamp(max=options.max_step)
    clock.h = torch.where(done.accepted | done.rejected, clock.direction * size, h)
    over = clock.t == clock.end
    small = clock.h.abs() < torch.clamp(4e-16 * clock.t.abs(), min=1e-300)
    many = rows.accepted[clock.index] + rows.rejected[clock.index] >= options.max_steps
    spent = torch.full_like(over, options.max_nfe is not None and stats.nfe >= options.max_nfe)
    ended = over | small | many | spent
    if bool(ended.any()):
        for i in ended.nonzero().flatten().tolist():
            if over[i]:
                status = Status.SUCCESS
            elif small[i]:
                status = Status.NONFINITE if done.broken[i] else Status.STEP_TOO_SMALL
            else:
                status = Status.MAX_STEPS if many[i] else Status.MAX_EVALUATIONS
            row = int(clock.index[i])
            rows.statuses[row], rows.t[row] = status, float(clock.t[i])
    return ~ended


def _write_outputs(rows, clock, done, h, arrived):
    """Every row's outputs inside the step that it just completed."""
    total = clock.times.shape[0]
    coefficients = None
    while True:
        at = clock.position.clamp(max=total - 1)
        due = clock.times.gather(0, at.unsqueeze(0)).squeeze(0)
        ready = done.accepted & (clock.position < total) & (clock.direction * (due - arrived) <= 0)
        which = ready.nonzero().flatten()
        if not len(which):
            return
        if coefficients is None:
            coefficients = done.polynomial()
        theta = ((due[which] - clock.t[which]) / h[which]).to(coefficients.dtype)
        value = coefficients[-1, which]
        for c in reversed(coefficients[:-1].unbind(0)):
            value = value * theta.unsqueeze(1) + c[which]
        rows.ys[at[which], clock.index[which]] = value
        clock.position = clock.position + ready
