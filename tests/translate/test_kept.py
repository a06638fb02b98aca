"""The cotangents of the targets from what the Jacobian has left in memory."""

import numpy as np
import pytest
import torch
from torch import nn

from pynode.backends.native.machine import FIELD
from pynode.translate import translate
from pynode.translate.verify import call
from tests.support.native_fields import DOUBLE, Autonomous, fields, mlp, native, vector

FIELDS = [
    *fields(),
    ("wider network", Autonomous(mlp(4, 64, 70, 4)), torch.ones(4, dtype=DOUBLE), ()),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))


class Normalised(nn.Module):
    """Rows of a matrix scaled to the length of a gain: much that only the targets' cotangents
    need."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(6)
        self.matrix = nn.Parameter(torch.rand(40, 4, dtype=DOUBLE, generator=generator))
        self.gain = nn.Parameter(torch.rand(40, 1, dtype=DOUBLE, generator=generator))
        self.back = nn.Parameter(torch.rand(4, 40, dtype=DOUBLE, generator=generator))
        self.shift = nn.Parameter(torch.rand(4, dtype=DOUBLE, generator=generator))

    def forward(self, t, y):
        weights = self.gain * self.matrix / self.matrix.norm(dim=1, keepdim=True)
        z = torch.tanh(weights @ y + self.shift.sum())
        return self.back @ z + self.shift * y * t - torch.cumsum(self.shift, 0)


def check(f, y0, args=()):
    field = translate(f, y0, 0.3, args)
    y = (y0 * 1.1).numpy()
    tolerance = 1e-13 if y.dtype == np.float64 else 1e-5
    jacobian = native(field, "jac", 0.45, y)
    atol = tolerance * max(1.0, np.abs(jacobian).max(initial=0.0))
    kept = native(field, "jac_kept", 0.45, y)
    np.testing.assert_allclose(kept, jacobian, rtol=tolerance, atol=atol)
    w = vector(field, "vjp_p").astype(y.dtype)
    plain = native(field, "vjp_p", 0.45, y, w)
    before = np.linspace(-1, 1, len(plain)).astype(y.dtype)
    function = field.function("add_kept")
    addresses, held = field.pointers()
    first = field.function("jac_kept")
    shape = (function.size, max(function.work, first.work))
    found = call(function.address, 0.45, (y, w), addresses, *shape, before, first)
    assert len(held) == len(field.targets)
    scale = max(1.0, np.abs(plain).max(initial=0.0))
    np.testing.assert_allclose(found, before + plain, rtol=tolerance, atol=tolerance * scale)
    return field


@pytest.mark.parametrize(
    ("f", "y0", "args"), [entry[1:] for entry in FIELDS], ids=[entry[0] for entry in FIELDS]
)
def test_every_field(f, y0, args):
    check(f, y0, args)


@pytest.mark.parametrize("name", ["tanh network", "normed", "batched", "forced", "bilinear"])
def test_every_field_as_loops(name, monkeypatch):
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    _, f, y0, args = next(entry for entry in FIELDS if entry[0] == name)
    check(lambda t, y: f(t, y, *args), y0)


def test_what_only_the_targets_need(monkeypatch):
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    field = check(Normalised(), torch.rand(4, dtype=DOUBLE) + 0.1)
    assert "own.tanh" in field.text("jac_kept")
    assert "own.tanh" not in field.text("add_kept")  # f is not evaluated again


def check_stages(f, y0, args, count):
    """The sum over stages at several points and times."""
    field = translate(f, y0, 0.3, args)
    stage = field.function("pull_stage")
    gather = field.function(f"add_stages*{count}")
    assert bool(stage.size) == bool(gather.size)
    if not stage.size:
        return field
    addresses, held = field.pointers()
    blocks = np.empty((count, stage.work), y0.numpy().dtype)
    total = np.zeros(gather.size, y0.numpy().dtype)
    for k in range(count):
        t = 0.1 * k
        y = (y0 * (1 + 0.1 * k)).numpy()
        w = vector(field, "vjp_p", k).astype(y.dtype)
        out = np.empty(stage.size, y.dtype)
        pointers = [x.ctypes.data for x in (y, w, addresses, out, blocks[k])]
        FIELD(stage.address)(t, *pointers)
        wanted = native(field, "pullback", t, y, w)
        np.testing.assert_allclose(out, wanted[[*range(field.n), -1]], rtol=1e-12, atol=1e-12)
        total += wanted[field.n : -1]
    before = np.ones_like(total)
    arrays = (y0.numpy(), blocks.reshape(-1))
    shape = (gather.size, gather.work)
    found = call(gather.address, 0.0, arrays, addresses, *shape, before)
    assert len(held) == len(field.targets)
    scale = np.abs(total).max()
    np.testing.assert_allclose(found, before + total, rtol=1e-12, atol=1e-13 * scale)
    return field


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("name", ["tanh network", "normed", "batched", "forced", "in place"])
def test_stages(name, count, monkeypatch):
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    monkeypatch.setattr("pynode.translate.programs._FEWEST", 0)
    _, f, y0, args = next(entry for entry in FIELDS if entry[0] == name)
    field = check_stages(lambda t, y: f(t, y, *args), y0, (), count)
    assert field.function("pull_stage").size == field.n + 1


def test_stages_of_what_only_the_targets_need(monkeypatch):
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    monkeypatch.setattr("pynode.translate.programs._FEWEST", 0)
    check_stages(Normalised(), torch.rand(4, dtype=DOUBLE) + 0.1, (), 3)


def test_stages_of_few_numbers_have_no_function():
    field = check_stages(Autonomous(mlp(3, 8, 3)), torch.ones(3, dtype=DOUBLE), (), 8)
    assert field.function("pull_stage").size == 0
