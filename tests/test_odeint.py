"""torchdiffeq's interface: what a call gives, point by point."""

import math
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

import pynode
from pynode import odeint, odeint_adjoint, odeint_dense, odeint_event
from pynode.compat import torchdiffeq as drop_in
from pynode.compat.methods import ADAMS, ADAPTIVE, EITHER, FIXED, NAMES

SOLVERS = [*ADAPTIVE, *FIXED, *ADAMS, *EITHER]
GRIDS = [*FIXED, *ADAMS]


def grid_of(method, size=0.01):
    return {"step_size": size} if method in GRIDS else {}


def double(*values, **keywords):
    return torch.tensor(values, dtype=torch.float64, **keywords)


def decay(t, y):
    return -y


class Driven(nn.Module):
    """dy/dt = A y + sin(t)."""

    def __init__(self):
        super().__init__()
        self.A = nn.Parameter(double([-0.5, 1.0], [-1.0, -0.5]))
        self.unused = nn.Parameter(double(1.0))
        self.calls = 0

    def forward(self, t, y):
        self.calls += 1
        return y @ self.A.T + torch.sin(t)


# Values.


@pytest.mark.parametrize("method", [*SOLVERS, "scipy_solver", "fbdf", "rodas5p", "Tsit5"])
@pytest.mark.parametrize("back", [False, True])
def test_a_decay_is_met_in_both_directions(method, back):
    t = double(1.0, 0.6, 0.0) if back else double(0.0, 0.4, 1.0)
    y0 = double(2.0, 3.0)
    y = odeint(decay, y0, t, method=method, rtol=1e-8, atol=1e-10, options=grid_of(method, 0.005))
    exact = y0 * torch.exp(-(t - t[0])).unsqueeze(1)
    loose = {"euler": 2e-2, "implicit_euler": 2e-2}
    assert y.shape == (3, 2) and y.dtype == torch.float64
    torch.testing.assert_close(y, exact, rtol=loose.get(method, 1e-4), atol=0)


def test_rk4_is_the_three_eighths_rule():
    h, y = 0.5, double(1.0)
    k1 = y * math.cos(0)
    k2 = (y + h * k1 / 3) * math.cos(h / 3)
    k3 = (y + h * (k2 - k1 / 3)) * math.cos(2 * h / 3)
    k4 = (y + h * (k1 - k2 + k3)) * math.cos(h)
    expected = y + h * (k1 + 3 * k2 + 3 * k3 + k4) / 8
    found = odeint(lambda t, y: y * torch.cos(t), y, double(0.0, h), method="rk4")[-1]
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


ORDERS = {
    "euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4, "implicit_euler": 1, "implicit_midpoint": 2, "trapezoid": 2,
    "sdirk2": 2, "trbdf2": 2, "radauIIA3": 3, "gl4": 4, "radauIIA5": 5, "gl6": 6,
}


@pytest.mark.parametrize("method, order", ORDERS.items())
def test_fixed_steps_have_their_order_with_a_time_dependent_field(method, order):
    def error(size):
        y = odeint(
            lambda t, y: y * torch.cos(t), double(1.0), double(0.0, 2.0), method=method, options={"step_size": size},
            rtol=1e-14, atol=1e-14,
        )
        return abs(float(y[-1]) - math.exp(math.sin(2.0)))

    size = 0.02 if order < 5 else 0.2
    assert math.log2(error(size) / error(size / 2)) == pytest.approx(order, abs=0.4)


def test_gauss_legendre_keeps_what_is_quadratic():
    """Symplectic: the energy of an oscillator after many steps is that of the start."""
    y = odeint(
        lambda t, y: torch.stack((y[1], -y[0])), double(1.0, 0.0), double(0.0, 100.0), method="gl4", rtol=1e-13, atol=1e-13,
        options={"step_size": 0.5},
    )
    assert float(y[-1].square().sum()) == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("method, order", [("explicit_adams", 4), ("implicit_adams", 5)])
def test_adams_has_its_order_on_an_uneven_grid(method, order):
    """With max_order = 5 there are four slopes, that of the new point beside."""
    def error(count):
        grid = 2 * torch.linspace(0, 1, count + 1, dtype=torch.float64) ** 1.2

        y = odeint(
            lambda t, y: y * torch.cos(t), double(1.0), double(0.0, 2.0), method=method, rtol=1e-13, atol=1e-14,
            options={"grid_constructor": lambda f, y0, t: grid, "max_order": 5, "max_iters": 30},
        )
        return abs(float(y[-1]) - math.exp(math.sin(2.0)))

    assert math.log2(error(40) / error(80)) > order - 0.5


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
    out = odeint(lambda t, y: [-y[0], y[1] * 0 + y[0].to(y[1])], parts, double(0.0, 1.0, 2.0))
    assert isinstance(out, tuple) and [tuple(x.shape) for x in out] == [(3,), (3, 2, 3)]
    torch.testing.assert_close(out[0], torch.exp(-double(0.0, 1.0, 2.0)), rtol=1e-6, atol=0)
    torch.testing.assert_close(out[1][-1], torch.full((2, 3), 2 - math.exp(-2), dtype=torch.float64), rtol=1e-6, atol=0)
    single = odeint(decay, torch.ones(4, 1), torch.tensor([3.0]))
    assert single.shape == (1, 4, 1)


