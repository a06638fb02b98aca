"""The torch engine for batches: every row with its own step, order, Newton iteration and end.

One pass of the loop tries one step of every row that is still running. A stepper (a family's rows at work, methods/rows.py)
says which rows completed a step and between what polynomials; this file keeps the rows' times, outputs and ends, and leaves
finished rows out.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ..methods.rows import tensor
from ..norm import RowTolerance
from ..status import Status


class Rows:
    """Outputs and ends of a batch. ys: (T, B, n), NaN where a row did not arrive; statuses: one a row; t: reached.

    slopes: dy/dt of the polynomials at the outputs, (T, B, n), zero at the first, None where not asked for.
    """

    def __init__(self, y0, times, slopes):
        count, total = len(y0), len(times)
        self.ys = y0.new_full((total, *y0.shape), math.nan)
        self.ys[0] = y0
        self.slopes = torch.zeros_like(self.ys) if slopes else None
        self.statuses = [None] * count
        self.t = times[0].tolist()


class Clock:
    """Times of the running rows, NumPy arrays (m,): t, h, end, direction, the next output's place and time (infinitely far
    where none is left), steps accepted and rejected, and index, the rows' numbers."""

    _NAMES = ("index", "t", "end", "direction", "h", "place", "due", "accepted", "rejected")

    def __init__(self, times, h):
        count = times.shape[1]
        self.index = np.arange(count)
        self.t, self.end = times[0], times[-1]
        self.direction = np.sign(self.end - self.t)
        self.times = np.vstack((times, self.direction * np.inf))
        self.h = self.direction * np.minimum(h, np.abs(self.end - self.t))
        self.place, self.due = np.ones(count, dtype=np.int64), times[1].copy()
        self.accepted, self.rejected = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)

    def select(self, keep):
        for name in self._NAMES:
            setattr(self, name, getattr(self, name)[keep])

    def next_steps(self):
        """(h, where it leads to): as planned, but the last one reaches the end, and is stretched to it if it nearly does."""
        after = self.t + self.h
        last = self.direction * (after - self.end) >= -1e-3 * np.abs(self.h)
        if np.count_nonzero(last):
            return np.where(last, self.end - self.t, self.h), np.where(last, self.end, after)
        return self.h, after

    def pass_outputs(self, which):
        """The outputs of the rows in which are made: on to the next ones."""
        place = self.place[which] + 1
        self.place[which] = place
        self.due[which] = self.times[place, self.index[which]]


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


def integrate(field, stepper_type, method, y0, times, options, atol, record=None, slopes=False) -> Rows:
    """Integrate all rows from times[0] to times[-1], outputs at times, (T, B) float64, each row its own column.

    y0: (B, n). A row that fails ends with a status of its own; the others go on. record: a RowSteps, to keep the steps in.
    """
    tol = RowTolerance(options.rtol, atol, y0.shape[1])
    t0, end = times[0], times[-1]
    f0 = field(t0, y0)
    if options.first_step is not None or options.step_size is not None:
        h = torch.full_like(t0, options.first_step or options.step_size)
    else:
        h = first_steps(field, t0, end, y0, f0, method.error_order, tol, options.max_step)
    times = times.cpu().numpy()
    rows, clock = Rows(y0, times, slopes), Clock(times, np.minimum(h.cpu().numpy(), options.max_step))
    stepper = stepper_type(method, field, y0, f0, clock.h, tol)
    if record is not None:
        record.start = t0, y0, clock.h
    while len(clock.index):
        h, arrived = clock.next_steps()
        done = stepper.advance(clock.t, h)
        if record is not None and done.accepted.any():
            record.add(clock, np.flatnonzero(done.accepted), h, arrived, done.tape)
        ended = _book(rows, clock, done, h, arrived, options, field.stats)
        if np.count_nonzero(ended):
            keep = (~ended).nonzero()[0]
            clock.select(keep)
            stepper.select(keep)
    return rows


def _book(rows, clock, done, h, arrived, options, stats):
    """Outputs, new times and ends after one pass. Returns the mask of rows that end here, (m,)."""
    accepted, rejected = done.accepted, done.rejected
    ready = accepted & (clock.direction * (clock.due - arrived) <= 0)
    if np.count_nonzero(ready):
        _write_outputs(rows, clock, ready.nonzero()[0], done.polynomial, h, arrived)
    clock.accepted += accepted
    clock.rejected += rejected
    clock.t = np.where(accepted, arrived, clock.t)
    size = np.minimum(np.abs(h * done.factor), options.max_step)
    clock.h = np.where(accepted | rejected, clock.direction * size, h)
    over = clock.t == clock.end
    small = np.abs(clock.h) < np.maximum(4e-16 * np.abs(clock.t), 1e-300)
    many = clock.accepted + clock.rejected >= options.max_steps
    ended = over | small | many
    if options.max_nfe is not None and stats.nfe >= options.max_nfe:
        ended[:] = True
    for i in ended.nonzero()[0].tolist():
        if over[i]:
            status = Status.SUCCESS
        elif small[i]:
            status = Status.NONFINITE if done.broken[i] else Status.STEP_TOO_SMALL
        else:
            status = Status.MAX_STEPS if many[i] else Status.MAX_EVALUATIONS
        row = int(clock.index[i])
        rows.statuses[row], rows.t[row] = status, float(clock.t[i])
        stats.accepted += int(clock.accepted[i])
        stats.rejected += int(clock.rejected[i])
    return ended


def _write_outputs(rows, clock, which, polynomial, h, arrived):
    """The outputs inside the step that the rows in which, indices, just completed."""
    coefficients, flat = polynomial(which), rows.ys.view(-1, rows.ys.shape[2])
    powers = np.arange(len(coefficients))[:, None]
    while True:
        theta = (clock.due[which] - clock.t[which]) / h[which]
        value = (coefficients * tensor(theta**powers, coefficients).unsqueeze(2)).sum(0)
        places = tensor(clock.place[which] * len(rows.statuses) + clock.index[which], flat)
        flat.index_copy_(0, places, value)
        if rows.slopes is not None:
            slopes = (coefficients[1:] * tensor(powers[1:] * theta ** powers[:-1] / h[which], flat).unsqueeze(2)).sum(0)
            rows.slopes.view(flat.shape).index_copy_(0, places, slopes)
        clock.pass_outputs(which)
        more = (clock.direction[which] * (clock.due[which] - arrived[which]) <= 0).nonzero()[0]
        if not len(more):
            return
        coefficients, which = coefficients.index_select(1, tensor(more, coefficients)), which[more]
