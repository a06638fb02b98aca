"""A few functions that let one rule serve floats, NumPy arrays and tensors.

The first argument of a rule is one of these namespaces. A rule has no branch on values.
Comparisons, abs, sums, products and powers are the same for all three kinds. A rule must not depend
on the result of ``minimum`` and ``maximum`` for NaN, because Python, NumPy and torch differ.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from . import floats

# One of the namespaces below, and the numbers that it serves.
Arithmetic: TypeAlias = Any
Numbers: TypeAlias = Any


# Python floats. The engine of one system uses them, and so do loops in native code.
Floats = floats


class Arrays:
    """NumPy arrays, one number for each row. The engine of batches keeps its times in them."""

    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    where = staticmethod(np.where)
    nextafter = staticmethod(np.nextafter)
    floor = staticmethod(np.floor)
    log = staticmethod(np.log)
    isnan = staticmethod(np.isnan)
    stack = staticmethod(np.stack)

    @staticmethod
    def fill(a: np.ndarray, where: np.ndarray, value: float) -> None:
        """Write the value where the mask holds. The mask may have fewer dimensions."""
        np.copyto(a, value, where=where)


class Tensors:
    """Tensors on any device. Compiled steps and masked passes use them."""

    where = staticmethod(torch.where)
    nextafter = staticmethod(torch.nextafter)
    floor = staticmethod(torch.floor)
    log = staticmethod(torch.log)
    isnan = staticmethod(torch.isnan)
    stack = staticmethod(torch.stack)

    @staticmethod
    def fill(a: Tensor, where: Tensor, value: float) -> None:
        """Write the value where the mask holds. The mask may have fewer dimensions."""
        a.masked_fill_(where, value)

    @staticmethod
    def minimum(a: Tensor, b: Tensor | float) -> Tensor:
        if isinstance(b, torch.Tensor):
            return torch.minimum(a, b)
        return a.clamp_max(b)

    @staticmethod
    def maximum(a: Tensor, b: Tensor | float) -> Tensor:
        if isinstance(b, torch.Tensor):
            return torch.maximum(a, b)
        return a.clamp_min(b)
