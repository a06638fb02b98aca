"""Sums of cotangents. None stands for zero: the function does not use this tensor."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar, overload

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)


@overload
def plus(a: Tensor, b: Tensor | None) -> Tensor: ...


@overload
def plus(a: Tensor | None, b: Tensor) -> Tensor: ...


def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a + b; None only if both are None."""
    if a is None:
        return b
    if b is None:
        return a
    return a + b


def add_grads(totals: Sequence[Tensor], grads: Sequence[Tensor | None]) -> list[Tensor]:
    """totals + grads, entry by entry."""
    return [a if b is None else a + b for a, b in zip(totals, grads, strict=True)]


def add_at(sums: dict[Key, Tensor], key: Key, grad: Tensor) -> None:
    """Add grad to sums[key]."""
    if key in sums:
        sums[key] = sums[key] + grad
    else:
        sums[key] = grad


def zero_grads(tensors: Iterable[Tensor]) -> list[Tensor]:
    """A zero cotangent for each tensor."""
    return [torch.zeros_like(x) for x in tensors]


def none_to_zeros(grads: Iterable[Tensor | None], tensors: Iterable[Tensor]) -> list[Tensor]:
    """The cotangents of the tensors, with zeros instead of None."""
    return [torch.zeros_like(x) if g is None else g for g, x in zip(grads, tensors, strict=True)]
