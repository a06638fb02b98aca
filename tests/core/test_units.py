"""The pieces by themselves: layouts, norms, control, grids, polynomials."""

import math

import pytest
import torch

from pynode.core.layout import Layout
from pynode.core.norm import Tolerance
from pynode.core.step_control import Controller, first_step
from pynode.core.trajectory import Grid, derivative, evaluate
from tests.support.cases import field_of, tensor

STATES = {
    "vector": tensor(1.0, 2.0),
    "scalar": torch.tensor(3.0),
    "matrix": torch.arange(6.0).reshape(2, 3),
    "tuple": (tensor(1.0), tensor([2.0, 3.0], [4.0, 5.0])),
    "dict": {"b": tensor(1.0), "a": tensor(2.0, 3.0)},
    "nested": (tensor(1.0), {"x": [tensor(2.0), tensor(3.0, 4.0)]}),
}


@pytest.mark.parametrize("kind", STATES)
def test_layout_round_trip(kind):
    """To one flat vector and back, also with leading dimensions."""
    layout = Layout(STATES[kind])
    flat = layout.ravel(STATES[kind])
    assert flat.shape == (layout.size,)
    assert torch.equal(layout.ravel(layout.unravel(flat)), flat)
    # Nothing twice, nothing lost.
    assert torch.equal(flat.sort().values, flat.sort().values.unique())
    rows = torch.stack((flat, 2 * flat, 3 * flat))
    assert torch.equal(layout.ravel_rows(layout.unravel(rows), 3), rows)


def test_layout_orders_dicts_by_key():
    assert Layout(STATES["dict"]).ravel(STATES["dict"]).tolist() == [2.0, 3.0, 1.0]
    assert list(Layout(STATES["dict"]).unravel(tensor(2.0, 3.0, 1.0))) == ["a", "b"]


def test_norms():
    tol = Tolerance(0.1, tensor(1.0, 2.0), 2)
    y, y1, error = tensor(10.0, -20.0), tensor(30.0, 10.0), tensor(8.0, 0.0)
    assert tol.scale(y).tolist() == [2.0, 4.0]
    assert tol.ratio(error, y, y1) == pytest.approx(math.sqrt((8 / 4) ** 2 / 2))
    assert tol.ratio(error, y1, y) == tol.ratio(error, y, y1)
    assert tol.rms(tensor(3.0, 4.0), tensor(1.0, 2.0)) == pytest.approx(math.sqrt((9 + 4) / 2))


class TestController:
    def test_elementary(self):
        factor, past = Controller("I")(0.5, (0.3, 0.2), 4)
        assert factor == pytest.approx(0.9 * 0.5 ** (-1 / 4)) and past == (0.5, 0.3)

    @pytest.mark.parametrize(
        ("kind", "b"), [("PI", (0.7, -0.4, 0.0)), ("PID", (0.49, -0.34, 0.10))]
    )
    def test_filters(self, kind, b):
        factor, _ = Controller(kind)(0.5, (0.3, 0.2), 5)
        assert factor == pytest.approx(
            0.9 * 0.5 ** (-b[0] / 5) * 0.3 ** (-b[1] / 5) * 0.2 ** (-b[2] / 5)
        )

    @pytest.mark.parametrize("kind", ["I", "PI", "PID"])
    def test_limits(self, kind):
        control = Controller(kind)
        assert control(0.0, (1.0, 1.0), 1)[0] == 10.0
        assert control(math.inf, (1.0, 1.0), 5) == (0.2, (1.0, 1.0))
        assert control(math.nan, (1.0, 1.0), 5) == (0.2, (1.0, 1.0))
        assert control(1e9, (0.5, 0.5), 5) == (0.2, (0.5, 0.5))

    @pytest.mark.parametrize("kind", ["I", "PI", "PID"])
    def test_a_rejected_step_shrinks_and_leaves_no_trace(self, kind):
        factor, past = Controller(kind)(1.001, (0.01, 0.01), 5)
        assert factor <= 0.9 and past == (0.01, 0.01)


@pytest.mark.parametrize("end", [2.0, -2.0])
def test_first_step(end):
    """(0.01 / |f|)^(1/5) in the norm of the tolerances; tried toward the end; never longer than
    asked for."""
    seen = []

    def f(t, y):
        seen.append(float(t))
        return -y

    field, tol, y = field_of(f, tensor(1.0)), Tolerance(1e-6, torch.tensor(1e-9), 1), tensor(1.0)
    h = first_step(field, 0.0, end, y, field(0.0, y), 5, tol, math.inf)
    assert h == pytest.approx((0.01 * 1.001e-6) ** (1 / 5), rel=1e-2)
    assert seen[-1] * end > 0
    assert first_step(field, 0.0, end, y, field(0.0, y), 5, tol, 1e-9) == 1e-9


def test_first_step_of_a_field_at_rest():
    field, tol, y = (
        field_of(lambda t, y: 0 * y, tensor(1.0)),
        Tolerance(1e-6, torch.tensor(1e-9), 1),
        tensor(1.0),
    )
    assert 0 < first_step(field, 0.0, 5.0, y, field(0.0, y), 5, tol, math.inf) <= 5.0


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_grid(direction):
    grid = Grid([direction * t for t in (0.0, 1.0, 3.0)], direction * 4.0)
    where = {0.0: 0, 0.5: 0, 1.0: 0, 1.5: 1, 3.0: 1, 3.1: 2, 4.0: 2}
    assert {t: grid.locate(direction * t) for t in where} == where
    assert all(grid.covers(direction * t) for t in where)
    assert not grid.covers(direction * -0.1) and not grid.covers(direction * 4.1)


def test_polynomials():
    coefficients = tensor([1.0, 0.0], [2.0, 1.0], [3.0, -1.0])
    theta = tensor(0.0, 0.5, 2.0)
    assert evaluate(coefficients, theta).tolist() == [
        [1, 0],
        [1 + 1 + 0.75, 0.5 - 0.25],
        [1 + 4 + 12, 2 - 4],
    ]
    assert derivative(coefficients, theta).tolist() == [[2, 1], [2 + 3, 1 - 1], [2 + 12, 1 - 4]]
