"""Derivatives of reactors: against finite differences, for rows, in native code."""

import pytest
import torch

from pynode import solve
from pynode.models import cantera
from pynode.models.combustion.tangent import with_slope
from tests.support.cases import tensor
from tests.support.mechanisms import KINDS, mechanism

pytest.importorskip("cantera", reason="mechanisms need cantera")
pytestmark = pytest.mark.filterwarnings("ignore:NasaPoly2")
HOT = (1350.0, 2e5, "H2:2, O2:1.5, H:0.2, O:0.1, OH:0.15, H2O:0.8, HO2:0.01, N2:3.76")


@pytest.fixture(params=["constant volume", "constant pressure"])
def reactor(request, tmp_path):
    """With all kinds of reactions."""
    path = tmp_path / "kinds.yaml"
    path.write_text(mechanism(*KINDS))
    return cantera(path, request.param)


def scaled(reactor, y0):
    """f in units of the state and of its slope at y0: of order one, as gradcheck needs it."""
    with torch.no_grad():
        size = reactor(0.0, y0).abs().clamp(min=1e-3)
    return lambda x, *_: reactor(0.0, x * y0) / size


def test_first_and_second_derivatives(reactor):
    y0 = reactor.initial(*HOT)
    f = scaled(reactor, y0)
    ones = torch.ones_like(y0).requires_grad_()
    assert torch.autograd.gradcheck(f, (ones,), eps=1e-6, rtol=1e-5, atol=1e-6)
    assert torch.autograd.gradgradcheck(f, (ones,), eps=1e-6, rtol=1e-4, atol=1e-4)


def test_derivatives_in_the_rate_constants(reactor):
    y0 = reactor.initial(*HOT)
    f = scaled(reactor, y0)
    ones = torch.ones_like(y0)
    parameters = list(reactor.parameters())
    assert len(parameters) == 4  # log_A, b, E and Chebyshev's coefficients
    assert torch.autograd.gradcheck(
        lambda *_: f(ones), parameters, eps=1e-5, rtol=1e-4, atol=1e-6, nondet_tol=0.0
    )


def test_forward_mode_and_vmap(reactor):
    """The Jacobian by columns, by rows, and of several states at once."""
    y0 = reactor.initial(*HOT)
    f = scaled(reactor, y0)
    rows = torch.stack((torch.ones_like(y0), torch.full_like(y0, 1.01)))
    by_rows = torch.func.vmap(torch.func.jacrev(f))(rows)
    by_columns = torch.func.vmap(torch.func.jacfwd(f))(rows)
    torch.testing.assert_close(by_columns, by_rows, rtol=1e-9, atol=1e-9)
    apart = torch.autograd.functional.jacobian(f, rows[1])
    torch.testing.assert_close(by_rows[1], apart, rtol=1e-9, atol=1e-9)


def test_native_code(reactor):
    """The steps and the gradient of the torch engine, with all kinds of rates."""
    pytest.importorskip("numba")
    y0 = reactor.initial(*HOT)
    found = []
    for backend in ("torch", "native"):
        for parameter in reactor.parameters():
            parameter.grad = None
        options = {"method": "rodas5p", "rtol": 1e-4, "atol": 1e-8, "backend": backend}
        solution = solve(reactor, y0, (0.0, 1e-7), **options)
        (solution.y[-1] / y0).sum().backward()
        gradients = [parameter.grad.clone() for parameter in reactor.parameters()]
        found.append((solution.y.detach(), solution.stats.accepted, gradients))
    (y, steps, gradients), (native_y, native_steps, native_gradients) = found
    assert native_steps == steps
    torch.testing.assert_close(native_y, y, rtol=1e-9, atol=1e-12)
    for native, expected in zip(native_gradients, gradients, strict=True):
        size = float(expected.abs().max())
        torch.testing.assert_close(native, expected, rtol=1e-6, atol=1e-7 * size)


def test_rows(reactor):
    """Each row of a batch is a gas of its own."""
    starts = reactor.initial(tensor(1100.0, 1350.0), tensor(1e5, 4e5), HOT[2])
    options = {"method": "fbdf", "rtol": 1e-6, "atol": 1e-11}
    rows = solve(reactor, starts, (0.0, 1e-6), batched=True, **options).y[-1]
    apart = [solve(reactor, start, (0.0, 1e-6), **options).y[-1] for start in starts]
    torch.testing.assert_close(rows, torch.stack(apart), rtol=1e-4, atol=1e-8)


def test_a_given_slope():
    """The derivative in x is the slope, also of second order; others pass through the value."""
    x = tensor(0.7).requires_grad_()
    a = tensor(1.0, 2.0, 3.0).requires_grad_()

    def f(x, a):
        return with_slope(x, a * x.detach().sin(), a * x.cos())

    assert torch.autograd.gradcheck(lambda x: f(x, a).sum(), (x,), check_forward_ad=False)
    (slope,) = torch.autograd.grad(f(x, a).sum(), x, create_graph=True)
    torch.testing.assert_close(slope, a.sum() * x.cos())
    (second,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(second, -a.sum() * x.sin())
    (of_a,) = torch.autograd.grad(f(x, a).sum(), a)
    torch.testing.assert_close(of_a, x.sin().expand(3))
