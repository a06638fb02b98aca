"""Fields with operations that have first derivatives alone: attention kernels, functions of a
user."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pynode import GaussAdjoint, solve
from pynode.methods import Rodas5P

ONCE = "needs second derivatives of f"
TWICE = [
    ("Rodas5P", {}),
    ("Rosenbrock23", {}),
    ("Rodas5P", {"batched": True}),
    (Rodas5P(jacobian="sparse"), {}),
    ("Rodas5P", {"adjoint": "direct"}),
    ("Rodas5P", {"adjoint": "forward"}),
    ("FBDF", {"adjoint": GaussAdjoint(method="rodas5p")}),
    ("FBDF", {"adjoint": "gausskronrod"}),
]
FIRST = [
    ("Tsit5", {}),
    ("FBDF", {}),
    ("Kvaerno5", {}),
    ("RadauIIA5", {}),
    ("FBDF", {"batched": True}),
]
LOOSE = {"rtol": 1e-6, "atol": 1e-8}
ignored = pytest.mark.filterwarnings("ignore:There is a performance drop")


class Attention(nn.Module):
    """Two tokens of two channels, and the time in all of it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True).double()

    def forward(self, t, y):
        y = y * torch.cos(t).reshape(t.shape[:1] + (1, 1))
        return self.attention(y, y, y, need_weights=False)[0] - y


def gradient(f, parameters, y0, method, options):
    y = solve(f, y0, [0.0, 0.5], method=method, **LOOSE, **options).y[-1]
    return torch.autograd.grad(y.square().sum(), parameters)


@ignored
@pytest.mark.parametrize(("method", "options"), [*FIRST, *TWICE])
def test_attention(method, options):
    """Right under every method, as with the plain formula; what is set for attention stays as it
    was."""
    f = Attention()
    y0 = torch.randn(1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chosen = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()
    found = gradient(f, list(f.parameters()), y0, method, options)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = gradient(f, list(f.parameters()), y0, method, options)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert (
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
    ) == chosen


@ignored
@pytest.mark.parametrize("method", ["Tsit5", "FBDF", "Rodas5P"])
def test_second_derivatives_through_attention(method):
    f, y0 = Attention(), torch.ones(1, 2, 2, dtype=torch.float64, requires_grad=True)

    def second():
        y = solve(f, y0, [0.0, 0.5], method=method, **LOOSE).y[-1]
        (g,) = torch.autograd.grad(y.square().sum(), y0, create_graph=True)
        return torch.autograd.grad(g.square().sum(), y0)[0]

    with sdpa_kernel(SDPBackend.MATH):
        wanted = second()
    torch.testing.assert_close(second(), wanted, rtol=1e-3, atol=1e-4)


class Sine(torch.autograd.Function):
    """sin, differentiable once: a second derivative would be zero without a word."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


OPERATIONS = {
    "a function of the user": Sine.apply,
    "an operation of torch": lambda x: torch.cdist(
        x.reshape(-1, 1), torch.ones(1, 1, dtype=x.dtype), p=3.0
    ).reshape(x.shape),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("method", "options"), [*FIRST, *TWICE])
def test_operations_with_one_derivative(operation, method, options):
    """Right where first derivatives do, and refused with a remedy where they do not."""
    k = torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True)
    y0, t = torch.ones(2, 2, dtype=torch.float64), [0.0, 0.5]

    def f(t, y):
        return OPERATIONS[operation](k * y)

    if (method, options) in FIRST:
        (wanted,) = torch.autograd.grad(
            solve(f, y0, t, method="Tsit5", rtol=1e-8, atol=1e-10).y[-1].square().sum(), k
        )
        torch.testing.assert_close(
            gradient(f, k, y0, method, options)[0], wanted, rtol=1e-2, atol=1e-3
        )
        return
    words = "jacobian='dense'" if isinstance(method, Rodas5P) else ONCE
    if options.get("adjoint") == "direct" and operation == "an operation of torch":
        words = "not implemented|" + ONCE
    with pytest.raises(RuntimeError, match=words):
        gradient(f, k, y0, method, options)


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_second_derivatives_of_a_function_that_has_one(method):
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    y = solve(lambda t, y: Sine.apply(y), x, [0.0, 0.5], method=method, **LOOSE).y[-1]
    (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=ONCE):
        torch.autograd.grad(g.sum(), x)
