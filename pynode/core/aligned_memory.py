"""Memory that begins where BLAS likes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BOUNDARY = 64  # bytes, as of torch's own memory


def aligned_empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array without values whose memory begins at a multiple of 64 bytes.

    Products of matrices round by where an operand begins. NumPy's own memory begins elsewhere from
    call to call, so that a run that is repeated would differ in its last bits.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + BOUNDARY, np.uint8)
    first = -room.ctypes.data % BOUNDARY
    return room[first : first + size].view(dtype).reshape(shape)
