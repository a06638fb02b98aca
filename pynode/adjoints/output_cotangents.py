"""Finds the step of each output, and gives this step the output's cotangent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from ..core.cotangents import add_at

if TYPE_CHECKING:
    from ..core.trajectory import Trajectory

# Outputs inside one step: their thetas (q,) and cotangents (q, n).
InsideStep: TypeAlias = tuple[Tensor, Tensor]


def locate_outputs(
    trajectory: Trajectory, times: Sequence[float]
) -> Iterator[tuple[int | None, float | None]]:
    """Yield (number of the step, position as a fraction of the step) of each time: (None, None) at
    the start, (k, None) at the end of step k."""
    grid = trajectory.grid()
    starts = trajectory.recording.starts
    sizes = trajectory.recording.sizes
    for t in times:
        k = grid.locate(t)
        if t == trajectory.t0:
            yield None, None
        elif t == (starts[k + 1] if k + 1 < len(starts) else trajectory.end):
            yield k, None
        else:
            yield k, (t - starts[k]) / sizes[k]


class OutputCotangents:
    """Cotangents of the outputs, sorted by step.

    at_start: (n,) cotangent of y0 itself.
    """

    def __init__(self, trajectory: Trajectory, times: Sequence[float], grads: Tensor) -> None:
        self.at_start = torch.zeros_like(trajectory.y0)
        self._at_ends: dict[int, Tensor] = {}
        self._inside: dict[int, InsideStep] = {}
        within: dict[int, list[tuple[int, float]]] = {}
        for i, (k, theta) in enumerate(locate_outputs(trajectory, times)):
            if k is None:
                self.at_start = self.at_start + grads[i]
            elif theta is None:
                add_at(self._at_ends, k, grads[i])
            else:
                within.setdefault(k, []).append((i, theta))
        for k, members in within.items():
            rows = [i for i, _ in members]
            thetas = torch.tensor([x for _, x in members], dtype=torch.float64, device=grads.device)
            self._inside[k] = thetas, grads[rows]

    def of_steps(
        self, first: int, count: int
    ) -> tuple[list[Tensor | None], list[InsideStep | None]]:
        """Return (at_ends, inside) of count steps from number first on, one list each. None for a
        step without an output.

        at_ends: (n,) cotangents of the states at the ends of steps. inside: (thetas (m,),
        cotangents (m, n)).
        """
        numbers = range(first, first + count)
        return [self._at_ends.get(k) for k in numbers], [self._inside.get(k) for k in numbers]


def powers(theta: Tensor, degree: int, first: int, like: Tensor) -> Tensor:
    """theta^first, ..., theta^degree as (m, degree - first + 1) of like's dtype."""
    return (theta.unsqueeze(1) ** torch.arange(first, degree + 1, device=theta.device)).to(
        like.dtype
    )