def test_tolerances_by_component_and_by_part():
    calls = []

    def steps(rtol, atol, y0=None):
        calls.clear()
        f = lambda t, y: (calls.append(0), oscillate(t, y))[1]  # noqa: E731
        odeint(f, y0 or double(1.0, 0.0), double(0.0, 5.0), rtol=rtol, atol=atol)
        return len(calls)

    def oscillate(t, y):
        return (y[1], -y[0]) if isinstance(y, tuple) else torch.stack((y[1], -y[0]))

    fine, coarse = steps(1e-9, 1e-9), steps(1e-3, 1e-3)
    assert coarse < steps(double(1e-9, 1e3), double(1e-9, 1e3)) <= fine
    parts = double(1.0), double(0.0)
    assert coarse < steps((1e-9, 1e-3), (1e-9, 1e-3), parts) <= steps((1e-9, 1e-9), (1e-9, 1e-9), parts)


# Options.


def test_step_t_and_jump_t_are_landed_on():
    ends, asked = [], []

    def f(t, y):
        asked.append(float(t))
        return y if t < 0.5 else -y

    f.callback_accept_step = lambda t0, y0, dt: ends.append(float(t0 + dt))
    y = odeint(f, double(1.0), double(0.0, 1.0), options={"jump_t": double(0.5), "step_t": double(0.25, 7.0, -3.0)})
    assert 0.25 in ends and 0.5 in ends and 0.5 not in asked
    torch.testing.assert_close(y[-1], double(1.0), rtol=1e-8, atol=0)
    reverse = odeint(f, double(1.0), double(1.0, 0.0), options={"jump_t": double(0.5)})
    torch.testing.assert_close(reverse[-1], double(1.0), rtol=1e-8, atol=0)
    for twice in ({"step_t": double(0.3, 0.3)}, {"step_t": double(0.3), "jump_t": double(0.3)}):
        with pytest.raises(ValueError, match="must not have any repeated elements"):
            odeint(f, double(1.0), double(0.0, 1.0), options=twice)


def test_steps_are_bounded_and_counted():
    def sizes(**options):
        taken = []

        def f(t, y):
            return 50 * torch.cos(50 * t) + 0 * y

        f.callback_accept_step = lambda t0, y0, dt: taken.append(float(dt))
        odeint(f, double(0.0), double(0.0, 1.0), options=options)
        return taken

    assert max(sizes(max_step=0.01)) <= 0.01 * 1.01
    assert len(sizes(min_step=0.2)) < 12 < len(sizes())
    assert sizes(first_step=1e-3)[0] == pytest.approx(1e-3)
    with pytest.raises(AssertionError, match=r"max_num_steps exceeded \(3>=3\)"):
        sizes(max_num_steps=3)
    with pytest.raises(RuntimeError, match="raise it"):
        sizes(max_num_steps=3)


def test_safety_and_factors_reach_the_controller():
    def count(**options):
        f = Driven()
        odeint(f, double(1.0, 0.0), double(0.0, 20.0), options=options)
        return f.calls

    assert count(safety=0.5) > 1.2 * count(safety=0.9)
    assert count(ifactor=1.01, first_step=1e-3) > count(ifactor=10.0, first_step=1e-3)


def test_grids():
    seen = []

    def f(t, y):
        return y

    f.callback_step = lambda t0, y0, dt: seen.append((float(t0), float(dt)))
    odeint(f, double(1.0), double(0.0, 0.35), method="euler", options={"step_size": 0.1})
    assert [t for t, _ in seen] == pytest.approx([0.0, 0.1, 0.2, 0.3]) and seen[-1][1] == pytest.approx(0.05)
    grid = double(1.0, 0.3, 0.0)
    y = odeint(f, double(1.0), double(1.0, 0.0), method="euler", options={"grid_constructor": lambda f, y0, t: grid})
    torch.testing.assert_close(y[-1], double(0.3 * 0.7), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="mutually exclusive"):
        odeint(f, double(1.0), double(0.0, 1.0), method="rk4", options={"step_size": 1, "grid_constructor": lambda *_: grid})
    with pytest.raises(ValueError, match="must begin at"):
        odeint(f, double(1.0), double(0.0, 1.0), method="rk4", options={"grid_constructor": lambda f, y0, t: grid})


def test_interpolation_between_grid_points():
    """y = t^3 / 2: its cubic through both ends is itself."""
    t = double(0.0, 0.25, 1.0)
    for kind, expected in (("linear", 0.25 / 2), ("cubic", 0.25**3 / 2)):
        options = {"step_size": 1.0, "interp": kind}
        y = odeint(lambda t, y: 1.5 * t**2 + 0 * y, double(0.0), t, method="rk4", options=options)
        assert float(y[1, 0]) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="Unknown interpolation method"):
        odeint(decay, double(0.0), t, method="rk4", options={"interp": "quintic"})


