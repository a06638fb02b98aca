"""Where the outputs lie among the steps, and their cotangents step by step."""

from __future__ import annotations

import torch


class Outputs:
    """Cotangents of the outputs sorted by step.

    at_start: (n,) cotangent of y0 itself; ends[k]: (n,) cotangent of the state at the end of step k, None if none;
    inside[k]: (thetas (m,), cotangents (m, n)) of the outputs inside step k, None if there are none.
    """

    def __init__(self, trajectory, times, grads):
        steps = trajectory.steps
        self.at_start = torch.zeros_like(trajectory.y0)
        self.ends, self.inside = [None] * len(steps), [None] * len(steps)
        grid, within = trajectory.grid(), {}
        ends = [step.t for step in steps[1:]] + [trajectory.end]
        for i, t in enumerate(times):
            if t == trajectory.t0:
                self.at_start = self.at_start + grads[i]
                continue
            k = grid.locate(t)
            if t == ends[k]:
                self.ends[k] = grads[i] if self.ends[k] is None else self.ends[k] + grads[i]
            else:
                within.setdefault(k, []).append((i, (t - steps[k].t) / steps[k].h))
        for k, members in within.items():
            rows = [i for i, _ in members]
            theta = torch.tensor([x for _, x in members], dtype=torch.float64, device=grads.device)
            self.inside[k] = theta, grads[rows]


def powers(theta, degree, first, like):
    """theta^first, ..., theta^degree as (m, degree - first + 1) of like's dtype."""
    return (theta.unsqueeze(1) ** torch.arange(first, degree + 1, device=theta.device)).to(like.dtype)
