"""Tensors on two devices: what goes together, and the sentence where they do not."""

import pytest
import torch
from torch import nn

from pynode import solve
from tests.support.cases import Forced, tensor
from tests.support.on_device import NAME, same, strict

both = pytest.mark.parametrize("batched", [False, True], ids=["single", "rows"])
START = [[1.0, -0.5, 0.3], [0.2, 0.4, -1.0]]
HELD = tensor(1.0, 2.0, 3.0)


def closed_over(rate):
    return lambda t, y: -rate * y


@both
@pytest.mark.parametrize("grad", [False, True], ids=["plain", "grad"])
@pytest.mark.parametrize(
    ("f", "args"),
    [
        (Forced(), ()),
        (nn.Linear(3, 3).double(), ()),
        (closed_over(HELD), ()),
        (lambda t, y: -HELD * y, ()),
        (lambda t, y, rate: -rate * y, (HELD,)),
    ],
    ids=["module", "linear", "closure", "global", "args"],
)
def test_a_field_of_the_cpu_is_refused(f, args, grad, batched):
    if isinstance(f, nn.Linear):
        linear = f

        def f(t, y):
            return linear(y)

    with strict(), torch.set_grad_enabled(grad):
        y0 = torch.tensor(START, dtype=torch.float64).to(NAME)
        with pytest.raises(ValueError, match=r"on cpu: move them with module.to\('pretended:0'\)"):
            solve(f, y0, [0.0, 1.0], args=args, method="tsit5", batched=batched)


def test_a_state_of_the_cpu_is_refused():
    with strict():
        f = Forced().to(NAME)
        with pytest.raises(ValueError, match=r"the state is on cpu.*on pretended:0: move"):
            solve(f, tensor(1.0, 2.0, 3.0), [0.0, 1.0], method="tsit5")


@both
def test_an_error_of_f_stays_its_own(batched):
    """It names a device, but no tensor is elsewhere."""

    def broken(t, y):
        raise RuntimeError("no such device")

    with strict(), pytest.raises(RuntimeError, match=r"^no such device$"):
        y0 = torch.tensor(START, dtype=torch.float64).to(NAME)
        solve(broken, y0, [0.0, 1.0], method="tsit5", batched=batched)


@both
@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
def test_numbers_of_the_cpu_go_with_the_device(method, batched):
    """Tensors without a dimension in args, tolerances, a mass matrix."""

    def compute(device):
        y0 = torch.tensor(START, dtype=torch.float64).to(device)
        options = {"method": method, "batched": batched, "atol": torch.tensor(1e-6).double()}
        if method != "Tsit5" and not batched:
            options["mass"] = torch.full((6,), 2.0, dtype=torch.float64)
        rate = torch.tensor(0.7, dtype=torch.float64)
        return [solve(lambda t, y, k: -k * y, y0, [0.0, 1.0], args=(rate,), **options).y]

    same(compute)
