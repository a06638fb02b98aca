"""Products of float32 where the user lets a GPU round them (TF32): the solver's own keep all bits,
and products in f follow the user's setting."""

import threading

import pytest
import torch

from pynode import DiscreteAdjoint, solve
from pynode.core import products
from pynode.methods.registry import get
from pynode.solve_batched import serves
from tests.support.on_device import NAME, leaf, strict

METHODS = [
    "Tsit5",
    "Rodas5P",
    "Kvaerno5",
    "RadauIIA5",
    "RadauIIA9",
    "QNDF",
    "FBDF",
    "ABDF2",
    "AdamsPECE",
]
OPTIONS = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(params=["old setting", "new setting"])
def rounding(request):
    """The user's choice of TF32, by torch's old or new setting, with a look at what stays."""
    if request.param == "old setting":
        torch.set_float32_matmul_precision("high")
    else:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")


def outcome(method, batched, **options):
    """(y, gradients) of Robertson's reaction in float32, without products in f."""
    with strict():
        k = leaf([0.04, 3e7, 1e4], NAME, torch.float32)
        start = [1.0, 0.0, 0.0]
        y0 = leaf([start, start] if batched else start, NAME, torch.float32)

        def f(t, y):
            a, b, c = y.unbind(-1)
            slow, fast, back = k[0] * a, k[1] * b * b, k[2] * b * c
            return torch.stack((back - slow, slow - fast - back, fast), -1)

        end = 0.01 if method in ("Tsit5", "AdamsPECE") else 40.0
        times = [0.0, end / 3, end]
        options = {**OPTIONS, **options}
        y = solve(f, y0, times, method=method, batched=batched, params=[k], **options).y
        weights = torch.tensor([1.0, 1e4, 1.0]).to(NAME)
        grads = torch.autograd.grad((y * weights).sum(), [k])
        return [x.detach().to("cpu") for x in (y, *grads)]


@pytest.mark.parametrize(
    ("method", "batched"),
    [(name, False) for name in METHODS] + [(name, True) for name in METHODS if serves(get(name))],
)
def test_solves_are_the_same_bits(method, batched, rounding):
    """As with the full precision everywhere: the field has no products that could be rounded."""
    found = outcome(method, batched)
    with products._full_precision:
        expected = outcome(method, batched)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "adjoint", ["ForwardSensitivity", "GaussAdjoint", DiscreteAdjoint(checkpoints=3)]
)
@pytest.mark.parametrize("method", ["Rodas5P", "RadauIIA5", "QNDF"])
def test_adjoints_are_the_same_bits(method, adjoint, rounding):
    found = outcome(method, False, adjoint=adjoint)
    with products._full_precision:
        expected = outcome(method, False, adjoint=adjoint)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_the_users_field_is_rounded(rounding):
    """It is his choice, forward and backward."""
    with strict():
        weight = torch.rand(3, 3).to(NAME)
        y0 = torch.rand(2, 3).to(NAME)
        seen = []

        def f(t, y):
            seen.append(torch.backends.cuda.matmul.fp32_precision)
            return -torch.mm(y, weight)

        solve(f, y0, [0.0, 1.0], method="QNDF", **OPTIONS)
        assert set(seen) == {"tf32"}
        exact = products.mm(y0, weight).to("cpu")
        torch.testing.assert_close(exact, torch.mm(y0.to("cpu"), weight.to("cpu")))
        assert not torch.equal(torch.mm(y0, weight).to("cpu"), exact)


def test_threads_restore_the_setting(rounding):
    """The last of overlapping blocks restores it, in any order."""
    inside, outside = threading.Event(), threading.Event()

    def hold():
        with products._full_precision:
            inside.set()
            outside.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    assert products._full_precision.needed()  # although the setting is full now
    with products._full_precision:
        pass
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    outside.set()
    thread.join()
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
