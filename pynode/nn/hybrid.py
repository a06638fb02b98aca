"""A known vector field with an unknown term: mechanism plus network. Rackauckas et al., Universal
differential equations for scientific machine learning, 2020."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..core.constants import valued
from .base import as_field, timed


class HybridField(nn.Module):
    """dy/dt = known(t, y, *args) + into (rate * network(t, y / scale)), a universal differential
    equation.

    known: nn.Module or function of (t, y, *args). The parameters of a module are learned together
        with those of the network, unless they do not require gradients.
    network: nn.Module with forward(t, y), or forward(y), y (..., n) -> (..., m).
    scale: (n,) or a number, in units of y. rate: (m,) or a number, in units of y per time. Both are
        typical sizes: where y spans decades, the network then sees and returns numbers of order
        one. A small rate starts near the known field.
    into: (n, m), says which states the m outputs change. For a reaction that conserves mass its
        columns sum to zero. None: m = n, each output changes its own state.
    """

    scale: torch.Tensor
    rate: torch.Tensor
    into: torch.Tensor | None

    def __init__(
        self,
        known: Callable[..., torch.Tensor],
        network: nn.Module,
        *,
        scale: float | torch.Tensor | Sequence[float] = 1.0,
        rate: float | torch.Tensor | Sequence[float] = 1.0,
        into: torch.Tensor | Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        if not callable(known):
            raise TypeError(
                f"known must be an nn.Module or a function of (t, y), not {type(known).__name__}"
            )
        self.known = known
        self.network = as_field(network, "network")
        self._takes_time = timed(network) is network
        like = next(self.network.parameters(), torch.empty(0))
        for name, value in (("scale", scale), ("rate", rate)):
            value = valued(value, like.dtype, like.device)
            if not bool((value > 0).all()):
                raise ValueError(f"{name} must be positive, a typical size, not {value.tolist()}")
            self.register_buffer(name, value.to(like.device))
        matrix = None
        if into is not None:
            matrix = torch.as_tensor(into, dtype=like.dtype, device=like.device)
        if matrix is not None and matrix.dim() != 2:
            raise ValueError(
                "into is a matrix, states by outputs of the network, not of shape"
                f" {tuple(matrix.shape)}"
            )
        self.register_buffer("into", matrix)

    def unknown(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The learned term: rate * network(t, y / scale), (..., m)."""
        scaled = y / self.scale
        if self._takes_time:
            return self.rate * self.network(t, scaled)
        return self.rate * self.network(scaled)

    def forward(self, t: torch.Tensor, y: torch.Tensor, *args: Any) -> torch.Tensor:
        """dy/dt, (..., n), at y (..., n)."""
        change = self.unknown(t, y)
        if self.into is not None:
            change = change @ self.into.T
        return self.known(t, y, *args) + change
