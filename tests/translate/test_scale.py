"""Large fields: many reactions, wide networks, grids. They compile, they are right, and the code
has the form that suits them. How long this takes belongs to the benchmarks."""

import random

import pytest
import torch
from torch import nn

from pynode.translate import translate
from tests.support.native_fields import (
    DOUBLE,
    Autonomous,
    MassAction,
    Stoichiometry,
    difference,
    mlp,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path_factory.getbasetemp() / "native"))


class Heat(nn.Module):
    """A reaction and diffusion on a grid."""

    def forward(self, t, y):
        padded = nn.functional.pad(y, (1, 1))
        return 40.0 * (padded[2:] - 2 * padded[1:-1] + padded[:-2]) + y * (1 - y * y)


class Written(nn.Module):
    """Reactions written one by one on single numbers."""

    def __init__(self, species, reactions):
        super().__init__()
        draw = random.Random(0)
        self.k = nn.Parameter(torch.linspace(0.1, 1.0, reactions, dtype=DOUBLE))
        self.table = [[draw.randrange(species) for _ in range(3)] for _ in range(reactions)]

    def forward(self, t, y):
        species = y.unbind()
        change = [torch.zeros_like(y[0]) for _ in species]
        for rate, (first, second, made) in zip(self.k.unbind(), self.table):
            speed = rate * species[first] * species[second]
            change[first] = change[first] - speed
            change[second] = change[second] - speed
            change[made] = change[made] + speed
        return torch.stack(change)


def _checked(f, n, names, nonzeros):
    y0 = torch.rand(n, dtype=DOUBLE, generator=torch.Generator().manual_seed(n)) * 0.5 + 0.2
    field = translate(f, y0, 0.0)
    for name in names:
        assert difference(field, f, (), name, 0.1, y0.numpy()) < 1e-11, name
    assert len(field.pattern()[0]) <= nonzeros
    return field


def test_a_hundred_species_and_five_hundred_reactions():
    field = _checked(MassAction(100, 500), 100, ("f", "jac", "vjp", "vjp_p"), 2500)
    assert "loop" not in field.text("jac")


def test_reactions_written_one_by_one():
    field = _checked(Written(40, 150), 40, ("f", "jac", "jac_time", "pullback"), 600)
    assert "loop" not in field.text("f")
    assert "loop" not in field.text("jac")


def test_a_dense_matrix_of_stoichiometry():
    field = _checked(Stoichiometry(40, 120), 40, ("f", "jac", "jac_time", "pullback"), 1600)
    assert "loop" in field.text("jac")


def test_a_wide_network():
    net = Autonomous(mlp(20, 128, 128, 20))
    field = _checked(net, 20, ("f", "jac", "vjp", "pullback"), 400)
    assert "loop" in field.text("f")
    assert "loop" in field.text("jac")


def test_a_grid_has_a_narrow_jacobian():
    field = _checked(Heat(), 150, ("f", "jac", "jac_time", "vjp"), 448)
    rows, columns = field.pattern()
    assert abs(rows - columns).max() == 1


@pytest.mark.parametrize("n", [150, 1200])
def test_loops_for_a_grid(n, monkeypatch):
    """Rows that share no column are computed together: three vectors are enough."""
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    f = Heat()
    y0 = torch.rand(n, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    field = translate(f, y0, 0.0)
    assert "loop" in field.text("jac")
    rows, _ = field.pattern()
    assert len(rows) == 3 * n - 2
    # Memory for three rows, not for n.
    assert field.function("jac").work < 100 * n
    if n < 1000:
        assert difference(field, f, (), "jac_time", 0.1, y0.numpy()) < 1e-12


def test_large_scalar_functions_are_divided():
    """Pieces hand their numbers on in work, truth values too."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(16, 3, dtype=DOUBLE, generator=generator)

    def f(t, y):
        total = y * 0
        for row in weight.unbind():
            z = torch.where(y > row[0], torch.sin(row * y), torch.cos(y.flip(0)))
            total = total + torch.where(y > row[1], z * z.roll(1), total)
        return total

    field = _checked(f, 3, ("jac", "second"), 9)
    assert field.text("second").count("define internal") > 1
    assert field.function("second").work > 0
