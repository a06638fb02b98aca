"""The solution between the steps: one polynomial a step, of any method."""

from __future__ import annotations

import bisect
import math
from array import array
from typing import NamedTuple

import numpy as np
import torch

from .pickling import Detached, restored
from .status import Status


def evaluate(coefficients, theta):
    """Polynomial with coefficients (degree + 1, n) of the powers of theta, at theta (m,): (m,
    n)."""
    powers = theta.unsqueeze(1) ** torch.arange(len(coefficients), device=theta.device)
    return powers.to(coefficients.dtype) @ coefficients


_DEGREES = np.arange(32)  # no method has a polynomial of a higher degree


def evaluate_at(coefficients, thetas):
    """The same at a list of m floats: the powers from NumPy, in 0.4 of the time of the operations
    of torch."""
    powers = np.power.outer(np.array(thetas), _DEGREES[: len(coefficients)])
    return torch.from_numpy(powers).to(coefficients) @ coefficients


def slope(coefficients, theta):
    """Derivative in theta of the same polynomial at theta (m,): (m, n)."""
    degree = torch.arange(1, len(coefficients), device=theta.device)
    powers = degree * theta.unsqueeze(1) ** (degree - 1)
    return powers.to(coefficients.dtype) @ coefficients[1:]


def evaluate_each(polynomials, theta):
    """Of a list of m polynomials, (degree_i + 1, n), each at its own theta, (m, q) float64: (m, q,
    n)."""
    first = polynomials[0]
    count = max(map(len, polynomials))
    if any(len(p) < count for p in polynomials):
        polynomials = [
            p if len(p) == count else torch.cat((p, p.new_zeros(count - len(p), p.shape[1])))
            for p in polynomials
        ]
    powers = theta.unsqueeze(2) ** torch.arange(count, device=theta.device)
    return torch.bmm(powers.to(first.dtype), torch.stack(polynomials))


class Attempt(NamedTuple):
    """One step that was tried, from t to t + h. ratio: its scaled error, accepted where at most 1;
    failure: why it could not be completed, None otherwise."""

    t: float
    h: float
    ratio: float
    failure: Status | None

    @property
    def accepted(self) -> bool:
        return self.failure is None and self.ratio <= 1.0


class Grid:
    """The accepted steps' times, and which step a time falls in. Times run in one direction, either
    one."""

    def __init__(self, starts, end):
        if not len(starts) or end >= starts[0]:
            self.direction = 1.0
        else:
            self.direction = -1.0
        self.starts = starts
        self.end = end
        if self.direction > 0:
            self._keys = starts
        else:
            self._keys = array("d", [-t for t in starts])

    def locate(self, t: float) -> int:
        """Index of the step that t falls in; where two steps meet it is the earlier one, at t0 the
        first."""
        return max(0, bisect.bisect_left(self._keys, self.direction * t) - 1)

    def covers(self, t: float) -> bool:
        return self._keys[0] <= self.direction * t <= self.direction * self.end


class Curve:
    """The states between the steps of one segment, from t0 to t.

    starts, sizes: of the steps; polynomials: one (degree + 1, n) a step, in the part of it that has
    passed.
    """

    def __init__(self, t0, t, starts, sizes, polynomials):
        self.t0 = t0
        self.t = t
        self.starts = starts
        self.sizes = sizes
        self.polynomials = polynomials

    @classmethod
    def joined(cls, t0, t, starts, sizes, rows, counts):
        """rows: the coefficients of all polynomials, of which each has so many."""
        return cls(t0, t, starts, sizes, list(rows.split(counts)))

    def alone(self, lost) -> Curve:
        """The polynomials without what they come from. lost: whether they shall refuse a
        gradient."""
        rows = restored(torch.cat(self.polynomials).detach(), lost)
        counts = [len(p) for p in self.polynomials]
        return Curve.joined(self.t0, self.t, self.starts, self.sizes, rows, counts)

    def __reduce__(self):
        # In one tensor: polynomials that look into the same memory would each bring all of it.
        counts = [len(p) for p in self.polynomials]
        return Curve.joined, (
            self.t0,
            self.t,
            self.starts,
            self.sizes,
            Detached(torch.cat(self.polynomials)),
            counts,
        )

    def evaluate(self, times):
        """The states at times (floats) of the span, (m, n), from the polynomials of the steps."""
        found = list(self._located(times))
        return evaluate_each(
            [self.polynomials[k] for k, _ in found], torch.stack([theta for _, theta in found])
        ).squeeze(1)

    def slope(self, times):
        """dy/dt of the same polynomials, (m, n)."""
        found = self._located(times)
        return torch.stack(
            [slope(self.polynomials[k], theta)[0] / self.sizes[k] for k, theta in found]
        )

    def slope_weights(self, times):
        """dy/dt at each time as a weighted sum of states in its step: lists of node times, and of
        weights (d + 1,)."""
        nodes = []
        weights = []
        for k, theta in self._located(times):
            start = self.starts[k]
            size = self.sizes[k]
            count = len(self.polynomials[k])
            # Chebyshev's nodes: the sum loses least.
            nodes.append(
                [
                    start + size * (0.5 - 0.5 * math.cos((i + 0.5) * math.pi / count))
                    for i in range(count)
                ]
            )
            at = torch.tensor([(t - start) / size for t in nodes[-1]], dtype=torch.float64)
            moments = slope(torch.eye(count, dtype=torch.float64), theta.cpu())[0] / size
            weights.append(torch.linalg.solve(torch.vander(at, increasing=True).T, moments))
        return nodes, weights

    def _located(self, times):
        """(number of the step, theta (1,)) of each time."""
        grid = self.grid()
        for t in times:
            k = grid.locate(t)
            theta = (t - self.starts[k]) / self.sizes[k]
            yield k, torch.tensor([theta], dtype=torch.float64, device=self.polynomials[0].device)

    def grid(self) -> Grid:
        return Grid(self.starts, self.t)


class Trajectory(Curve):
    """What an integration leaves: its steps (kept where a gradient or dense output needs them) and
    how it ended.

    f0: y' at the start; f1: y' at (t, y), where a gradient will ask whether f is still the same,
    else None. t: time reached; end: of the last accepted step, later than t where an event cut that
    step short; ys: (m, n) at the first m output times; recording: of the steps, where a gradient or
    dense output needs them; polynomials: one (degree + 1, n) a step where dense output was asked
    for; hits: events; times: those at which output was asked for, the first of them t0; attempts:
    the last steps that were tried.
    """

    def __init__(self, t0, y0, f0, h0):
        self.t0 = t0
        self.y0 = y0
        self.f0 = f0
        self.h0 = h0
        self.f1 = None
        self.times = [t0]
        self.recording = None
        self.polynomials = []
        self.slopes = []
        self.hits = []
        self.t = t0
        self.end = t0
        self.y = y0
        self.ys = [y0]
        self.status = None
        self.last = None
        self.attempts = []

    @property
    def steps(self) -> list:
        """All steps, where they were kept; with checkpoints there are none."""
        if self.recording is None:
            return []
        return self.recording.steps

    @property
    def starts(self):
        if self.recording is None:
            return []
        return self.recording.starts

    @property
    def sizes(self):
        return self.recording.sizes

    @property
    def direction(self) -> float:
        """1 for a solve forward in time, -1 for one backward."""
        if self.times[-1] >= self.t0:
            return 1.0
        return -1.0
