"""torchdiffeq's interface: the small print of its calls."""

import inspect
import warnings

import pytest
import torch

from pynode import odeint, odeint_adjoint, odeint_dense, odeint_event
from pynode.compat.call import prepare
from pynode.compat.field import CallField, CallTolerance
from tests.support.cases import tensor
from tests.support.odeint import decay

T = torch.tensor([0.0, 0.5, 1.0])


def keywords(function):
    return [
        p
        for p in inspect.signature(function).parameters
        if p not in ("func", "y0", "t", "t0", "t1", "solve_options")
    ]


def test_signatures():
    """torchdiffeq 0.2.5's, by order, kind and default."""
    plain = ["rtol", "atol", "method", "options", "event_fn"]
    back = ["adjoint_rtol", "adjoint_atol", "adjoint_method", "adjoint_options", "adjoint_params"]
    assert keywords(odeint) == plain and keywords(odeint_adjoint) == plain + back
    assert keywords(odeint_event) == ["event_fn", "reverse_time", "odeint_interface", "kwargs"]
    assert keywords(odeint_dense) == plain[:4]
    for function in (odeint, odeint_adjoint, odeint_dense):
        parameters = inspect.signature(function).parameters
        assert parameters["rtol"].default == 1e-7 and parameters["atol"].default == 1e-9
        assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in plain[:4])


def test_steps_are_counted_between_outputs():
    def count(t):
        steps = []

        def f(t, y):
            return -y

        f.callback_step = lambda *_: steps.append(0)
        odeint(f, tensor(1.0), t, rtol=1e-9)
        return len(steps)

    whole = count(tensor(0.0, 4.0))
    limit = {"max_num_steps": int(0.7 * whole)}
    with pytest.raises(AssertionError, match="max_num_steps exceeded"):
        odeint(decay, tensor(1.0), tensor(0.0, 4.0), rtol=1e-9, options=limit)
    assert odeint(decay, tensor(1.0), tensor(0.0, 2.0, 4.0), rtol=1e-9, options=limit).shape == (
        3,
        1,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.bfloat16])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "implicit_adams"])
def test_what_func_is_called_with(method, dtype):
    """t in the real dtype of y, 0-d, whatever that of the times; y in its own."""
    seen = set()

    def f(t, y):
        seen.add((t.dtype, t.dim(), y.dtype))
        return -y

    y = odeint(f, torch.ones(2).to(dtype), T.double(), method=method, rtol=1e-2, atol=1e-2)
    real = torch.ones((), dtype=dtype).abs().dtype
    assert seen == {(real, 0, dtype)} and y.dtype == dtype
    torch.testing.assert_close(y[-1].abs().float(), torch.full((2,), 0.3679), rtol=0.03, atol=0)


def test_errors_are_measured_against_the_larger_end_of_a_step():
    """Component by component; a complex one is twice a real one, and has one size."""
    call = prepare(
        decay,
        torch.tensor([3.0 + 4.0j, 0.0 + 0.0j], dtype=torch.complex128),
        T,
        0.1,
        1.0,
        None,
        None,
    )
    field = CallField(call)
    tol, y = CallTolerance(field, call), field.initial
    torch.testing.assert_close(tol.scale(y), tensor(1.5, 1.5, 1.0, 1.0))
    error = tensor(0.0, 3.0, 0.0, 0.0)
    for a, b in ((y, 0 * y), (0 * y, y)):
        assert tol.ratio(error, a, b) == pytest.approx(2 / 2**0.5)
    assert tol.rms(torch.cat((0 * error, error)), torch.ones(8).double()) == pytest.approx(
        3 / 2**0.5
    )


def test_the_dtype_of_time_is_an_option_without_effect():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = odeint(decay, torch.ones(2), T, options={"dtype": torch.float32})
    assert torch.equal(y, odeint(decay, torch.ones(2), T))


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_callbacks_in_reverse_time(method):
    """t0 is the time itself, dt the way that is taken."""
    seen = []

    def f(t, y):
        return -y

    f.callback_step = lambda t0, y0, dt: seen.append((float(t0), float(y0)))
    odeint(f, tensor(1.0), tensor(1.0, 0.5, 0.0), method=method)
    assert seen[0] == (1.0, 1.0)
    assert all(0.0 < t <= 1.0 for t, _ in seen) and [t for t, _ in seen] == sorted(
        (t for t, _ in seen), reverse=True
    )
    assert all(
        y == pytest.approx(float(torch.exp(torch.tensor(1.0 - t))), rel=1e-2) for t, y in seen
    )


def test_adams_of_low_order_is_rk4():
    with pytest.warns(UserWarning, match="below 4, so the solver reduces to `rk4`"):
        found = odeint(
            decay, tensor(1.0), T.double(), method="explicit_adams", options={"max_order": 3}
        )
    torch.testing.assert_close(
        found, odeint(decay, tensor(1.0), T.double(), method="rk4"), rtol=1e-12, atol=0
    )
    with pytest.warns(UserWarning, match="Functional iteration did not converge"):
        odeint(
            lambda t, y: -9 * y,
            tensor(1.0),
            torch.linspace(0, 1, 12).double(),
            method="implicit_adams",
            options={"max_iters": 1},
        )


@pytest.mark.filterwarnings("ignore:Functional iteration")
@pytest.mark.parametrize(
    "iterations, rate, rtol, calls, end",
    [
        (1, 9.0, 1e-7, 28, 0.07723386490703),
        (4, 3.0, 1e-4, 38, 8.01065385391515),
        (4, 9.0, 1e-3, 58, 0.04716626719566),
    ],
)
def test_adams_iterates_as_torchdiffeq_does(iterations, rate, rtol, calls, end):
    """The calls and the last value of torchdiffeq 0.2.5: when it stops, and what it forgets where
    it did not converge."""
    seen = []

    def f(t, y):
        seen.append(0)
        return -rate * y * torch.cos(t)

    t = torch.linspace(0, 1, 13, dtype=torch.float64)
    options = {"max_iters": iterations}
    y = odeint(
        f, tensor(100.0), t, method="implicit_adams", rtol=rtol, atol=rtol / 100, options=options
    )
    assert len(seen) == calls and y[-1].item() == pytest.approx(end, rel=1e-10)


def test_scipy_solver():
    """Any method of solve_ivp; its errors are errors, events an AttributeError."""
    calls = []

    def f(t, y):
        calls.append(0)
        return -50 * y

    for solver in ("LSODA", "RK45", "BDF"):
        y = odeint(f, tensor(1.0), T.double(), method="scipy_solver", options={"solver": solver})
        torch.testing.assert_close(y[1], torch.exp(tensor(-25.0)), rtol=0, atol=1e-6)
    calls.clear()
    odeint(f, tensor(1.0), T.double(), method="scipy_solver", options={"min_step": 0.2})
    assert len(calls) < 60
    with pytest.raises(AttributeError, match="no events"):
        odeint(
            f,
            tensor(1.0),
            tensor(0.0, 1.0),
            method="scipy_solver",
            event_fn=lambda t, y: y.sum() - 0.5,
        )
    for solver, words in (
        ("LSODA", r"does not get past t = (1|0\.99)"),
        ("RK45", "of SciPy failed"),
    ):
        with pytest.raises(AssertionError, match=words):
            odeint(
                lambda t, y: y**2,
                tensor(1.0),
                tensor(0.0, 2.0),
                method="scipy_solver",
                options={"solver": solver},
            )
    with pytest.raises(AssertionError, match="non-finite values in state"):
        odeint(lambda t, y: y * float("nan"), tensor(1.0), tensor(0.0, 1.0), method="scipy_solver")
