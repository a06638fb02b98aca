"""Native functions that add the cotangents of the targets to what stands in memory."""

import numpy as np
import pytest
import torch
from torch import nn

from pynode.translate import translate
from pynode.translate.verify import call
from tests.support.native_fields import DOUBLE, fields, native, vector

FIELDS = fields()
NAMES = ("add_vjp_p", "add_pullback", "add_second", "add_second*3")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path_factory.getbasetemp() / "native"))


class Shared(nn.Module):
    """Gradients that are one tensor, differences, transposes and scaled sums of others."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)

        def parameter(*shape):
            return nn.Parameter(torch.rand(*shape, dtype=DOUBLE, generator=generator))

        self.first = parameter(4)
        self.second = parameter(4)
        self.matrix = parameter(4, 12)
        self.other = parameter(12, 4)
        self.unused = parameter(3)

    def forward(self, t, y):
        z = torch.tanh(y @ self.matrix)
        back = z @ self.other - self.matrix @ z
        back = back - torch.sin(self.other.T @ z) * t + self.matrix.sum(1)
        return back + (self.first + self.second) - 2.0 * self.first + self.unused[:0].sum()


def added(field, name, t, y, v, before):
    """What a function leaves where these numbers were."""
    function = field.function(name)
    addresses, held = field.pointers()
    v = np.append(v, 0.0).astype(y.dtype)
    out = call(function.address, t, (y, v), addresses, function.size, function.work, before)
    assert len(held) == len(field.targets)
    return out


def check(f, y0, args=()):
    """The functions add to the numbers of the targets, and write the others: sums over the sets of
    vectors."""
    field = translate(f, y0, 0.3, args)
    y = (y0 * 1.1).numpy()
    total = sum(x.numel() for x in field.targets)
    for name in NAMES:
        base, _, sets = name.removeprefix("add_").partition("*")
        vectors = [vector(field, base, seed) for seed in range(int(sets or 1))]
        plain = sum(native(field, base, 0.45, y, v) for v in vectors)
        places = slice(0, total) if base == "vjp_p" else slice(field.n, field.n + total)
        before = np.full(len(plain), np.nan, y.dtype)
        before[places] = np.linspace(-1, 1, total)
        wanted = plain.copy()
        wanted[places] += before[places]
        tolerance = 1e-13 if y.dtype == np.float64 else 1e-5
        found = added(field, name, 0.45, y, np.concatenate(vectors), before)
        scale = max(1.0, np.abs(plain).max(initial=0.0))
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale)
    return field


@pytest.mark.parametrize(
    ("f", "y0", "args"), [entry[1:] for entry in FIELDS], ids=[entry[0] for entry in FIELDS]
)
def test_every_field(f, y0, args):
    check(f, y0, args)


@pytest.mark.parametrize("name", ["tanh network", "mass action", "normed", "batched", "forced"])
def test_every_field_as_loops(name, monkeypatch):
    _, f, y0, args = next(entry for entry in FIELDS if entry[0] == name)
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    field = check(lambda t, y: f(t, y, *args), y0)
    assert "loop" in field.text("add_second")


@pytest.mark.parametrize("looped", [False, True])
def test_results_that_share_numbers(looped, monkeypatch):
    if looped:
        monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    f = Shared()
    check(f, torch.rand(4, dtype=DOUBLE, generator=torch.Generator().manual_seed(4)))


def test_a_weight_gradient_needs_no_memory_of_its_own():
    """Two outer products go straight to where the gradient belongs."""
    net = nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 3))
    net = net.to(DOUBLE)
    field = translate(lambda t, y: net(y), torch.rand(3, dtype=DOUBLE), 0.0)
    assert field.function("add_second").work < 50 * 50
    assert field.function("add_second*3").work < 50 * 50


def test_python_source_adds():
    f = Shared()
    y0 = torch.rand(4, dtype=DOUBLE)
    field = translate(f, y0, 0.0)
    space = {}
    exec(field.python_source("add_vjp_p"), space)
    w = vector(field, "vjp_p")
    out = np.ones(field.function("add_vjp_p").size)
    arrays = [x.detach().reshape(-1).numpy() for x in field.targets]
    space["add_vjp_p"](0.2, y0.numpy(), w, *arrays, out, np.zeros(1))
    np.testing.assert_allclose(out, 1.0 + native(field, "vjp_p", 0.2, y0.numpy(), w), rtol=1e-12)
