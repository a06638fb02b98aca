"""Arrays of the host on a device, without waiting for it."""

import numpy as np
import pytest
import torch

from pynode.core.transfer import constant, doubles, tensor, to_device
from tests.support.pretended import NAME, require
from tests.support.strict_device import strict

ARRAYS = [
    np.array([1.5, -2.0]),
    np.array([[1, 2], [3, 4]]),
    np.array([True, False, True]),
    np.zeros((0, 3)),
    np.arange(12.0).reshape(3, 4)[:, ::2],
]


def test_the_cpu_shares_the_memory():
    array = np.array([1.0, 2.0])
    shared = tensor(array, torch.zeros(1, dtype=torch.float64))
    array[0] = 5.0
    assert shared[0] == 5.0
    assert tensor(array, torch.zeros(1)).dtype is torch.float32


@pytest.mark.parametrize("array", ARRAYS, ids=["1d", "int", "bool", "empty", "strided"])
def test_a_device_gets_the_values_and_nothing_waits(array):
    require()
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


def test_numbers_and_lists():
    like = torch.zeros(1, dtype=torch.float32)
    assert constant([[1, 2]], like).dtype is torch.float32
    assert doubles([1, 0.5], torch.device("cpu")).tolist() == [1.0, 0.5]
    assert doubles([1], torch.device("cpu")).dtype is torch.float64
    assert doubles([1], torch.device("cpu"), torch.float32).dtype is torch.float32


def test_the_memory_of_the_host_is_free_at_once():
    require()
    with strict():
        array = np.array([1.0, 2.0])
        there = to_device(array, torch.device(NAME))
        array[:] = 0.0
        assert there.cpu().tolist() == [1.0, 2.0]
