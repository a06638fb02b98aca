"""Products of matrices with vectors in tiles: every width of the processor's registers, and sizes
that fill no vector, one, and several tiles."""

import pytest
import torch
from torch import nn

from pynode.translate import translate
from pynode.translate.loop_tiles import chunks
from tests.support.native_fields import DOUBLE, Autonomous, difference, mlp

NAMES = ("f", "jac", "jac_time", "jvp", "pullback", "second")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """A store for each test: the key of a field knows the processor, not what a test makes of
    it."""
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)


class Products(nn.Module):
    """Products of batches of matrices, transposed and scaled."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.left = nn.Parameter(torch.rand(2, 11, 9, dtype=DOUBLE, generator=generator))
        self.right = nn.Parameter(torch.rand(9, 5, dtype=DOUBLE, generator=generator))
        self.bias = nn.Parameter(torch.rand(11, dtype=DOUBLE, generator=generator))

    def forward(self, t, y):
        z = torch.sin(self.left @ self.right @ y.reshape(5, 2))
        z = torch.addmm(self.bias.expand(11, 11), z[0], z[1].T, beta=0.5, alpha=-0.25)
        return (self.left.transpose(1, 2) @ z).reshape(2, 9, 11).mean(0).reshape(-1)[:10]


def fields():
    return [
        (Autonomous(mlp(3, 17, 5, 3)), 3, DOUBLE),
        (Autonomous(mlp(4, 64, 70, 4)), 4, DOUBLE),
        (Autonomous(mlp(9, 33, 9, dtype=torch.float32)), 9, torch.float32),
        (Products(), 10, DOUBLE),
    ]


@pytest.mark.parametrize("register", [16, 32, 64])
@pytest.mark.parametrize("which", range(4))
def test_every_width(which, register, monkeypatch):
    monkeypatch.setattr("pynode.translate.programs.vector_register", lambda: register)
    f, n, dtype = fields()[which]
    y0 = torch.rand(n, dtype=dtype, generator=torch.Generator().manual_seed(2)) + 0.1
    field = translate(f, y0, 0.0)
    tolerance = 1e-12 if dtype == DOUBLE else 1e-5
    for name in NAMES:
        assert difference(field, f, (), name, 0.2, y0.numpy()) < tolerance, name
    lanes = register // (8 if dtype == DOUBLE else 4)
    assert f"<{lanes} x " in field.text("f")


def test_chunks_cover_the_numbers():
    assert chunks(0, 16, 8) == [(0, 8), (8, 8)]
    assert chunks(3, 10, 4) == [(3, 4), (7, 2), (9, 1)]
    assert chunks(0, 0, 4) == []
