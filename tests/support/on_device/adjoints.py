"""Every adjoint, second derivatives, checkpoints, checks of gradients, transforms of torch.func."""

import pytest
import torch

from pynode import DiscreteAdjoint, check_gradients, solve
from pynode.adjoints import registry
from tests.support.cases import Forced
from tests.support.on_device import fixed, leaf, same

START = [1.0, -0.5, 0.3]
LOOSE = {"rtol": 1e-4, "atol": 1e-5}
FAMILIES = ["Tsit5", "Rodas5P", "Kvaerno5", "RadauIIA5", "QNDF", "FBDF", "AdamsPECE", "RKC"]


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
@pytest.mark.parametrize("adjoint", registry.names())
def test_adjoint(adjoint, method):
    def compute(device):
        f = Forced().to(device)
        y0 = leaf(START, device)
        y = solve(f, y0, [0.0, 0.4, 1.0], method=method, adjoint=adjoint, **LOOSE).y
        return [y, *torch.autograd.grad(y.square().sum(), [y0, *f.parameters()])]

    same(compute)


@pytest.mark.parametrize("method", FAMILIES)
def test_checkpoints(method):
    def compute(device):
        f = Forced().to(device)
        y0 = leaf(START, device)
        few = DiscreteAdjoint(checkpoints=3)
        y = solve(f, y0, [0.0, 0.4, 1.0], method=method, adjoint=few, **LOOSE).y
        return [y, *torch.autograd.grad(y.square().sum(), [y0, *f.parameters()])]

    same(compute)


@pytest.mark.parametrize("method", FAMILIES)
def test_second_derivatives(method):
    def compute(device):
        f = Forced().to(device)
        y0 = leaf(START, device)
        y = solve(f, y0, [0.0, 1.0], method=method, **LOOSE).y
        (first,) = torch.autograd.grad(y[-1].square().sum(), y0, create_graph=True)
        return [first, *torch.autograd.grad(first.square().sum(), [y0, *f.parameters()])]

    same(compute)


@pytest.mark.parametrize("method", ["Tsit5", "QNDF"])
@pytest.mark.parametrize("transform", ["grad", "jvp", "jacrev", "jacfwd", "vmap", "hessian"])
def test_transforms(method, transform):
    def compute(device):
        rate = fixed(0.7, device)

        def last(y0):
            return solve(
                lambda t, y: torch.sin(t) - rate * y * y, y0, [0.0, 1.0], method=method, **LOOSE
            ).y[-1]

        y0 = fixed(START, device)
        if transform == "grad":
            return [torch.func.grad(lambda y0: last(y0).sum())(y0)]
        if transform == "jvp":
            return list(torch.func.jvp(last, (y0,), (torch.ones_like(y0),)))
        if transform == "vmap":
            return [torch.func.vmap(last)(torch.stack((y0, 2 * y0)))]
        if transform == "hessian":
            return [torch.func.hessian(lambda y0: last(y0).sum())(y0)]
        return [getattr(torch.func, transform)(last)(y0)]

    same(compute)


def test_check_gradients():
    def compute(device):
        f = Forced().to(device)
        check = check_gradients(f, leaf(START, device), [0.0, 1.0], method="Tsit5", **LOOSE)
        return [fixed(float(check.ok), device)]

    same(compute)
