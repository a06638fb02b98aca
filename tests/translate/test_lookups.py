"""Look-ups by value: tables over time or over the state, and small linear systems."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pynode.translate import TranslationRefused, translate
from tests.support.native_fields import DOUBLE, NAMES, difference, native

KNOTS = torch.tensor([0.0, 0.2, 0.5, 0.6, 1.0], dtype=DOUBLE)
TIMES = (-0.3, 0.0, 0.1, 0.2, 0.35, 0.5, 0.59999, 0.6, 0.7, 1.0, 1.5)
Y0 = torch.tensor([0.3, 0.9, 0.55], dtype=DOUBLE)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path_factory.getbasetemp() / "native"))


def table(*shape):
    """Numbers that want gradients."""
    count = int(np.prod(shape))
    return (torch.sin(torch.arange(count, dtype=DOUBLE)) + 0.2).reshape(shape).requires_grad_()


VALUES = table(5)
BLOCKS = table(2, 5, 3)


def interpolated(t, y):
    """A table over time, as one writes it."""
    i = torch.searchsorted(KNOTS, t).clamp(1, 4)
    weight = (t - KNOTS[i - 1]) / (KNOTS[i] - KNOTS[i - 1])
    return VALUES[i - 1] * (1 - weight) + VALUES[i] * weight - y


def pieces(t, y):
    """Coefficients of the piece in which t lies, along the middle axis of a block."""
    piece = torch.bucketize(t.detach().reshape(1), KNOTS[1:4], right=True)
    start = KNOTS.index_select(0, piece)
    constant, slope = BLOCKS.index_select(1, piece).squeeze(1).unbind(0)
    return (constant + slope * (t - start)) * y


def of_the_state(t, y):
    """An own entry for each component, from the left and from the right."""
    left = torch.searchsorted(KNOTS, y.detach()).clamp(0, 4)
    right = torch.bucketize(y.detach(), KNOTS, right=True) - 1
    return VALUES[left] * y - VALUES[right.clamp(0, 4)] * t


def floors(t, y):
    """Integers made of floating numbers; negative ones count from the end."""
    i = torch.floor(3 * t.detach()).long().clamp(-5, 4)
    j = (y.detach() * 4).to(torch.int64)
    return VALUES[i] * y + VALUES[j - 4] * BLOCKS[1, j, 0]


def rows_of_boundaries(t, y):
    edges = torch.stack((KNOTS[:3], KNOTS[1:4], KNOTS[2:]))
    found = torch.searchsorted(edges, y.detach().unsqueeze(-1)).squeeze(-1)
    return VALUES[found] * y


@pytest.mark.parametrize("f", [interpolated, pieces, of_the_state, floors, rows_of_boundaries])
def test_every_function_at_every_place(f):
    field = translate(f, Y0, 0.3)
    for t in TIMES:
        for y in (Y0, Y0.flip(0), torch.tensor([0.2, 1.0, 0.6], dtype=DOUBLE)):
            for name in NAMES:
                error = difference(field, f, (), name, t, y.numpy())
                assert error < 1e-12, f"{name} at {t} differs by {error}"


@pytest.mark.parametrize("f", [pieces, of_the_state])
def test_as_loops(f, monkeypatch):
    monkeypatch.setattr("pynode.translate.programs.scalar_limit", lambda statements, work: 0)
    field = translate(lambda t, y: f(t, y), Y0, 0.3)
    for t in TIMES[::3]:
        for name in ("f", "jac", "pullback", "second"):
            assert difference(field, f, (), name, t, Y0.numpy()) < 1e-12


def test_no_place_gives_no_number():
    """torch raises an error there; a solve must not go on."""

    def f(t, y):
        return KNOTS[torch.floor(t.detach()).long() + 1] * y

    field = translate(f, Y0, 0.3)
    assert np.isfinite(native(field, "f", 3.0, Y0.numpy())).all()
    assert np.isnan(native(field, "f", 4.0, Y0.numpy())).all()


def test_values_that_are_nan_come_last():
    def f(t, y):
        return torch.bucketize(y.detach(), KNOTS).to(DOUBLE) + y.nan_to_num()

    field = translate(f, Y0, 0.3)
    found = native(field, "f", 0.3, np.array([np.nan, 0.1, 2.0]))
    assert found.tolist() == [5.0, 1.1, 7.0]


LONG = torch.linspace(0, 1, 400, dtype=DOUBLE)


class Looked(torch.nn.Module):
    """A table of more places than code could choose among one by one, with gradients."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.nn.Parameter(values)

    def forward(self, t, y):
        place = torch.searchsorted(LONG, t.detach())
        return self.values[place] * y + self.values.gather(0, place.reshape(1))


