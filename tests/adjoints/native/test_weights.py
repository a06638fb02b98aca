"""Gradients in many weights, which native code adds up for several stages at once."""

import numpy as np
import pytest
import torch
from torch import nn

from pynode.adjoints.native.prepared import FEWEST, prepared
from pynode.adjoints.native.pullback import interpreted, pullback, pullback_many
from pynode.adjoints.native.sweep import STAGES
from pynode.backends.native.checkpoints import Checkpoints
from pynode.translate.field import translate
from tests.support.cases import tensor
from tests.support.native_solves import assert_close, native, random_like, same_gradients


class Wide(nn.Module):
    """A stiff decay beside a network that is driven in time. About 600 weights."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)

        def drawn(*shape):
            return nn.Parameter(torch.randn(*shape, dtype=torch.float64, generator=generator) / 4)

        self.first = drawn(16, 3)
        self.shift = drawn(16)
        self.second = drawn(24, 16)
        self.third = drawn(3, 24)
        self.gain = drawn(3, 1)
        self.rates = nn.Parameter(tensor(1.0, 10.0, 50.0))

    def forward(self, t, y):
        z = torch.tanh(self.first @ y + self.shift * torch.cos(t))
        z = torch.tanh(self.second @ z)
        weights = self.gain * self.third / self.third.norm(dim=1, keepdim=True)
        return weights @ z - self.rates * y


def wide():
    return Wide(), tensor(1.0, -0.5, 0.2), torch.linspace(0.0, 2.0, 7, dtype=torch.float64)


METHODS = ["Tsit5", "DP8", "Rodas5P", "Rosenbrock23", "QNDF", "FBDF", "Kvaerno5", "RadauIIA5"]


@pytest.mark.parametrize("method", METHODS)
def test_every_family(method):
    trajectory, _ = same_gradients(*wide(), method, 1e-9)
    sweep = prepared(translate(*wide()[:2], 0.0), trajectory)
    assert sweep.total > FEWEST
    if sweep.sizes.staged:
        assert sweep.kept[0] == STAGES
        assert "gather" in sweep.functions


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_the_python_of_the_sweep(method):
    same_gradients(*wide(), method, 1e-9, loop=interpreted)


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_without_cotangents_of_the_last_outputs(method):
    """The steps after the last cotangent do not go back; the number of stages is any."""
    f, y0, times = wide()
    trajectory = native(f, y0, times, method, extra={"record": True})
    field = translate(f, y0, 0.0)
    grads = random_like((len(times), 3)).numpy()
    whole = [0.0] * len(y0)
    weights = 0.0
    for k in range(len(times)):
        one = np.zeros_like(grads)
        one[k] = grads[k]
        part = pullback(field, trajectory, times.tolist(), one)
        whole = whole + part.y0
        weights = weights + np.concatenate([x.reshape(-1) for x in part.targets])
    found = pullback(field, trajectory, times.tolist(), grads)
    assert_close(found.y0, whole, 1e-12)
    assert_close(np.concatenate([x.reshape(-1) for x in found.targets]), weights, 1e-12)


def test_many_cotangents_at_once():
    f, y0, times = wide()
    trajectory = native(f, y0, times, "Tsit5", extra={"record": True})
    field = translate(f, y0, 0.0)
    grads = random_like((5, len(times), 3)).numpy()
    together = pullback_many(field, trajectory, times.tolist(), grads)
    for k in range(5):
        alone = pullback(field, trajectory, times.tolist(), grads[k])
        assert (together.y0[k] == alone.y0).all()
        for many, one in zip(together.targets, alone.targets, strict=True):
            assert (many[k] == one).all()


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
def test_checkpoints_change_no_bit(method, count):
    """Stages of one piece are added up with stages of the next."""
    f, y0, times = wide()
    field = translate(f, y0, 0.0)
    grads = random_like((len(times), 3)).numpy()
    whole, pieces = [
        pullback(
            field,
            native(f, y0, times, method, extra={"record": True, "checkpoints": kept}),
            times.tolist(),
            grads,
        )
        for kept in (None, Checkpoints(count))
    ]
    np.testing.assert_array_equal(whole.y0, pieces.y0)
    for one, other in zip(whole.targets, pieces.targets, strict=True):
        np.testing.assert_array_equal(one, other)