# implicit_midpoint asks f at the middle of steps alone.
@pytest.mark.parametrize("method", [m for m in (*FIXED, "explicit_adams", "implicit_adams") if m != "implicit_midpoint"])
def test_perturb_keeps_off_the_grid_points(method):
    for perturb in (True, False):
        asked = []
        options = {"step_size": 0.5, "perturb": perturb}
        f = lambda t, y, to=asked: (to.append(float(t)), -y)[1]  # noqa: E731
        odeint(f, double(1.0), double(0.0, 2.0), method=method, options=options)
        assert bool({0.0, 0.5, 1.0, 1.5} & set(asked)) is not perturb


def test_norms_get_what_the_user_has():
    shapes = []

    def norm(y):
        shapes.append([tuple(x.shape) for x in y] if isinstance(y, tuple) else tuple(y.shape))
        return max(x.abs().max() for x in y) if isinstance(y, tuple) else y.abs().max()

    odeint(decay, torch.ones(2, 3), torch.tensor([0.0, 1.0]), options={"norm": norm})
    odeint(lambda t, y: (-y[0], -y[1]), (torch.tensor(1.0), torch.ones(4)), torch.tensor([0.0, 1.0]), options={"norm": norm})
    assert (2, 3) in shapes and [(), (4,)] in shapes


def test_unknown_options_and_callbacks_warn():
    t = torch.tensor([0.0, 1.0])
    with pytest.warns(UserWarning, match="Unexpected arguments {'nonsense': 1}"):
        odeint(decay, torch.ones(1), t, options={"nonsense": 1})

    def f(t, y):
        return -y

    f.callback_accept_step = lambda *_: None
    with pytest.warns(UserWarning, match="Solver 'rk4' does not support callbacks {'callback_accept_step'}"):
        odeint(f, torch.ones(1), t, method="rk4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odeint(f, torch.ones(1), t)


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
        ({"method": "nonsense"}, ValueError, r'Invalid method "nonsense". Must be one of {"dopri8", "dopri5", "bosh3"'),
        ({"method": "gl4", "adjoint": "discrete"}, ValueError, "'gl4' is torchdiffeq's alone.*use 'radauIIA5'"),
        ({"method": "explicit_adams", "max_steps": 9}, ValueError, "torchdiffeq's alone.*use 'adamspece'"),
        ({"rtol": torch.tensor(1e-3, requires_grad=True)}, AssertionError, "rtol cannot require gradient"),
        ({"y0": (torch.ones(1), torch.ones(1)), "rtol": (1e-3,)}, AssertionError, "same length as the tuple"),
        ({"event_fn": lambda t, y: y.sum(), "t": torch.tensor([0.0, 1.0, 2.0])}, ValueError, r"len\(t\) == 2"),
        ({"event_fn": lambda t, y: y.sum(), "method": "rk4"}, AssertionError, "requires `step_size`"),
        ({"method": "rk4", "options": {"step_size": -1.0}}, ValueError, "step_size must be positive"),
        ({"method": "explicit_adams", "options": {"max_order": 13}}, AssertionError, "at most 12"),
        ({"atol": -1.0}, ValueError, "not negative"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(change, error, words):
    given = {"y0": torch.ones(2), "t": torch.tensor([0.0, 1.0]), **change}
    with pytest.raises(error, match=words):
        odeint(decay, given.pop("y0"), given.pop("t"), **given)


def test_failures_are_assertions_and_name_the_remedy():
    with pytest.raises(AssertionError, match=r"non-finite values in state|underflow in dt"):
        odeint(lambda t, y: y**2, double(1.0), double(0.0, 2.0))
    with pytest.raises(RuntimeError, match="What to do"):
        odeint(lambda t, y: y * float("nan"), double(1.0), double(0.0, 2.0))


def test_names_in_torchdiffeqs_order():
    assert NAMES[:4] == ("dopri8", "dopri5", "bosh3", "fehlberg2") and NAMES[-1] == "scipy_solver" and len(NAMES) == 14


# Serving code that says torchdiffeq.


def test_install_serves_import_torchdiffeq(tmp_path):
    script = tmp_path / "uses.py"
    script.write_text(
        "import sys, torch\nfrom torchdiffeq import odeint, odeint_adjoint, odeint_event\nimport torchdiffeq\n"
        "y = torchdiffeq.odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0., 1.]))\n"
        "print(sys.argv[1:], round(float(y[-1]), 4), torchdiffeq.__version__, torchdiffeq.__name__)\n"
    )
    command = [sys.executable, "-m", "pynode.compat.torchdiffeq", str(script), "--flag"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "['--flag'] 0.3679 0.2.5 pynode.compat.torchdiffeq", done.stderr
    assert drop_in.odeint is pynode.odeint is odeint and pynode.odeint_adjoint is odeint_adjoint
    assert drop_in.odeint_event is odeint_event and drop_in.odeint_dense is odeint_dense
