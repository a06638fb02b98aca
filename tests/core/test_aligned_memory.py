"""Memory whose products round the same way in every call."""

import numpy as np
import pytest

from pynode.core.aligned_memory import BOUNDARY, aligned_empty


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (7, 2, 9)])
def test_memory_begins_at_a_boundary(shape, dtype):
    held = []
    for _ in range(20):
        array = aligned_empty(shape, dtype)
        held.append(array)  # the next one begins elsewhere
        assert array.shape == shape and array.dtype == dtype
        assert array.size == 0 or array.ctypes.data % BOUNDARY == 0
        array[...] = 1
    assert all(bool((array == 1).all()) for array in held)
