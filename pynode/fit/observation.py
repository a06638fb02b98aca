"""The measured quantities of a model: some of its states, or functions of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .bound_model import BoundModel


class Observation:
    """The m measured quantities of B runs.

    bound: the model. given: (B, c) conditions. states: the places of the measured states, or None
    for the quantities of ``bound.observe``.
    """

    def __init__(self, bound: BoundModel, given: Tensor, states: Sequence[int] | None) -> None:
        self.bound = bound
        self.given = given
        self.states = None
        if states is not None:
            self.states = torch.tensor(states)

    def values(self, y: Tensor, free: Tensor, grid: Tensor) -> Tensor:
        """(T, B, m) at the states y, (T, B, n), and the times, (T, B). free: (B, k)."""
        if self.states is not None:
            return y[..., self.states]
        found = self.bound.observe(*self._points(y, free, grid))
        return found.reshape(*y.shape[:2], -1)

    def slopes(
        self, y: Tensor, free: Tensor, grid: Tensor, of_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(values (T, B, m), their derivatives (T, B, m, K)) in K parameters, of which free are the
        first. of_states: (T, B, n, K), the derivatives of the states."""
        if self.states is not None:
            return y[..., self.states], of_states[..., self.states, :]
        t, points, rows, given = self._points(y, free, grid)
        with torch.enable_grad():
            leaves = [points.detach().requires_grad_(), rows.detach().requires_grad_()]
            observed = self.bound.observe(t, leaves[0], leaves[1], given)
            sums = observed.sum(0).unbind()
        found = []
        for total in sums:
            of_y, of_free = torch.autograd.grad(
                total, leaves, retain_graph=True, materialize_grads=True
            )
            row = torch.einsum("tbn,tbnk->tbk", of_y.reshape(y.shape), of_states)
            row[..., : free.shape[1]] += of_free.reshape(*y.shape[:2], -1)
            found.append(row)
        return observed.detach().reshape(*y.shape[:2], -1), torch.stack(found, 2)

    def _points(self, y, free, grid):
        """The arguments of the model for all times and runs as rows. free: of the runs, or of
        several copies of them."""
        times = len(y)
        copies = len(free) // len(self.given)
        given = self.given.repeat(copies, 1)
        return (
            grid.repeat(1, copies).reshape(-1, 1),
            y.flatten(0, 1),
            free.expand(times, -1, -1).flatten(0, 1),
            given.expand(times, -1, -1).flatten(0, 1),
        )
