"""ForwardSensitivity equals the discrete adjoint to rounding: it is its transpose."""

import pytest
import torch

from pynode import solve
from pynode.methods import QNDF, registry
from tests.support.cases import METHODS, Forced, leaf, tensor
from tests.support.gradients import distance, weighted_gradients

SERVED = [name for name in METHODS if not registry.get(name).state_tensors]


@pytest.mark.parametrize("method", SERVED)
@pytest.mark.parametrize(
    "times", [(0.3, 0.5, 0.51, 1.1), (1.1, 1.0, 0.3)], ids=["forwards", "backwards"]
)
def test_equals_the_discrete_adjoint(method, times):
    """Several outputs in a step, and one at the end."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    inputs, options = (
        [y0, *f.parameters()],
        {"method": method, "rtol": 1e-2 if method == "Euler" else 1e-4, "atol": 1e-4},
    )
    found, solution = weighted_gradients(inputs, f, y0, times, "forward", **options)
    assert solution.adjoint == "ForwardSensitivity"
    assert (
        distance(found, weighted_gradients(inputs, f, y0, times, "discrete", **options)[0]) < 1e-11
    )


def test_many_cotangents_at_once():
    """is_grads_batched takes one product with the sensitivities, and gives the single gradients."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    inputs = [y0, *f.parameters()]
    y = solve(f, y0, tensor(0.0, 0.3, 1.1), method="fbdf", adjoint="forward").y
    rows = torch.randn(4, *y.shape, generator=torch.Generator().manual_seed(0)).to(y)
    found = torch.autograd.grad(y, inputs, rows, retain_graph=True, is_grads_batched=True)
    for i, row in enumerate(rows):
        single = torch.autograd.grad(y, inputs, row, retain_graph=True)
        assert distance([part[i] for part in found], single) < 1e-12


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_one_state(method):
    k, y0 = leaf(tensor(0.7)), leaf(tensor(1.0))
    f = lambda t, y: -k * y * y * torch.cos(t)  # noqa: E731
    found = [
        weighted_gradients([y0, k], f, y0, [0.0, 0.1, 0.5, 2.0], a, method=method, rtol=1e-4)[0]
        for a in ("forward", "discrete")
    ]
    assert distance(*found) < 1e-11


@pytest.mark.parametrize("method", ["QNDF", "Rodas5P"])
def test_mass_matrix(method):
    f, y0, mass = (
        Forced(),
        leaf(tensor(1.0, -0.5, 0.3)),
        tensor([2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 3.0]),
    )
    options = {"method": method, "mass": mass, "rtol": 1e-5}
    found = [
        weighted_gradients([y0, *f.parameters()], f, y0, [0.0, 0.4, 1.0], a, **options)[0]
        for a in ("forward", "discrete")
    ]
    assert distance(*found) < 1e-10


def test_many_gradients_cost_one_pass():
    """The sensitivities are kept with the solution: a full Jacobian of the outputs takes no more
    work than a row of it."""
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    solution = solve(f, y0, [0.0, 0.5, 1.0, 1.5], method="FBDF", adjoint="forward")
    torch.autograd.grad(solution.y[-1, 0], f.W, retain_graph=True)
    once = solution.stats.as_dict()
    for value in solution.y[1:].flatten():
        torch.autograd.grad(value, f.W, retain_graph=True)
    assert solution.stats.as_dict() == once and once["backward_nlu"] == once["accepted"]


def test_without_parameters_and_frozen_ones():
    f, y0 = Forced(), leaf(tensor(1.0, -0.5, 0.3))
    f.b.requires_grad_(False)
    f.unused = torch.nn.Parameter(tensor(1.0, 2.0))
    inputs = [y0, f.W, f.rate]
    found = [
        weighted_gradients(inputs, f, y0, [0.0, 1.0], a, method="Tsit5", rtol=1e-4)[0]
        for a in ("forward", "discrete")
    ]
    assert distance(*found) < 1e-11
    for method in ("Tsit5", "FBDF"):
        alone = [
            weighted_gradients([y0], lambda t, y: -y, y0, [0.0, 1.0], a, method=method)[0]
            for a in ("forward", "discrete")
        ]
        assert distance(*alone) < 1e-11


@pytest.mark.parametrize("method", ["Tsit5", "FBDF"])
def test_parameters_that_f_does_not_use(method):
    """Of those named, where f has others."""
    y0, named, other = leaf(tensor(1.0, -0.5)), leaf(tensor(1.0)), leaf(tensor(2.0))
    y = solve(
        lambda t, y: -other * y, y0, [0.0, 1.0], method=method, adjoint="forward", params=[named]
    ).y[-1]
    found = torch.autograd.grad(y.sum(), (y0, named))
    assert float(found[1]) == 0.0
    torch.testing.assert_close(found[0], torch.exp(tensor(-2.0, -2.0)), rtol=1e-4, atol=0)


def test_what_is_refused():
    y0 = leaf(tensor(1.0, 1.0))
    for method in ("AdamsPECE", "RKC"):
        with pytest.raises(ValueError, match=rf"does not support {method}.*discrete"):
            solve(lambda t, y: -y, y0, [0.0, 1.0], method=method, adjoint="forward")
    with pytest.raises(ValueError, match=r"does not support jacobian='krylov'.*discrete"):
        solve(lambda t, y: -y, y0, [0.0, 1.0], method=QNDF(jacobian="krylov"), adjoint="forward")
    many = torch.nn.Linear(50, 50).double()
    with pytest.raises(ValueError, match=r"columns.*discrete"):
        solve(
            lambda t, y: many(y),
            torch.ones(50).double(),
            [0.0, 1.0],
            method="Tsit5",
            adjoint="forward",
        )
