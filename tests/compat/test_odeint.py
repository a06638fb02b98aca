"""torchdiffeq's interface: what a call gives, point by point."""

import math
import subprocess
import sys

import pytest
import torch

import pynode
from pynode import odeint, odeint_adjoint, odeint_dense, odeint_event
from pynode.compat import torchdiffeq as drop_in
from pynode.compat.methods import NAMES
from tests.support.cases import tensor
from tests.support.odeint import GRIDS, SOLVERS, decay


def grid_of(method, size=0.01):
    return {"step_size": size} if method in GRIDS else {}


# Values.


@pytest.mark.parametrize("method", [*SOLVERS, "scipy_solver", "fbdf", "rodas5p", "Tsit5"])
@pytest.mark.parametrize("back", [False, True])
def test_a_decay_is_met_in_both_directions(method, back):
    t = tensor(1.0, 0.6, 0.0) if back else tensor(0.0, 0.4, 1.0)
    y0 = tensor(2.0, 3.0)
    y = odeint(decay, y0, t, method=method, rtol=1e-8, atol=1e-10, options=grid_of(method, 0.005))
    exact = y0 * torch.exp(-(t - t[0])).unsqueeze(1)
    loose = {"euler": 2e-2, "implicit_euler": 2e-2}
    assert y.shape == (3, 2) and y.dtype == torch.float64
    torch.testing.assert_close(y, exact, rtol=loose.get(method, 1e-4), atol=0)


def test_rk4_is_the_three_eighths_rule():
    h, y = 0.5, tensor(1.0)
    k1 = y * math.cos(0)
    k2 = (y + h * k1 / 3) * math.cos(h / 3)
    k3 = (y + h * (k2 - k1 / 3)) * math.cos(2 * h / 3)
    k4 = (y + h * (k1 - k2 + k3)) * math.cos(h)
    expected = y + h * (k1 + 3 * k2 + 3 * k3 + k4) / 8
    found = odeint(lambda t, y: y * torch.cos(t), y, tensor(0.0, h), method="rk4")[-1]
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


ORDERS = {
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "heun3": 3,
    "rk4": 4,
    "implicit_euler": 1,
    "implicit_midpoint": 2,
    "trapezoid": 2,
    "sdirk2": 2,
    "trbdf2": 2,
    "radauIIA3": 3,
    "gl4": 4,
    "radauIIA5": 5,
    "gl6": 6,
}


@pytest.mark.parametrize("method, order", ORDERS.items())
def test_fixed_steps_have_their_order_with_a_time_dependent_field(method, order):
    def error(size):
        y = odeint(
            lambda t, y: y * torch.cos(t),
            tensor(1.0),
            tensor(0.0, 2.0),
            method=method,
            options={"step_size": size},
            rtol=1e-14,
            atol=1e-14,
        )
        return abs(float(y[-1]) - math.exp(math.sin(2.0)))

    size = 0.02 if order < 5 else 0.2
    assert math.log2(error(size) / error(size / 2)) == pytest.approx(order, abs=0.4)


def test_gauss_legendre_keeps_what_is_quadratic():
    """Symplectic: the energy of an oscillator after many steps is that of the start."""
    y = odeint(
        lambda t, y: torch.stack((y[1], -y[0])),
        tensor(1.0, 0.0),
        tensor(0.0, 100.0),
        method="gl4",
        rtol=1e-13,
        atol=1e-13,
        options={"step_size": 0.5},
    )
    assert float(y[-1].square().sum()) == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("method, order", [("explicit_adams", 4), ("implicit_adams", 5)])
def test_adams_has_its_order_on_an_uneven_grid(method, order):
    """With max_order = 5 there are four slopes, that of the new point beside."""

    def error(count):
        grid = 2 * torch.linspace(0, 1, count + 1, dtype=torch.float64) ** 1.2

        y = odeint(
            lambda t, y: y * torch.cos(t),
            tensor(1.0),
            tensor(0.0, 2.0),
            method=method,
            rtol=1e-13,
            atol=1e-14,
            options={"grid_constructor": lambda f, y0, t: grid, "max_order": 5, "max_iters": 30},
        )
        return abs(float(y[-1]) - math.exp(math.sin(2.0)))

    assert math.log2(error(40) / error(80)) > order - 0.5


