"""The batches of torch.autograd.grad(is_grads_batched=True) and torch.autograd.functional's
vectorize=True, row by row.

These batches wrap tensors. No rule of an autograd.Function sees the wrapper. It hides a dimension
from code that writes in place or reads values, as a solve does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor

_LEVELS = 8  # the deepest nesting of batches


def by_row(function: Callable, *tensors: Tensor | None) -> Tensor | tuple[Tensor | None, ...]:
    """function(*tensors): a tensor, or a tuple of tensors and None. If a tensor is such a batch,
    call the function for each row."""
    batches = [
        x for x in tensors if x is not None and torch._C._functorch.is_legacy_batchedtensor(x)
    ]
    if not batches:
        return function(*tensors)
    level = next(level for level in range(_LEVELS, 0, -1) if any(_size(x, level) for x in batches))
    (size,) = {_size(x, level) for x in batches} - {None}
    columns = [
        [x] * size if _size(x, level) is None else _rows(x, level, size).unbind() for x in tensors
    ]
    with _outside():
        results = [by_row(function, *row) for row in zip(*columns, strict=True)]
    if isinstance(results[0], torch.Tensor):
        return _batch(results, level)
    return tuple(_batch(parts, level) for parts in zip(*results, strict=True))


@contextmanager
def _outside():
    """A block that torch does not treat as a part of vmap. Inside vmap torch forbids random
    numbers."""
    depth = torch._C._vmapmode_increment_nesting() - 1
    for _ in range(depth + 1):
        torch._C._vmapmode_decrement_nesting()
    try:
        yield
    finally:
        for _ in range(depth):
            torch._C._vmapmode_increment_nesting()


def _rows(x, level, size):
    return torch._remove_batch_dim(x, level, size, 0)


def _size(x, level):
    """The size of the batch of x at a level of nesting. None if x has no batch there; torch then
    repeats x as often as asked."""
    if x is None or not torch._C._functorch.is_legacy_batchedtensor(x):
        return None
    sizes = [len(_rows(x, level, size)) for size in (1, 2)]
    if sizes[0] == sizes[1]:
        return sizes[0]
    return None


def _batch(parts, level):
    if parts[0] is None:
        return None
    return torch._add_batch_dim(torch.stack(parts), 0, level)
