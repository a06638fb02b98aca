"""Inputs u(t) from tables: their values, their gradients, and rows with tables of their own."""

import math

import numpy as np
import pytest
import torch

from pynode import solve
from pynode.models import InputTable

DOUBLE = torch.float64
TIMES = [0.0, 1.0, 2.5, 3.0, 4.0]
VALUES = [1.0, 3.0, 0.0, 2.0, -1.0]
KINDS = ("held", "linear", "spline")
GRID = np.linspace(-0.5, 4.5, 31)
TIGHT = {"rtol": 1e-10, "atol": 1e-11}


def reference(kind, times, values, at):
    """The input by NumPy and SciPy."""
    times = np.asarray(times)
    values = np.asarray(values)
    if kind == "held":
        place = np.searchsorted(times, at, "right") - 1
        return values[np.clip(place, 0, len(times) - 1)]
    if kind == "linear":
        return np.interp(at, times, values)
    interpolate = pytest.importorskip("scipy.interpolate", reason="the spline is SciPy's")
    spline = interpolate.CubicSpline(times, values, bc_type="natural")
    return spline(np.clip(at, times[0], times[-1]))


def decay(u):
    """dy/dt = u - y, for one system or rows."""

    def field(t, y, *table):
        return u(t, *table).unsqueeze(-1) - y

    return field


@pytest.mark.parametrize("kind", KINDS)
def test_values(kind):
    u = InputTable(TIMES, VALUES, kind)
    found = [float(u(torch.tensor(s, dtype=DOUBLE))) for s in GRID]
    assert np.allclose(found, reference(kind, TIMES, VALUES, GRID), atol=1e-12)


def test_value_before_the_first_time():
    u = InputTable([1.0, 2.0], [5.0, 6.0], before=0.25)
    assert [float(u(torch.tensor(s))) for s in (0.0, 1.0, 3.0)] == [0.25, 5.0, 6.0]


def test_channels():
    u = InputTable([0.0, 1.0], torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=DOUBLE), "linear")
    assert u(torch.tensor(0.5, dtype=DOUBLE)).tolist() == [2.0, 3.0]
    rows = u(torch.tensor([[0.5], [1.0]], dtype=DOUBLE))
    assert rows.tolist() == [[2.0, 3.0], [3.0, 4.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_their_own_tables(kind):
    nan = math.nan
    times = torch.tensor([TIMES, [0.0, 2.0, 3.5, nan, nan]], dtype=DOUBLE)
    values = torch.tensor([VALUES, [1.0, 2.0, 5.0, nan, nan]], dtype=DOUBLE)
    u = InputTable(times, values, kind)
    for s in GRID:
        found = u(torch.full((2, 1), s, dtype=DOUBLE))
        assert found.shape == (2,)
        assert abs(found[0] - reference(kind, TIMES, VALUES, s)) < 1e-12
        assert abs(found[1] - reference(kind, [0.0, 2.0, 3.5], [1.0, 2.0, 5.0], s)) < 1e-12


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_a_loop(kind, engine):
    skip_without(engine)
    times = torch.tensor([TIMES, [0.0, 2.0, 3.5, math.nan, math.nan]], dtype=DOUBLE)
    values = torch.tensor([VALUES, [1.0, 2.0, 5.0, math.nan, math.nan]], dtype=DOUBLE)
    u = InputTable(times, values, kind)
    y0 = torch.tensor([[0.5], [1.0]], dtype=DOUBLE)
    at = [0.0, 1.0, 2.0, 5.0]
    options = {"method": "tsit5", "backend": engine, **TIGHT}
    rows = solve(decay(u), y0, at, args=u.args, batched=True, **options, **u.stops()).y
    for row, count in enumerate((5, 3)):
        own = InputTable(times[row, :count], values[row, :count], kind)
        one = solve(decay(own), y0[row], at, args=own.args, **options, **own.stops()).y
        assert torch.allclose(rows[:, row], one, atol=1e-8)


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_gradients_in_values_and_times(kind, engine, method):
    skip_without(engine)
    given = torch.tensor([TIMES, VALUES], dtype=DOUBLE)

    def loss(table):
        u = InputTable(table[0], table[1], kind)
        start = torch.tensor([0.3], dtype=DOUBLE)
        options = {"method": method, "backend": engine, **TIGHT}
        found = solve(decay(u), start, [-0.5, 1.5, 4.5], args=u.args, **options, **u.stops())
        return (found.y[1:] * torch.tensor([[1.0], [0.7]], dtype=DOUBLE)).sum()

    leaf = given.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    for i in range(2):
        for j in range(len(TIMES)):
            step = torch.zeros_like(given)
            step[i, j] = 1e-5
            expected = (loss(given + step) - loss(given - step)) / 2e-5
            # The steps of a spline do not end at its times, where its third derivative jumps.
            accuracy = 1e-5 if kind == "spline" else 1e-6
            assert abs(found[i, j] - expected) < accuracy


def test_values_of_a_module_are_learned():
    u = InputTable(TIMES, torch.nn.Parameter(torch.tensor(VALUES, dtype=DOUBLE)), "linear")
    y = solve(lambda t, y: u(t) - y, torch.zeros((), dtype=DOUBLE), [0.0, 4.0], **u.stops()).y
    y[-1].backward()
    assert next(iter(u.parameters())).grad.abs().min() > 0


@pytest.mark.parametrize(
    "times, values, message",
    [
        ([0.0, 0.0], [1.0, 2.0], "increase"),
        ([1.0, 0.0], [1.0, 2.0], "increase"),
        ([0.0, 1.0], [1.0], "do not fit"),
        ([[math.nan, 1.0]], [[1.0, 2.0]], "needs a time"),
        ([[0.0, 1.0]], [1.0, 2.0], "do not fit"),
    ],
)
def test_what_makes_no_sense(times, values, message):
    with pytest.raises(ValueError, match=message):
        InputTable(times, values)


def skip_without(engine):
    if engine == "native":
        pytest.importorskip("numba", reason="the native engine needs numba")


def test_values_that_change():
    u = InputTable([0.0, 1.0], [1.0, 2.0])
    u.values[0] = 5.0
    assert float(u(torch.tensor(0.5))) == 5.0
    other = InputTable([0.0, 1.0], [7.0, 8.0])
    u.load_state_dict(other.state_dict())
    assert float(u(torch.tensor(0.5))) == 7.0
    assert u.float()(torch.tensor(0.5)).dtype == torch.float32
