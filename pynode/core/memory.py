"""Exhausted memory, which no second way of computing the same may hide."""

from __future__ import annotations

import torch

# The words of torch's allocator on the CPU, whose error has no class of its own.
_OF_CPU = "DefaultCPUAllocator"


def raise_if_exhausted(error: BaseException) -> None:
    """Raise the error again if it says that memory is exhausted. To call wherever an error only
    means that one way of several is closed: the next way would need more time or memory still."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _OF_CPU in str(error):
        raise error
