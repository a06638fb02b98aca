"""What functions of the user return with batched=True is checked as it is without."""

import pytest
import torch

from pynode import Event, solve
from pynode.compat.torchdiffeq import odeint

Y0 = torch.tensor([[1.0, 0.5], [2.0, 3.0]], dtype=torch.float64)
WRONG = {
    "float32": (
        lambda t, y: -y.float(),
        TypeError,
        "returned torch.float32 for a state of torch.float64",
    ),
    "int64": (lambda t, y: (-y).long(), TypeError, "returned torch.int64"),
    "bool": (lambda t, y: y > 0, TypeError, "returned torch.bool"),
    "complex": (lambda t, y: -y + 0j, TypeError, "returned torch.complex128"),
    "dimension": (lambda t, y: -y[..., None], ValueError, "shape"),
    "tuple": (lambda t, y: (-y,), TypeError, "structure of y0, a tensor, not a tuple of 1"),
    "dict": (lambda t, y: {"a": -y}, TypeError, "structure of y0"),
}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf", "kencarp4"])
@pytest.mark.parametrize("name", WRONG)
def test_results_of_f(name, method, batched):
    f, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        solve(f, Y0, (0.0, 1.0), method=method, batched=batched)


@pytest.mark.parametrize("batched", [False, True])
def test_parts_of_different_dtypes(batched):
    """Joined into one vector the float64 part would hide that the other was float32."""
    y0 = {"a": Y0, "b": Y0 + 1}
    with pytest.raises(TypeError, match=r"parts of torch.float64 and of torch.float32"):
        solve(
            lambda t, y: {"a": -y["a"], "b": -y["b"].float()},
            y0,
            (0.0, 1.0),
            method="tsit5",
            batched=batched,
        )


def test_parts_of_other_shapes():
    """Leaves whose sizes make up the same row are not the same state."""
    y0 = {"a": Y0, "b": torch.cat((Y0, Y0), 1)}
    with pytest.raises(ValueError, match=r"must return dy/dt for just these rows"):
        solve(lambda t, y: {"a": y["b"], "b": y["a"]}, y0, (0.0, 1.0), method="tsit5", batched=True)


def test_a_module_of_another_dtype():
    with pytest.raises(TypeError, match=r"it has parameters of torch.float32; convert the module"):
        net = torch.nn.Linear(2, 2)
        net.forward = lambda t, y: torch.nn.functional.linear(y, net.weight, net.bias)
        solve(net, Y0, (0.0, 1.0), method="tsit5", batched=True)


@pytest.mark.parametrize(
    "reset",
    [lambda t, y: (y,), lambda t, y: y.float(), lambda t, y: y[..., None], lambda t, y: y[:1]],
)
def test_resets(reset):
    event = Event(lambda t, y: y[..., 0] - 0.8, reset=reset, name="kick")
    with pytest.raises(ValueError, match=r"reset of 'kick'"):
        solve(lambda t, y: -y, Y0, (0.0, 1.0), method="tsit5", batched=True, events=event)


@pytest.mark.parametrize("batched", [False, True])
def test_conditions_of_another_dtype(batched):
    with pytest.raises(TypeError, match=r"condition of event 'coarse' returned torch.float32"):
        event = Event(lambda t, y: y[..., 0].float() - 0.8, name="coarse")
        solve(lambda t, y: -y, Y0, (0.0, 1.0), method="tsit5", batched=batched, events=event)


def test_conditions_of_one_row():
    """y[0] has as many values as there are rows here, and is the state of the first of them all the
    same."""
    rows = torch.ones(4, 2, dtype=torch.float64)
    for condition in (lambda t, y: y[0] - 0.5, lambda t, y: y.sum() - 1, lambda t, y: y.t() - 0.5):
        with pytest.raises(ValueError, match=r"one or several for each row"):
            solve(lambda t, y: -y, rows, (0.0, 1.0), method="tsit5", batched=True, events=condition)


def test_jacobians():
    with pytest.raises(TypeError, match=r"jac returned torch.complex128"):
        solve(
            lambda t, y: -y,
            Y0[0],
            (0.0, 1.0),
            method="rodas5p",
            jac=lambda t, y: -torch.eye(2, dtype=torch.complex128),
        )


@pytest.mark.parametrize("name", ["int64", "bool", "complex"])
def test_torchdiffeq(name):
    """Whole numbers and imaginary parts are no dy/dt of a real state; other real dtypes are
    converted, as torchdiffeq does."""
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with pytest.raises(TypeError, match=r"dy/dt must be like y"):
        odeint(WRONG[name][0], Y0, t, method="dopri5")
    assert odeint(WRONG["float32"][0], Y0, t, method="dopri5").dtype == torch.float64


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "qndf"])
def test_args_are_not_cut_to_the_rows_that_are_left(method):
    """Two rates, and three rows that end one after the other: when two rows are left, the rates
    still belong to none."""
    rates = torch.tensor([1.0, 3.0], dtype=torch.float64)
    times = torch.tensor([[0.0, 0.0, 0.0], [0.5, 1.0, 1.5]], dtype=torch.float64)

    def f(t, y, rates):
        return -rates[0] * y

    y0 = torch.ones(3, 1, dtype=torch.float64)
    y = solve(f, y0, times, method=method, args=(rates,), batched=True, rtol=1e-8, atol=1e-10).y[-1]
    assert torch.allclose(y.flatten(), torch.exp(-times[-1]), rtol=1e-5)
