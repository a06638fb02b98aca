"""The batches of torch.autograd.grad(is_grads_batched=True) and torch.autograd.functional's
vectorize=True, row by row.

These batches wrap tensors. No rule of an autograd.Function sees the wrapper. It hides a dimension
from code that writes in place or reads values, as a solve does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_LEVELS = 8  # the deepest nesting of batches


def by_row(
    function: Callable, *tensors: Tensor | None, many: Callable | None = None
) -> Tensor | tuple[Tensor | None, ...]:
    """function(*tensors): a tensor, or a tuple of tensors and None. If a tensor is such a batch,
    call the function for each row.

    many(rows): the results of the function for all rows (R, ...) of one tensor together, (R, ...)
    each. If it is given, it is called instead.
    """
    batches = [
        x for x in tensors if x is not None and torch._C._functorch.is_legacy_batchedtensor(x)
    ]
    if not batches:
        return function(*tensors)
    level = next(level for level in range(_LEVELS, 0, -1) if any(_size(x, level) for x in batches))
    (size,) = {_size(x, level) for x in batches} - {None}
    if many is not None:
        rows = _rows(batches[0], level, size)
        if not torch._C._functorch.is_legacy_batchedtensor(rows):
            with _outside():
                results = many(rows)
            return tuple(_batch(part, level) for part in results)
    columns = [
        [x] * size if _size(x, level) is None else _rows(x, level, size).unbind() for x in tensors
    ]
    with _outside():
        results = [by_row(function, *row, many=many) for row in zip(*columns, strict=True)]
    if isinstance(results[0], torch.Tensor):
        return _batch(torch.stack(results), level)
    return tuple(_batch(stacked(parts), level) for parts in zip(*results, strict=True))


def stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The parts as rows of one tensor, or None if they are None."""
    if parts[0] is None:
        return None
    return torch.stack(parts)  # type: ignore[arg-type]  # one is None only if all are


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


def _batch(rows, level):
    if rows is None:
        return None
    return torch._add_batch_dim(rows, 0, level)
