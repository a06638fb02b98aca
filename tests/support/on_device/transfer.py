"""Arrays of the host on a device, without waiting for it."""

import numpy as np
import pytest
import torch

from pynode.core.transfer import tensor, to_device
from tests.support.strict_device import NAME, strict

ARRAYS = [
    np.array([1.5, -2.0]),
    np.array([[1, 2], [3, 4]]),
    np.array([True, False, True]),
    np.zeros((0, 3)),
    np.arange(12.0).reshape(3, 4)[:, ::2],
]


@pytest.mark.parametrize("array", ARRAYS, ids=["1d", "int", "bool", "empty", "strided"])
def test_a_device_gets_the_values_and_nothing_waits(array):
    with strict() as waits:
        device = torch.device(NAME)
        plain = to_device(array, device)
        like = torch.zeros(2, dtype=torch.float32, device=device)
        narrow = tensor(array, like)
        before = len(waits)
        assert plain.device.type == narrow.device.type == NAME
        there = [plain.cpu(), narrow.cpu()]
    assert before == 0
    assert there[0].numpy().tolist() == array.tolist()
    assert there[0].dtype is torch.from_numpy(array).dtype
    if array.dtype.kind == "f":
        assert there[1].dtype is torch.float32
    else:
        assert there[1].dtype is there[0].dtype


def test_the_memory_of_the_host_is_free_at_once():
    with strict():
        array = np.array([1.0, 2.0])
        there = to_device(array, torch.device(NAME))
        array[:] = 0.0
        assert there.cpu().tolist() == [1.0, 2.0]
