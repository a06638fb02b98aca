"""Exhausted memory, which no second way of computing the same may hide, and the memory that a
device has."""

from __future__ import annotations

from functools import cache

import torch

# The words of torch's allocator on the CPU, whose error has no class of its own.
_OF_CPU = "DefaultCPUAllocator"


def raise_if_exhausted(error: BaseException) -> None:
    """Raise the error again if it says that memory is exhausted. To call wherever an error only
    means that one way of several is closed: the next way would need more time or memory still."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _OF_CPU in str(error):
        raise error


@cache
def total_memory(device: torch.device) -> int:
    """The bytes of memory of an accelerator, 0 if it does not tell. In use or not: what depends on
    it is then the same in every run on this machine."""
    module = torch.get_device_module(device)
    if not hasattr(module, "mem_get_info"):
        return 0
    return module.mem_get_info(device)[1]
