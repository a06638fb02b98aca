"""Gradients of fixed length: the method of Kim et al. 2021 for a stiff loss, whose gradients have
any size."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def normalise_gradients(parameters: Iterable[torch.Tensor], norm: float = 1.0) -> torch.Tensor:
    """Scale the gradients of the parameters, in place, so that together they have this Euclidean
    norm.

    Returns their earlier norm, (). If it is infinite, NaN or zero, nothing changes. Call it between
    ``backward()`` and ``step()``. Kim et al. 2021 train the pollution problem in this way; their
    program's norm is 100.
    """
    if not norm > 0:
        raise ValueError(f"norm must be positive, not {norm!r}")
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    before = torch.stack([torch.linalg.vector_norm(g) for g in grads]).norm()
    if torch.isfinite(before) and before > 0:
        for g in grads:
            g.mul_((norm / before).to(g.dtype))
    return before
