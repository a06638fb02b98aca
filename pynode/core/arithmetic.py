"""Three functions with which a rule is written once, for floats, NumPy arrays and tensors.

A rule takes one of these namespaces first, and has no branch on values. Comparisons, abs, sums,
products and powers are the same for all three kinds anyway. Rules must not depend on what
``minimum`` and ``maximum`` make of NaN: Python, NumPy and torch differ there.
"""

from __future__ import annotations

import numpy as np
import torch


class Floats:
    """Of Python floats. The engine of one system runs on them."""

    minimum = min
    maximum = max

    @staticmethod
    def where(condition, a, b):
        if condition:
            return a
        return b


class Arrays:
    """Of NumPy arrays, one number a row. The engine of batches keeps its times in them."""

    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    where = staticmethod(np.where)


class Tensors:
    """Of tensors, on any device. Compiled steps run on them."""

    where = staticmethod(torch.where)

    @staticmethod
    def minimum(a, b):
        if isinstance(b, torch.Tensor):
            return torch.minimum(a, b)
        return a.clamp_max(b)

    @staticmethod
    def maximum(a, b):
        if isinstance(b, torch.Tensor):
            return torch.maximum(a, b)
        return a.clamp_min(b)