@pytest.mark.parametrize("name", NAMES)
def test_many_places(name):
    f = Looked(torch.sin(torch.arange(401, dtype=DOUBLE)))
    field = translate(f, Y0, 0.3)
    for t in (-1.0, 0.0, 0.3, 1.0, 2.0):
        assert difference(field, f, (), name, t, Y0.numpy()) < 1e-12


def test_a_table_that_the_field_makes():
    """It stands in no tensor from outside: no load finds its numbers."""

    def f(t, y):
        table = LONG * (1 + y[0])
        return table[torch.searchsorted(LONG, t.detach())] * y

    field = translate(f, Y0, 0.3)
    for name in ("f", "jac", "vjp"):
        assert difference(field, f, (), name, 0.3, Y0.numpy()) < 1e-12


def step(t, y):
    """Two numbers have torch's default type."""
    return torch.where(t < 0.5, 0.1, 2.0) - y


def test_numbers_in_where():
    field = translate(step, Y0, 0.3)
    for t in (0.2, 0.7):
        for name in NAMES:
            assert difference(field, step, (), name, t, Y0.numpy()) < 1e-12


MATRIX = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.1, 0.4], [0.5, 1.0, 4.0]], dtype=DOUBLE)
MATRIX.requires_grad_()


def with_a_parameter(t, y):
    """The first pivot is zero: rows change places."""
    return torch.linalg.solve(MATRIX, y)


def with_the_state(t, y):
    first = torch.stack((y[0], 1 + t, y[2]))
    second = torch.stack((y[1] * 2, y[0], t * y[1]))
    third = torch.stack((y[2], y[1], 0 * t))
    matrix = torch.stack((first, second, third))
    right = torch.stack((y, torch.sin(y)), 1)
    return torch.linalg.solve(matrix, right).sum(1)


def from_the_right(t, y):
    rows = torch.stack((y, 2 * y + t))
    return torch.linalg.solve(MATRIX, rows, left=False).sum(0)


def inverse(t, y):
    return torch.linalg.inv(MATRIX * (1 + y[0])) @ y


def several(t, y):
    """A batch of matrices."""
    batch = torch.stack((MATRIX, MATRIX.T + t))
    return torch.linalg.solve(batch, y.expand(2, 3)).sum(0)


@pytest.mark.parametrize("f", [with_a_parameter, with_the_state, from_the_right, inverse, several])
def test_small_systems(f):
    field = translate(f, Y0, 0.3)
    for y in (Y0, Y0.flip(0), torch.tensor([0.01, 5.0, -2.0], dtype=DOUBLE)):
        for name in NAMES:
            assert difference(field, f, (), name, 0.45, y.numpy()) < 1e-10, name


def test_large_systems_are_refused():
    matrix = torch.eye(9, dtype=DOUBLE)

    def f(t, y):
        return torch.linalg.solve(matrix * (1 + t), y)

    with pytest.raises(TranslationRefused, match="for more than 8 unknowns"):
        translate(f, torch.ones(9, dtype=DOUBLE), 0.3)


class Attention(torch.nn.Module):
    """Three tokens of four numbers that attend to one another."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads = torch.nn.MultiheadAttention(4, 2, batch_first=True).double()

    def forward(self, t, y):
        x = y.reshape(1, 3, 4)
        return self.heads(x, x, x, need_weights=False)[0].reshape(-1)


class Normed(torch.nn.Module):
    """Weights as directions and lengths."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = torch.nn.Linear(12, 12).double()
        self.layer = torch.nn.utils.parametrizations.weight_norm(layer)

    def forward(self, t, y):
        return torch.tanh(self.layer(y))


@pytest.mark.parametrize("kind", [Attention, Normed])
@pytest.mark.parametrize("training", [True, False])
def test_modules(kind, training):
    f = kind().train(training)
    y0 = torch.linspace(-1, 1, 12, dtype=DOUBLE)
    field = translate(f, y0, 0.3)
    with sdpa_kernel(SDPBackend.MATH):  # torch has no second derivative of the other kind
        for name in ("f", "jac", "pullback", "second"):
            assert difference(field, f, (), name, 0.3, y0.numpy()) < 1e-12, name


def test_a_module_that_torch_compiled(caplog):
    """Its operations are recorded, and torch compiles nothing for the recording."""
    net = Normed()
    compiled = torch.compile(net, backend="eager")
    y0 = torch.linspace(-1, 1, 12, dtype=DOUBLE)
    compiled(0.3, y0)
    field = translate(lambda t, y: compiled(t, y), y0, 0.3)
    for name in ("f", "jac", "pullback", "second"):
        assert difference(field, net, (), name, 0.3, y0.numpy()) < 1e-12, name
    assert "recompile_limit" not in caplog.text
