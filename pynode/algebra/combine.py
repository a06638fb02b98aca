"""Linear combinations of stages: the one primitive of the explicit part of every one-step
method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor


class CoefficientRow:
    """The coefficients of one combination without the zeros. indices: of the stages. values:
    floats."""

    __slots__ = ("indices", "values", "vectors")

    def __init__(self, coefficients: Iterable[float]) -> None:
        pairs = [(i, float(c)) for i, c in enumerate(coefficients) if c != 0]
        self.indices = [i for i, _ in pairs]
        self.values = [c for _, c in pairs]
        self.vectors: dict[tuple, Tensor] = {}

    def vector(self, like: Tensor) -> Tensor:
        """The coefficients as a tensor of like's dtype and device. The first call makes it."""
        key = (like.dtype, like.device)
        if key not in self.vectors:
            with torch.inference_mode(False):  # a later graph may use the tensor
                self.vectors[key] = torch.tensor(self.values, dtype=like.dtype, device=like.device)
        return self.vectors[key]


@overload
def combine(y: Tensor, h: float | Tensor, row: CoefficientRow, ks: Sequence[Tensor]) -> Tensor: ...
@overload
def combine(
    y: Tensor | None, h: float | Tensor, row: CoefficientRow, ks: Sequence[Tensor]
) -> Any: ...
def combine(
    y: Tensor | None, h: float | Tensor, row: CoefficientRow, ks: Sequence[Tensor]
) -> Tensor | None:
    """Return y + h sum_i row_i ks_i, (n,). If y is None, return the sum.

    For rows of a batch h is (m,) and the other tensors are (m, n). In a compiled step h is 0-d.
    With four terms or more, one matrix-vector product over the stacked stages is faster than a
    chain of additions, forward and backward (benchmarks/micro.py).
    """
    if isinstance(h, torch.Tensor) or torch.compiler.is_compiling():
        return _combine_rows(y, broadcast_step(h), row, ks)
    if len(row.indices) >= 4 and ks[0].dim() == 1:
        stages = torch.stack([ks[i] for i in row.indices], dim=1)
        if y is None:
            return torch.mv(stages, row.vector(stages)) * h
        return torch.addmv(y, stages, row.vector(stages), alpha=h)
    for i, c in zip(row.indices, row.values):
        if y is None:
            y = ks[i] * (h * c)
        else:
            y = torch.add(y, ks[i], alpha=h * c)
    return y


def as_stage_tensor(stages: Tensor | list[Tensor]) -> Tensor:
    """The stages as one tensor, (s, n). A compiled step already has this tensor; other steps have a
    list."""
    if isinstance(stages, torch.Tensor):
        return stages
    return torch.stack(stages)


@overload
def broadcast_step(h: Tensor) -> Tensor: ...
@overload
def broadcast_step(h: float) -> float: ...
def broadcast_step(h: float | Tensor) -> float | Tensor:
    """h as a factor of states: a number, or (m, 1) for rows."""
    if isinstance(h, torch.Tensor) and h.dim():
        return h.unsqueeze(1)
    return h


def _combine_rows(y, h, row, ks):
    total = None
    for i, c in zip(row.indices, row.values):
        if total is None:
            total = ks[i] * c
        else:
            total = torch.add(total, ks[i], alpha=c)
    if total is None:
        return y
    total = total * (h.to(total.dtype) if isinstance(h, torch.Tensor) else h)
    if y is None:
        return total
    return y + total
