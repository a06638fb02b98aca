"""The solution between the steps: one polynomial for each step of any method."""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import products
from .pickling import Detached, rebuild
from .status import Status
from .transfer import constant


def evaluate(coefficients: Tensor, theta: Tensor) -> Tensor:
    """Evaluate a polynomial with coefficients (degree + 1, n) of the powers of theta, at theta
    (m,): (m, n)."""
    powers = theta.unsqueeze(1) ** torch.arange(len(coefficients), device=theta.device)
    return products.mm(powers.to(coefficients.dtype), coefficients)


_DEGREES = np.arange(32)  # more than the degree of any method's polynomial


def evaluate_at(coefficients: Tensor, thetas: Sequence[float]) -> Tensor:
    """The same at a list of m floats. NumPy computes the powers, in 0.4 of the time of torch."""
    powers = np.power.outer(np.array(thetas), _DEGREES[: len(coefficients)])
    return products.mm(constant(powers, coefficients), coefficients)


def derivative(coefficients: Tensor, theta: Tensor) -> Tensor:
    """The derivative in theta of the same polynomial at theta (m,): (m, n)."""
    degree = torch.arange(1, len(coefficients), device=theta.device)
    powers = degree * theta.unsqueeze(1) ** (degree - 1)
    return products.mm(powers.to(coefficients.dtype), coefficients[1:])


def evaluate_each(polynomials: list[Tensor], theta: Tensor) -> Tensor:
    """Evaluate m polynomials, (degree_i + 1, n), each at its own theta, (m, q) float64: (m, q,
    n)."""
    first = polynomials[0]
    count = max(map(len, polynomials))
    if any(len(p) < count for p in polynomials):
        polynomials = [
            p if len(p) == count else torch.cat((p, p.new_zeros(count - len(p), p.shape[1])))
            for p in polynomials
        ]
    powers = theta.unsqueeze(2) ** torch.arange(count, device=theta.device)
    return products.bmm(powers.to(first.dtype), torch.stack(polynomials))


class Attempt(NamedTuple):
    """One attempted step from t to t + h. ratio: its scaled error; at most 1 is accepted. failure:
    why the step failed, or None."""

    t: float
    h: float
    ratio: float
    failure: Status | None

    @property
    def accepted(self) -> bool:
        """Whether the step was accepted."""
        return self.failure is None and self.ratio <= 1.0


class Grid:
    """The times of the accepted steps. Finds the step of a time. Times are strictly monotone,
    increasing or decreasing."""

    def __init__(self, starts: Sequence[float], end: float) -> None:
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
        """The index of the step that contains t. Where two steps meet it is the earlier one; at t0
        it is the first."""
        return max(0, bisect.bisect_left(self._keys, self.direction * t) - 1)

    def covers(self, t: float) -> bool:
        """Whether t lies within the grid."""
        return self._keys[0] <= self.direction * t <= self.direction * self.end


