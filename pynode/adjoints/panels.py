"""Quadrature of the parameters' cotangents: the integral of (df/dp)^T lambda over the reverse solve, in panels.

A panel lies within one step of the reverse and one of the forward solve, so that on it lambda and y are polynomials and
the integrand is as smooth as f. Steps of the reverse solve alone would not do: lambda may be smooth where y is not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..dense import evaluate_each
from .points import ROWS, pull_parameters


class Panel(NamedTuple):
    """From a to b in the direction of the reverse solve. t, h: of the reverse step, whose polynomial (degree + 1, n) is
    given; step: number of the forward step."""

    a: float
    b: float
    t: float
    h: float
    polynomial: torch.Tensor
    step: int


class Panels:
    """Watches a reverse solve and hands its panels on: ``consume(panels)``, many at a time.

    states: of the forward solve.
    """

    hits, status = (), None  # what the integrator asks of a watch; there are no events here

    def __init__(self, states, consume, size):
        self.states, self.consume, self.size, self.waiting = states, consume, size, []

    def begin(self, t, lam):
        """The integrator's greeting at the start of a leg."""

    def scan(self, step, end, coefficients):
        """Take note of a step of the reverse solve; never stops it."""
        self.waiting += split(self.states, step.t, end, step.h, coefficients)
        if len(self.waiting) >= self.size:
            self.flush()

    def flush(self):
        if self.waiting:
            self.consume(self.waiting)
            self.waiting = []


def split(states, start, end, h, polynomial):
    """The panels of a reverse step from start to end."""
    grid, mesh = states.grid, states.mesh
    first, last = grid.locate(start), grid.locate(end)
    if end != mesh[last] and last + 1 < len(mesh) and end == mesh[last + 1]:
        last += 1  # where two forward steps meet, a reverse step ends in the later one
    ends = [mesh[k] for k in range(first, last, -1)] + [end]
    begins, panels = [start, *ends[:-1]], []
    for k, (a, b) in enumerate(zip(begins, ends, strict=True)):
        if a != b:
            panels.append(Panel(a, b, start, h, polynomial, first - k))
    return panels


def gauss(count):
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1], (count,) each."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(0.5 + 0.5 * nodes), torch.from_numpy(0.5 * weights)


def sample(states, panels, nodes):
    """(times (m, q) float64, y (m, q, n), lambda (m, q, n)) at the nodes, (q,) on [0, 1], of m panels."""
    device = panels[0].polynomial.device
    a, b, t, h = torch.tensor([p[:4] for p in panels], dtype=torch.float64, device=device).unsqueeze(2).unbind(1)
    times = a + (b - a) * nodes.to(device)
    return times, states.many(times, [p.step for p in panels]), evaluate_each([p.polynomial for p in panels], (times - t) / h)


def integrate_parameters(field, states, panels, nodes, weights):
    """The integral of (df/dp)^T lambda over the panels, against the direction of the reverse solve: beside
    field.parameters."""
    size, total = max(1, ROWS // len(nodes)), [torch.zeros_like(p) for p in field.parameters]
    for i in range(0, len(panels), size):
        part = panels[i : i + size]
        times, y, lam = sample(states, part, nodes)
        lengths = torch.tensor([p.a - p.b for p in part], dtype=torch.float64, device=y.device).unsqueeze(1)
        scaled = (lengths * weights.to(y.device)).to(y.dtype).unsqueeze(2) * lam
        found = pull_parameters(field, times.flatten().to(y.dtype), y.flatten(0, 1), scaled.flatten(0, 1))
        total = [s + g for s, g in zip(total, found)]
    return total
