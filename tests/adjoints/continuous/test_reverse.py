"""What the reverse solves share: the jumps of the cotangents, and what counts as large for each of
them."""

from types import SimpleNamespace

import pytest
import torch

from pynode.adjoints.continuous.base import cotangent_scales, jumps
from tests.support.cases import tensor


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_jumps_are_joined_and_come_latest_first(direction):
    grads = torch.stack((tensor(1.0, 2.0), tensor(0.0, 0.0), tensor(3.0, 0.0), tensor(0.5, 0.5)))
    found = jumps(SimpleNamespace(direction=direction), [0.5, 0.7, 1.0, 0.5], grads)
    assert [t for t, _ in found] == ([1.0, 0.5] if direction > 0 else [0.5, 1.0])
    assert torch.equal(dict(found)[0.5], tensor(1.5, 2.5)) and torch.equal(
        dict(found)[1.0], tensor(3.0, 0.0)
    )


def test_sizes_are_in_units_of_the_loss_over_those_of_the_state():
    """Up to the largest jump: the last state is so small that its unit alone would be 2e4; atol
    bounds states from below."""
    steps = [SimpleNamespace(y=tensor(8.0, 0.2, 1e-4)), SimpleNamespace(y=tensor(1.0, -0.5, 0.0))]
    path = SimpleNamespace(ys=[tensor(-2.0, 0.1, 0.0)], steps=steps)
    found = [(1.0, tensor(0.2, -0.6, 0.0)), (0.0, tensor(-0.1, 0.1, 1.0))]
    each, loss = cotangent_scales(path, found, tensor(1e-9))
    assert loss == pytest.approx(0.2 * 8.0 + 0.6 * 0.5 + 1.0 * 1e-4)
    torch.testing.assert_close(each, tensor(loss / 8.0, 1.0, 1.0))
    assert cotangent_scales(path, found, tensor(16.0))[1] == pytest.approx(16.0 * (0.2 + 0.6 + 1.0))