class Curve:
    """The states between the steps of one segment, from t0 to t.

    starts, sizes: of the steps. polynomials: one (degree + 1, n) for each step, in the fraction of
    the step.
    """

    def __init__(
        self,
        t0: float,
        t: float,
        starts: Sequence[float],
        sizes: Sequence[float],
        polynomials: list[Tensor],
    ) -> None:
        self.t0 = t0
        self.t = t
        self.starts = starts
        self.sizes = sizes
        self.polynomials = polynomials

    @classmethod
    def joined(
        cls,
        t0: float,
        t: float,
        starts: Sequence[float],
        sizes: Sequence[float],
        rows: Tensor,
        counts: list[int],
    ) -> Curve:
        """Make a Curve. rows: the coefficients of all polynomials. counts: the number of
        coefficients of each."""
        return cls(t0, t, starts, sizes, list(rows.split(counts)))

    def detached(self, lost: bool) -> Curve:
        """The polynomials without their graph. lost: whether they refuse a gradient."""
        rows = rebuild(torch.cat(self.polynomials).detach(), lost)
        counts = [len(p) for p in self.polynomials]
        return Curve.joined(self.t0, self.t, self.starts, self.sizes, rows, counts)

    def __reduce__(self) -> tuple:
        # In one tensor: views of the same memory would each pickle all of it.
        counts = [len(p) for p in self.polynomials]
        return Curve.joined, (
            self.t0,
            self.t,
            self.starts,
            self.sizes,
            Detached(torch.cat(self.polynomials)),
            counts,
        )

    def evaluate(self, times: Sequence[float]) -> Tensor:
        """The states at times (floats) of the span, (m, n), from the polynomials of the steps."""
        located = list(self._located(times))
        return evaluate_each(
            [self.polynomials[k] for k, _ in located], torch.stack([theta for _, theta in located])
        ).squeeze(1)

    def derivative(self, times: Sequence[float]) -> Tensor:
        """dy/dt of the same polynomials, (m, n)."""
        located = self._located(times)
        return torch.stack(
            [derivative(self.polynomials[k], theta)[0] / self.sizes[k] for k, theta in located]
        )

    def derivative_weights(self, times: Sequence[float]) -> tuple[list[list[float]], list[Tensor]]:
        """dy/dt at each time as a weighted sum of states in its step: lists of node times, and of
        weights (d + 1,)."""
        nodes = []
        weights = []
        for k, theta in self._located(times):
            start = self.starts[k]
            size = self.sizes[k]
            count = len(self.polynomials[k])
            # Chebyshev nodes minimise the rounding error of the sum.
            nodes.append(
                [
                    start + size * (0.5 - 0.5 * math.cos((i + 0.5) * math.pi / count))
                    for i in range(count)
                ]
            )
            thetas = torch.tensor([(t - start) / size for t in nodes[-1]], dtype=torch.float64)
            moments = derivative(torch.eye(count, dtype=torch.float64), theta.cpu())[0] / size
            weights.append(torch.linalg.solve(torch.vander(thetas, increasing=True).T, moments))
        return nodes, weights

    def _located(self, times):
        """Yield (number of the step, theta (1,)) for each time."""
        grid = self.grid()
        for t in times:
            k = grid.locate(t)
            theta = (t - self.starts[k]) / self.sizes[k]
            yield k, torch.tensor([theta], dtype=torch.float64, device=self.polynomials[0].device)

    def grid(self) -> Grid:
        """The grid of the steps."""
        return Grid(self.starts, self.t)


class Trajectory(Curve):
    """The result of an integration of one segment.

    f0: y' at the start. f1: y' at (t, y), to check before a gradient that f is still the same; None
    without this check. t: time reached. end: of the last accepted step, later than t if an event
    truncated that step. ys: (m, n) at the first m output times. recording: of the steps, if a
    gradient or dense output needs them. polynomials: one (degree + 1, n) for each step with dense
    output. hits: events. times: the output times; the first is t0. attempts: the last attempted
    steps.
    """

    def __init__(self, t0: float, y0: Tensor, f0: Tensor | None, h0: float) -> None:
        self.t0 = t0
        self.y0 = y0
        self.f0 = f0
        self.h0 = h0
        self.f1: Tensor | None = None
        self.times = [t0]
        self.recording: Any = None
        self.polynomials = []
        self.slopes: list[Tensor] = []
        self.hits: list[Any] = []
        self.t = t0
        self.end = t0
        self.y = y0
        self.ys = [y0]
        self.status: Any = None
        self.last: Any = None
        self.attempts: list[Attempt] = []

    @property
    def output_count(self) -> int:
        """The number of output times that were reached, the start included."""
        return len(self.ys)

    def outputs(self) -> Tensor:
        """(m, n): the states at the outputs and at the events."""
        return torch.stack(self.ys + [hit.y for hit in self.hits])

    @property
    def steps(self) -> list:
        """All steps, if the recording has them. With checkpoints it has none."""
        if self.recording is None:
            return []
        return self.recording.steps

    @property
    def starts(self) -> Sequence[float]:  # type: ignore[override]  # of the recording
        """The start times of the steps."""
        if self.recording is None:
            return []
        return self.recording.starts

    @property
    def sizes(self) -> Sequence[float]:  # type: ignore[override]  # of the recording
        """The sizes of the steps."""
        return self.recording.sizes

    @property
    def direction(self) -> float:
        """1 for a solve forward in time, -1 for one backward."""
        if self.times[-1] >= self.t0:
            return 1.0
        return -1.0
