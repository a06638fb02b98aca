"""Tables: tensors such as a stoichiometry or a mask, whose numbers become constants of the code.
Others are declared to be tables.

Their zeros then cost nothing, and the Jacobian has the zeros that follow from them. Native code
asks before each solve whether a table still has its numbers (Walk). A tensor whose numbers have
changed once is no table any more: native code then reads it through a pointer, as it reads
parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

FEWEST = 4
MOST = 1 << 16  # numbers: each solve compares them
LARGEST = 9  # among the whole numbers that look like a stoichiometry or an incidence

# Tensors whose numbers have changed, and those that were declared to be tables.
_changed = WeakIdKeyDictionary()
_declared = WeakIdKeyDictionary()


def declare_table(x: Tensor) -> None:
    """Let the numbers of a tensor without a gradient become constants of native code, whatever they
    are: those of a data sheet. Gradients in them then cost nothing, and equal numbers are one."""
    _declared[x] = True


def is_table(x: Tensor) -> bool:
    """Whether a floating tensor on the CPU without a gradient is a table: it was declared to be
    one, or looks like one, mostly zeros, or small whole numbers alone."""
    if x.requires_grad or not x.dtype.is_floating_point or type(x) is torch.nn.Parameter:
        return False
    if x.numel() > MOST or x in _changed:
        return False
    if x in _declared:
        return True
    if x.numel() < FEWEST:
        return False
    numbers = x.detach().numpy()
    if 2 * np.count_nonzero(numbers) <= numbers.size:
        return bool(np.isfinite(numbers).all())
    return bool((np.rint(numbers) == numbers).all() and np.abs(numbers).max() <= LARGEST)


def numbers_of(x: Tensor) -> Any:
    """What must stay equal: the numbers, and that no gradient is wanted."""
    return x.detach().numpy().tobytes(), x.requires_grad


def watched(x: Tensor) -> Callable[[], Any]:
    """A function that gives ``numbers_of``. A tensor that differs from now is no table later."""
    before = numbers_of(x)

    def read() -> Any:
        now = numbers_of(x)
        if now != before:
            _changed[x] = True
        return now

    return read
