"""Arrays of the host as tensors on a device, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .memory import raise_if_exhausted


def to_device(array: np.ndarray, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A NumPy array as a tensor on a device, by default with its own dtype.

    On the CPU the two can share their memory. A copy from ordinary memory to a GPU waits until the
    GPU has done all that it was asked before. So the array goes into pinned memory first, from
    which the GPU fetches it in its turn; torch keeps this memory until then.
    """
    source = torch.from_numpy(array)
    if dtype is None:
        dtype = source.dtype
    if device.type == "cpu":
        return _cast(source, dtype)
    if not _can_pin(device.type):
        return source.to(device, dtype)
    staged = torch.empty(source.shape, dtype=dtype, pin_memory=True)
    return staged.copy_(source).to(device, non_blocking=True)


def _cast(source: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor with this dtype. ``to`` would return the same tensor, but costs a kernel."""
    if source.dtype is dtype:
        return source
    return source.to(dtype)


@lru_cache
def _can_pin(kind: str) -> bool:
    """Whether torch has pinned memory for devices of this type."""
    try:
        torch.empty(1, pin_memory=True)
    except (RuntimeError, NotImplementedError) as error:
        raise_if_exhausted(error)
        return False
    return kind != "mps"


def tensor(array: np.ndarray, like: Tensor) -> Tensor:
    """A NumPy array as a tensor on the device of ``like``. Floats also get its dtype; indices and
    masks keep theirs."""
    if array.dtype.kind != "f":
        return to_device(array, like.device)
    if like.is_cpu:
        # To ask for the device's type takes longer.
        return _cast(torch.from_numpy(array), like.dtype)
    return to_device(array, like.device, like.dtype)


def constant(values: Any, like: Tensor) -> Tensor:
    """Numbers, an array or nested lists, as a tensor with the dtype and the device of ``like``."""
    return tensor(np.asarray(values, dtype=np.float64), like)


def doubles(
    values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Numbers as a tensor (m,) of this dtype on a device."""
    return to_device(np.array(values, dtype=np.float64), device, dtype)


def places(mask: Tensor, count: int) -> Tensor:
    """The indices, (count,), at which the mask, (m,), holds. count: how often it does. The host
    does not wait for them, as it would for ``nonzero``."""
    found = torch.empty(count + 1, dtype=torch.int64, device=mask.device)
    every = torch.arange(len(mask), device=mask.device)
    # The last place takes all others.
    goals = torch.where(mask, mask.cumsum(0) - 1, count)
    return found.scatter_(0, goals, every)[:count]
