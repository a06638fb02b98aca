"""Settings of every test: one thread, because the systems are small, and the same random numbers
each time."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
