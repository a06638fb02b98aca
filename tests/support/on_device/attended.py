"""Passes that the host attends (backends/torch/attended.py): the numbers of the CPU. Large batches
take them by themselves; tests/support/synchronisations.py counts their reads."""

import pytest
import torch

from pynode import solve
from pynode.backends.torch import attended, masked_loop
from tests.support.on_device import leaf, same

METHODS = ["Tsit5", "Rodas5P", "QNDF", "FBDF"]


def driven(t, y, rate):
    return -rate.unsqueeze(-1) * y + torch.sin(3 * t)


@pytest.fixture
def runs(monkeypatch):
    """Batches of four rows are large; the list of the solves that are attended."""
    monkeypatch.setattr(masked_loop, "ATTENDED", 4)
    made = []
    run = attended.Attended.run

    def noted(self):
        made.append(len(self.states.t))
        return run(self)

    monkeypatch.setattr(attended.Attended, "run", noted)
    return made


@pytest.mark.parametrize("method", METHODS)
def test_numbers_and_gradients(method, runs):
    """Rows leave before others."""

    def compute(device):
        rate = leaf([0.5, 1.0, 3.0, 0.1], device)
        y0 = leaf([[1.0, 0.2]] * 4, device)
        end = leaf([0.1, 0.5, 1.0, 4.0], device)
        t = torch.linspace(0, 1, 9, dtype=torch.float64).to(device).unsqueeze(1) * end
        options = {"method": method, "batched": True, "rtol": 1e-3, "atol": 1e-4}
        y = solve(driven, y0, t, args=(rate,), backend="torch", **options).y
        return [y, *torch.autograd.grad(y.square().sum(), [y0, end, rate])]

    same(compute, 1e-5, 1e-6)
    assert runs == [4]  # and none on the CPU


def test_small_batches_take_the_ordinary_loop(runs):
    def compute(device):
        rate = leaf([0.5, 1.0], device)
        y0 = leaf([[1.0, 0.2]] * 2, device)
        options = {"method": "Tsit5", "batched": True, "backend": "torch"}
        return [solve(driven, y0, [0.0, 1.0], args=(rate,), **options).y]

    same(compute)
    assert not runs