def test_adams_in_single_precision():
    """Of orders that rounding errors leave alone: with torchdiffeq's, 12, they grow to 1e32."""
    y = odeint(decay, torch.ones(1), torch.linspace(0.0, 5.0, 201), method="explicit_adams")
    torch.testing.assert_close(y[-1], torch.exp(torch.tensor([-5.0])), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_dtypes(dtype):
    factor = 1j if dtype.is_complex else -1.0
    y0 = torch.tensor([1.0, 2.0], dtype=dtype)
    for method in ("dopri5", "rk4", "fehlberg2"):
        y = odeint(lambda t, y: factor * y, y0, torch.linspace(0, 1, 21), method=method)
        assert y.dtype == dtype and y.shape == (21, 2)
        expected = y0 * torch.exp(torch.tensor(factor))
        torch.testing.assert_close(y[-1], expected.to(dtype), rtol=2e-5, atol=2e-5)


def test_shapes_and_tuples():
    parts = torch.tensor(1.0, dtype=torch.float64), torch.ones(2, 3)
    out = odeint(lambda t, y: [-y[0], y[1] * 0 + y[0].to(y[1])], parts, tensor(0.0, 1.0, 2.0))
    assert isinstance(out, tuple) and [tuple(x.shape) for x in out] == [(3,), (3, 2, 3)]
    torch.testing.assert_close(out[0], torch.exp(-tensor(0.0, 1.0, 2.0)), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        out[1][-1], torch.full((2, 3), 2 - math.exp(-2), dtype=torch.float64), rtol=1e-6, atol=0
    )
    single = odeint(decay, torch.ones(4, 1), torch.tensor([3.0]))
    assert single.shape == (1, 4, 1)


def test_tolerances_by_component_and_by_part():
    calls = []

    def steps(rtol, atol, y0=None):
        calls.clear()
        f = lambda t, y: (calls.append(0), oscillate(t, y))[1]  # noqa: E731
        odeint(f, y0 or tensor(1.0, 0.0), tensor(0.0, 5.0), rtol=rtol, atol=atol)
        return len(calls)

    def oscillate(t, y):
        return (y[1], -y[0]) if isinstance(y, tuple) else torch.stack((y[1], -y[0]))

    fine, coarse = steps(1e-9, 1e-9), steps(1e-3, 1e-3)
    assert coarse < steps(tensor(1e-9, 1e3), tensor(1e-9, 1e3)) <= fine
    parts = tensor(1.0), tensor(0.0)
    assert (
        coarse
        < steps((1e-9, 1e-3), (1e-9, 1e-3), parts)
        <= steps((1e-9, 1e-9), (1e-9, 1e-9), parts)
    )


# Errors at the door.


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"y0": [1.0]}, AssertionError, "y0 must be either"),
        ({"y0": torch.ones(2, dtype=torch.int64)}, TypeError, "floating point or complex"),
        ({"t": torch.tensor([0, 1])}, TypeError, "must be a floating point Tensor"),
        ({"t": [0.0, 1.0]}, AssertionError, "must be a torch.Tensor"),
        ({"t": torch.zeros(2, 2)}, AssertionError, "one dimensional"),
        ({"t": torch.tensor([0.0, 0.0])}, AssertionError, "strictly increasing or decreasing"),
        ({"t": torch.tensor([0.0, 1.0, 0.5])}, ValueError, "strictly increasing or decreasing"),
        (
            {"method": "nonsense"},
            ValueError,
            r'Invalid method "nonsense". Must be one of {"dopri8", "dopri5", "bosh3"',
        ),
        (
            {"method": "gl4", "adjoint": "discrete"},
            ValueError,
            "'gl4' exists only in torchdiffeq.*use 'radauIIA5'",
        ),
        (
            {"method": "explicit_adams", "max_steps": 9},
            ValueError,
            "exists only in torchdiffeq.*use 'adamspece'",
        ),
        (
            {"rtol": torch.tensor(1e-3, requires_grad=True)},
            AssertionError,
            "rtol cannot require gradient",
        ),
        (
            {"y0": (torch.ones(1), torch.ones(1)), "rtol": (1e-3,)},
            AssertionError,
            "same length as the tuple",
        ),
        (
            {"event_fn": lambda t, y: y.sum(), "t": torch.tensor([0.0, 1.0, 2.0])},
            ValueError,
            r"len\(t\) == 2",
        ),
        (
            {"event_fn": lambda t, y: y.sum(), "method": "rk4"},
            AssertionError,
            "requires `step_size`",
        ),
        (
            {"method": "rk4", "options": {"step_size": -1.0}},
            ValueError,
            "step_size must be positive",
        ),
        ({"method": "explicit_adams", "options": {"max_order": 13}}, AssertionError, "at most 12"),
        ({"atol": -1.0}, ValueError, "not negative"),
        ({"y0": torch.ones(0)}, ValueError, "y0 is empty"),
        ({"method": "fbdf", "backend": "nonsense"}, ValueError, "unknown backend"),
        (
            {"method": "tsit5", "batched": True, "y0": (torch.ones(3), torch.ones(3))},
            ValueError,
            "takes one tensor y0",
        ),
        (
            {
                "method": "rk4",
                "adjoint": "discrete",
                "options": {"step_size": 1, "grid_constructor": lambda f, y0, t: t},
            },
            ValueError,
            "mutually exclusive",
        ),
    ],
)
def test_bad_input_is_refused_with_a_sentence(change, error, words):
    given = {"y0": torch.ones(2), "t": torch.tensor([0.0, 1.0]), **change}
    with pytest.raises(error, match=words):
        odeint(decay, given.pop("y0"), given.pop("t"), **given)


def test_failures_are_assertions_and_name_the_remedy():
    with pytest.raises(AssertionError, match=r"non-finite values in state|underflow in dt"):
        odeint(lambda t, y: y**2, tensor(1.0), tensor(0.0, 2.0))
    with pytest.raises(RuntimeError, match="What to do"):
        odeint(lambda t, y: y * float("nan"), tensor(1.0), tensor(0.0, 2.0))


def test_names_in_torchdiffeqs_order():
    assert (
        NAMES[:4] == ("dopri8", "dopri5", "bosh3", "fehlberg2")
        and NAMES[-1] == "scipy_solver"
        and len(NAMES) == 14
    )


# Serving code that says torchdiffeq.


def test_install_serves_import_torchdiffeq(tmp_path):
    script = tmp_path / "uses.py"
    script.write_text(
        "import sys, torch\nfrom torchdiffeq import odeint, odeint_adjoint, odeint_event\nimport"
        " torchdiffeq\ny = torchdiffeq.odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0.,"
        " 1.]))\nprint(sys.argv[1:], round(float(y[-1]), 4), torchdiffeq.__version__,"
        " torchdiffeq.__name__)\n"
    )
    command = [sys.executable, "-m", "pynode.compat.torchdiffeq", str(script), "--flag"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "['--flag'] 0.3679 0.2.5 pynode.compat.torchdiffeq", done.stderr
    assert drop_in.odeint is pynode.odeint is odeint and pynode.odeint_adjoint is odeint_adjoint
    assert drop_in.odeint_event is odeint_event and drop_in.odeint_dense is odeint_dense
