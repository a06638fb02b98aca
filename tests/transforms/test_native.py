"""torch.func's transforms of native solves give what they give with the torch engine."""

import pytest
import torch
from torch.autograd import forward_ad

from pynode import solve
from tests.support.cases import Forced, tensor

pytest.importorskip("numba")
pytest.importorskip("llvmlite")

TIMES = [0.0, 0.3, 1.0]
METHODS = ["Tsit5", "Rodas5P", "Kvaerno5", "FBDF"]
Y0 = tensor(1.0, 0.5)
RATES = tensor(1.0, 0.7)


def field(t, y, k):
    return torch.stack((-k[0] * y[0] + y[1] * t, k[1] * y[0] ** 2 - y[1]))


def outputs(backend, method="Rodas5P"):
    """(k, y0) -> the states at TIMES."""

    def run(k, y0):
        return solve(
            field, y0, TIMES, args=(k,), method=method, backend=backend, rtol=1e-6, atol=1e-8
        ).y

    return run


def tangent(run):
    return torch.func.jvp(run, (RATES, Y0), (tensor(1.0, -0.5), tensor(0.3, 0.1)))[1]


def scalar(run):
    return lambda k: (run(k, Y0) ** 2).sum()


FIRST = {
    "jvp": tangent,
    "jacfwd": lambda run: torch.func.jacfwd(run)(RATES, Y0),
    "jacrev": lambda run: torch.func.jacrev(run)(RATES, Y0),
    "vmap": lambda run: torch.func.vmap(run, in_dims=(None, 0))(RATES, torch.stack((Y0, 2 * Y0))),
}
SECOND = {
    "hessian": lambda run: torch.func.hessian(scalar(run))(RATES),
    "jacrev of jacrev": lambda run: torch.func.jacrev(torch.func.jacrev(scalar(run)))(RATES),
    "jacrev of jacfwd": lambda run: torch.func.jacrev(torch.func.jacfwd(scalar(run)))(RATES),
    "functional": lambda run: torch.autograd.functional.hessian(scalar(run), RATES),
}


def assert_same(found, expected):
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FIRST)
def test_first_derivatives(name, method):
    assert_same(*(FIRST[name](outputs(backend, method)) for backend in ("native", "torch")))


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(name):
    assert_same(*(SECOND[name](outputs(backend)) for backend in ("native", "torch")))


def test_forward_mode_of_autograd():
    found = []
    for backend in ("native", "torch"):
        with forward_ad.dual_level():
            rates = forward_ad.make_dual(RATES, tensor(1.0, 2.0))
            found.append(forward_ad.unpack_dual(outputs(backend)(rates, Y0)).tangent)
    assert_same(*found)


class Model(torch.nn.Module):
    """A model that solves its field."""

    def __init__(self, backend):
        super().__init__()
        self.field = Forced(2)
        self.backend = backend

    def forward(self, y0):
        return solve(self.field, y0, TIMES, method="Rodas5P", backend=self.backend).y


def test_parameters_of_a_module():
    found = []
    for backend in ("native", "torch"):
        model = Model(backend)
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        along = {name: torch.ones_like(p) for name, p in parameters.items()}

        def run(held, model=model):
            return torch.func.functional_call(model, held, (Y0,))

        found.append(torch.func.jvp(run, (parameters,), (along,))[1])
    assert_same(*found)


def test_times_have_no_tangents():
    times = tensor(0.0, 1.0)
    with pytest.raises(ValueError, match="times have no derivatives in forward mode"):
        torch.func.jvp(
            lambda t: solve(lambda s, y: -y, Y0, t, method="Tsit5", backend="native").y,
            (times,),
            (torch.ones_like(times),),
        )
