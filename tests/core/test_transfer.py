"""Arrays of the host as tensors. tests/support/on_device/transfer.py has the part with a device."""

import numpy as np
import torch

from pynode.core.transfer import constant, doubles, tensor


def test_the_cpu_shares_the_memory():
    array = np.array([1.0, 2.0])
    shared = tensor(array, torch.zeros(1, dtype=torch.float64))
    array[0] = 5.0
    assert shared[0] == 5.0
    assert tensor(array, torch.zeros(1)).dtype is torch.float32


def test_numbers_and_lists():
    like = torch.zeros(1, dtype=torch.float32)
    assert constant([[1, 2]], like).dtype is torch.float32
    assert doubles([1, 0.5], torch.device("cpu")).tolist() == [1.0, 0.5]
    assert doubles([1], torch.device("cpu")).dtype is torch.float64
    assert doubles([1], torch.device("cpu"), torch.float32).dtype is torch.float32
