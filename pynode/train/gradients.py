"""Gradients of one length: what Kim et al. 2021 do where a stiff loss has gradients of any size."""

from __future__ import annotations

import torch


def normalise_gradients(parameters, norm: float = 1.0) -> torch.Tensor:
    """Scale the gradients of the parameters, in place, so that all of them together have this
    Euclidean norm.

    Returns the norm that they had, (), which may be infinite or NaN: then, and where it is zero,
    nothing is changed. Call it between ``backward()`` and ``step()``. Kim et al. 2021 train the
    pollution problem so; their program's norm is 100.
    """
    if not norm > 0:
        raise ValueError(f"norm must be positive, not {norm!r}")
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    had = torch.stack([torch.linalg.vector_norm(g) for g in grads]).norm()
    if torch.isfinite(had) and had > 0:
        for g in grads:
            g.mul_((norm / had).to(g.dtype))
    return had
