"""Newton's iteration takes a correction at the level of rounding for what it is: the end, not
divergence."""

import math

import pytest
import torch

from pynode.algebra.newton import UNKNOWN, simplified_newton
from pynode.core.norm import NEWTON, RowTolerance, Tolerance

SINGLE = (
    "QNDF",
    "FBDF",
    "ABDF2",
    "KenCarp4",
    "Kvaerno5",
    "TRBDF2",
    "SDIRK2",
    "Trapezoid",
    "ImplicitEuler",
    "ImplicitMidpoint",
    "RadauIIA3",
    "RadauIIA5",
    "RadauIIA9",
    "auto",
)
BATCHED = (
    "QNDF",
    "FBDF",
    "KenCarp4",
    "Kvaerno5",
    "TRBDF2",
    "SDIRK2",
    "ImplicitEuler",
    "ImplicitMidpoint",
)
TORCH = [*((method, "single") for method in SINGLE), *((method, "rows") for method in BATCHED)]
JULIA = [(method, "julia") for method in ("Rodas5P", "QNDF", "KenCarp4")]
CONSTANTS = ((0.15, -0.6), (0.3, 1.0), (-4.93, 0.0), (4e-5, 0.0), (0.7, 1e-12), (1.1, 3e5))


def each_run(runs):
    return pytest.mark.parametrize(("method", "engine"), runs, indirect=["engine"])


def end(engine, f, y0, span, method, **options):
    return engine.solve(f, y0, span, method=method, max_steps=5000, **options).y[-1]


@pytest.mark.parametrize(
    ("method", "engine", "dtype"),
    [
        *((*run, torch.float64) for run in TORCH + JULIA),
        *((*run, torch.float32) for run in TORCH),
    ],
    indirect=["engine"],
)
def test_a_constant_slope(method, engine, dtype):
    """The prediction is exact: all that Newton's iteration ever sees is rounding."""
    rtol = 1e-6 if dtype is torch.float64 else 1e-5
    for slope, start in CONSTANTS:

        def f(t, y, slope=slope):
            return slope + 0 * y

        y0 = torch.tensor([start], dtype=dtype)
        found = float(end(engine, f, y0, (0.0, 1.0), method, rtol=rtol))
        right = float(y0) + slope
        assert abs(found - right) < 10 * (1e-9 + rtol * max(abs(right), abs(start))), (slope, start)


@each_run(TORCH + JULIA)
def test_a_start_from_zero(method, engine):
    c, s = 1.24e-8, 4e-4
    y0 = torch.zeros(1, dtype=torch.float64)
    tight = {"rtol": 3e-5, "atol": 7.6e-11}
    found = float(
        end(engine, lambda t, y: c * (1 + (y / s) ** 2), y0, (0.0, 1000.0), method, **tight)
    )
    right = s * math.tan(1000 * c / s)
    assert abs(found - right) < 10 * (7.6e-11 + 3e-5 * right)


@each_run(TORCH + JULIA)
def test_a_steady_state(method, engine):
    """f is zero but for rounding, which a stiff Jacobian magnifies."""
    a, b = torch.tensor([[-100, 0.1], [0.2, -3.0]]).double(), torch.tensor([0.7, -1.1]).double()
    for k in range(3):
        y0 = torch.linalg.solve(a, -b * (1 + k / 10))
        f = lambda t, y, k=k: y @ a.T + b * (1 + k / 10)  # noqa: E731
        found = end(engine, f, y0, (0.0, 10.0), method)
        assert torch.allclose(found, y0, rtol=1e-5)


@each_run(TORCH)
def test_an_input_that_is_held(method, engine):
    """Between its changes the input is constant, and so is the slope."""
    values = torch.tensor([0.15, 0.15, -0.3, 0.0, 0.7], dtype=torch.float64)

    def f(t, y):
        return values[t.clamp(0, 4.5).long()] + 0 * y

    y0 = torch.tensor([0.2], dtype=torch.float64)
    changes = [1.0, 2.0, 3.0, 4.0]
    found = float(end(engine, f, y0, (0.0, 5.0), method, tstops=changes, jumps=changes))
    assert abs(found - 0.2 - 0.7) < 1e-5


@pytest.mark.parametrize("method", ["SDIRK2", "ImplicitMidpoint", "TRBDF2", "KenCarp4", "QNDF"])
@pytest.mark.parametrize("rtol", [1e-4, 1e-5])
@pytest.mark.parametrize("engine", ["single", "rows"], indirect=True)
def test_float32(method, rtol, engine):
    """What Newton's iteration may leave is below the rounding of this dtype."""
    y0 = torch.linspace(-2, 2, 7)
    found = end(engine, lambda t, y: -y, y0, (0.0, 1.0), method, rtol=rtol, atol=rtol / 100)
    assert torch.allclose(found, y0 * math.exp(-1), rtol=30 * rtol, atol=rtol)


@pytest.mark.parametrize("method", ["SDIRK2", "TRBDF2", "QNDF", "RadauIIA5"])
@pytest.mark.parametrize("engine", ["single"], indirect=True)
def test_an_absolute_tolerance_alone(method, engine):
    """rtol = 0 is no scale of rounding: the iteration goes on to what atol asks for."""
    y0 = torch.ones(1, dtype=torch.float64)
    found = float(end(engine, lambda t, y: -(y**3), y0, (0.0, 4.0), method, rtol=0.0, atol=1e-7))
    assert abs(found - 1 / 3) < 1e-6


class Noisy:
    """A solver whose corrections are noise of a given size, which does not converge."""

    def __init__(self, size):
        self.size, self.calls = size, 0

    def solve(self, b, factor):
        self.calls += 1
        return torch.tensor([self.size * (1 + self.calls)], dtype=torch.float64)


class Still:
    mass = None

    class stats:
        nsolve = 0

    def __call__(self, t, y):
        return 0 * y


@pytest.mark.parametrize(("rtol", "atol"), [(1e-6, 1e-9), (0.0, 1e-9), (1e-14, 1e-6)])
def test_the_level(rtol, atol):
    """Corrections of some units in the last place end the iteration, those of more that grow are
    divergence."""
    tol = Tolerance(rtol, torch.tensor(atol, dtype=torch.float64), 1)
    y = torch.tensor([1.0], dtype=torch.float64)

    def run(size):
        zero, scale = torch.zeros_like(y), tol.scale(y)
        return simplified_newton(
            Still(), 0.0, y, zero, 1.0, scale, tol, tol.newton_tol, Noisy(size), UNKNOWN
        )

    assert run(2e-16).y is not None
    far = 100 * max(1.0, tol.rounding_floor / NEWTON) * (atol + rtol)
    assert run(far).y is None
    rows = RowTolerance(rtol, tol.atol, 1)
    one = torch.ones(3, 1, dtype=torch.float64)
    level = rows.rounding(one, 0 * one, rows.scale(one))
    assert level == pytest.approx([tol.rounding(y, 0 * y, tol.scale(y))] * 3)
