"""A known vector field with an unknown term: mechanism plus network. Rackauckas et al., Universal
differential equations for scientific machine learning, 2020."""

from __future__ import annotations

import torch
from torch import nn

from ..core.constants import valued
from .base import as_field, timed


class HybridField(nn.Module):
    """dy/dt = known(t, y, *args) + into (rate * network(t, y / scale)), a universal differential
    equation.

    known: nn.Module or function of (t, y, *args); parameters of a module are learned with those of
        the network, unless they do not require gradients.
    network: nn.Module with forward(t, y), or forward(y), y (..., n) -> (..., m).
    scale: (n,) or a number, in units of y; rate: (m,) or a number, in units of y per time: typical
        sizes, so that the network sees and makes numbers of order one where y spans decades. A
        small rate starts near the known field.
    into: (n, m), where the m outputs enter; the change of a reaction that conserves mass has
        columns that sum to zero. None: m = n, every output its own state.
    """

    def __init__(self, known, network, *, scale=1.0, rate=1.0, into=None):
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
        if into is None:
            into = None
        else:
            into = torch.as_tensor(into, dtype=like.dtype, device=like.device)
        if into is not None and into.dim() != 2:
            raise ValueError(
                "into is a matrix, states by outputs of the network, not of shape"
                f" {tuple(into.shape)}"
            )
        self.register_buffer("into", into)

    def unknown(self, t, y):
        """rate * network(t, y / scale), (..., m): the learned term by itself."""
        scaled = y / self.scale
        return self.rate * (self.network(t, scaled) if self._takes_time else self.network(scaled))

    def forward(self, t, y, *args):
        """dy/dt, (..., n), at y (..., n)."""
        change = self.unknown(t, y)
        if self.into is not None:
            change = change @ self.into.T
        return self.known(t, y, *args) + change
