"""Tables, whose numbers are constants of native code: a stoichiometry, a mask."""

import numpy as np
import pytest
import torch
from torch import nn

from pynode import solve
from pynode.translate.field import translate
from pynode.translate.tables import declare_table
from tests.support.cases import tensor

DOUBLE = torch.float64


class Reactions(nn.Module):
    """dy/dt = S (k * prod y^A): three species in a chain of two reactions."""

    def __init__(self):
        super().__init__()
        stoichiometry = tensor(-1.0, 0.0, 1.0, -1.0, 0.0, 1.0).reshape(3, 2)
        self.register_buffer("stoichiometry", stoichiometry)
        self.register_buffer("reactant", tensor(1.0, 0.0, 0.0, 0.0, 1.0, 0.0).reshape(2, 3))
        self.k = nn.Parameter(tensor(0.7, 2.0))

    def forward(self, t, y):
        return self.stoichiometry @ (self.k * (self.reactant @ y))


def start():
    return tensor(1.0, 0.5, 0.0)


def slope(field, y):
    """f(0, y) by native code."""
    solution = solve(field, y, (0.0, 1.0), method="euler", step_size=1.0, backend="native")
    return solution.y[-1] - y


def test_zeros_of_a_table_are_zeros_of_the_jacobian():
    field = Reactions()
    native = translate(field, start(), 0.0)
    rows, columns = native.pattern()
    assert list(zip(rows.tolist(), columns.tolist())) == [(0, 0), (1, 0), (1, 1), (2, 1)]
    assert all(x is field.k for x in native.targets)


def test_a_table_that_changes_is_noticed():
    """In place, through NumPy, and as another tensor. It is then no table any more."""
    field = Reactions()
    torch.testing.assert_close(slope(field, start()), field(0.0, start()))
    field.stoichiometry[2, 1] = 2.0
    torch.testing.assert_close(slope(field, start()), field(0.0, start()))
    native = translate(field, start(), 0.0)
    assert any(x is field.stoichiometry for x in native.targets)
    field.reactant.numpy()[0, 1] = 3.0  # torch does not notice this
    torch.testing.assert_close(slope(field, start()), field(0.0, start()))
    field.reactant = 2.0 * field.reactant
    torch.testing.assert_close(slope(field, start()), field(0.0, start()))


def test_numbers_that_change_often_need_no_new_code():
    field = Reactions()
    seen = set()
    for i in range(5):
        field.stoichiometry[0, 1] = float(i)
        torch.testing.assert_close(slope(field, start()), field(0.0, start()))
        seen.add(translate(field, start(), 0.0).function("f").address)
    assert len(seen) <= 2


def test_a_table_that_wants_a_gradient_gets_one():
    field = Reactions()
    slope(field, start())
    field.stoichiometry.requires_grad_()
    for _ in range(2):
        y = solve(field, start(), (0.0, 1.0), method="tsit5", backend="native").y[-1]
        (native,) = torch.autograd.grad(y.sum(), field.stoichiometry)
        y = solve(field, start(), (0.0, 1.0), method="tsit5", backend="torch").y[-1]
        (expected,) = torch.autograd.grad(y.sum(), field.stoichiometry)
        torch.testing.assert_close(native, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("make", [lambda x: x, nn.Parameter, lambda x: x.clone().requires_grad_()])
def test_arguments_and_parameters_are_no_tables(make):
    mask = make(tensor(1.0, 0.0, 0.0, 0.0))

    def f(t, y, mask):
        return mask * y

    y = tensor(1.0, 2.0, 3.0, 4.0)
    native = translate(f, y, 0.0, (mask,))
    assert [x is mask for x in native.targets] == [True]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_views_of_a_table_are_in_its_memory(order):
    """Transposed, sliced and strided tables, and integers as well."""
    data = torch.zeros(4, 6, dtype=DOUBLE)
    data[0, 1] = 1.0
    data[3, 2] = -2.0
    table = data.permute(order)[:, :4] if order == (0, 1) else data.permute(order)[1:5]
    places = torch.tensor([[1, 0], [3, 2], [0, 1]]).t()[1]

    def f(t, y):
        return (table.t()[:, :4] @ y[:4]) + table[1, 0] * y[places].sum() + table.diagonal() * y

    y = torch.arange(1.0, 5.0, dtype=DOUBLE)
    if table.shape != (4, 4):
        table = table[:4, :4]
    torch.testing.assert_close(slope(f, y), f(0.0, y))


def test_other_numbers_are_no_tables():
    weights = torch.linspace(0.1, 0.9, 9, dtype=DOUBLE).reshape(3, 3)
    infinite = tensor(0.0, 0.0, np.inf, 1.0, 0.0, 0.0)[:3]

    def f(t, y):
        return weights @ y + torch.nan_to_num(infinite) * 0.0

    native = translate(f, start(), 0.0)
    assert any(x is weights for x in native.targets)


def test_tables_belong_to_the_key(tmp_path, monkeypatch):
    """Code on the disk is that of fields with the same tables."""
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    first = Reactions()
    second = Reactions()
    second.stoichiometry[2, 1] = 3.0
    for field in (first, second, Reactions()):
        torch.testing.assert_close(slope(field, start()), field(0.0, start()))


class Decay(nn.Module):
    """dy/dt = -k rates y, with rates of a data sheet."""

    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(tensor(0.7))
        self.register_buffer("rates", tensor(0.31, 1.7, 2.5))

    def forward(self, t, y):
        return -self.k * self.rates * y


def test_a_declared_table():
    """Its numbers are constants, and a change is noticed."""
    field = Decay()
    assert len(translate(field, start(), 0.0).targets) == 2
    field = Decay()
    declare_table(field.rates)
    native = translate(field, start(), 0.0)
    assert [x is field.k for x in native.targets] == [True]
    torch.testing.assert_close(slope(field, start()), field(0.0, start()))
    field.rates[1] = 5.0
    torch.testing.assert_close(slope(field, start()), field(0.0, start()))


def test_a_declared_tensor_with_a_gradient_is_no_table():
    field = Decay()
    declare_table(field.rates)
    field.rates.requires_grad_()
    assert len(translate(field, start(), 0.0).targets) == 2
