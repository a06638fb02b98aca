"""Forward mode outside of torch.func: torch.autograd.forward_ad and what torch.autograd.functional
makes of it."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from pynode import odeint, odeint_adjoint, solve
from pynode.nn import NeuralODE
from pynode.sde import solve_sde
from tests.support.cases import tensor

METHODS = ["Tsit5", "FBDF", "Rodas5P", "Kvaerno5", "RadauIIA5"]
every_method = pytest.mark.parametrize("method", METHODS)


def made(method, **options):
    torch.manual_seed(0)
    return NeuralODE(
        nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)), method=method, **options
    ).double()


def tangent(run):
    """Of what run makes within a level of forward mode."""
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(run()).tangent


@every_method
def test_tangents_of_the_state_and_of_parameters(method):
    model, x, v = made(method), tensor(0.3, -0.7), tensor(1.0, 2.0)
    wanted = torch.autograd.functional.jacobian(model, x) @ v
    for leaf in (x, x.clone().requires_grad_()):
        found = tangent(lambda leaf=leaf: model(forward_ad.make_dual(leaf, v)))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.functional.jvp(model, x, v)[1], wanted, rtol=1e-9, atol=1e-12
    )
    jacobian = torch.autograd.functional.jacobian(model, x, vectorize=True, strategy="forward-mode")
    torch.testing.assert_close(jacobian @ v, wanted, rtol=1e-9, atol=1e-12)
    weight = model.field[0].weight.detach()

    def run():
        return torch.func.functional_call(
            model, {"field.0.weight": forward_ad.make_dual(weight, weight)}, (x,)
        )

    (by_weight,) = torch.autograd.functional.jacobian(
        lambda w: torch.func.functional_call(model, {"field.0.weight": w}, (x,)), (weight,)
    )
    torch.testing.assert_close(
        tangent(run), (by_weight * weight).sum((1, 2)), rtol=1e-9, atol=1e-12
    )


def test_tangents_of_arguments():
    k, x = tensor(0.5), tensor(1.0)
    found = tangent(
        lambda: solve(
            lambda t, y, k: -k * y,
            x,
            [0.0, 1.0],
            args=(forward_ad.make_dual(k, torch.ones_like(k)),),
        ).y[-1]
    )
    torch.testing.assert_close(found, -torch.exp(-k), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "run",
    [
        lambda f, x: odeint(f, x, tensor(0.0, 1.0))[-1],
        lambda f, x: odeint(f, x, tensor(0.0, 1.0), method="rk4", options={"step_size": 0.01})[-1],
        lambda f, x: odeint(f, x, tensor(0.0, 1.0), method="fbdf")[-1],
        lambda f, x: solve(f, x, [0.0, 1.0], adjoint="direct").y[-1],
        lambda f, x: solve_sde(f, lambda t, y: 0.0 * y, x[None], [0.0, 1.0], dt=1e-4).y[-1, 0],
        lambda f, x: solve_sde(
            f, lambda t, y: 0.0 * y, x[None], [0.0, 1.0], dt=1e-3, method="milstein"
        ).y[-1, 0],
        lambda f, x: solve_sde(
            f, lambda t, y: 0.0 * y, x[None], [0.0, 1.0], dt=1e-3, method="implicitem"
        ).y[-1, 0],
    ],
)
def test_of_everything_that_solves(run):
    x = tensor(1.0, 2.0)
    found = tangent(lambda: run(lambda t, y: -0.5 * y, forward_ad.make_dual(x, x)))
    torch.testing.assert_close(found, x * 0.6065306597, rtol=1e-3, atol=0)


def test_what_has_none_says_so():
    x, k = tensor(1.0), tensor(0.5)
    dual = forward_ad.make_dual

    def closing():
        hidden = dual(k, k)
        return solve(lambda t, y: -hidden * y, x, [0.0, 1.0]).y

    for words, run in (
        ("close over", closing),
        (
            "batched",
            lambda: solve(lambda t, y: -y, dual(x[None], x[None]), [0.0, 1.0], batched=True).y,
        ),
        ("dense", lambda: solve(lambda t, y: -y, dual(x, x), [0.0, 1.0], dense=True).y),
        ("times", lambda: solve(lambda t, y: -y, x, dual(tensor(0.0, 1.0), tensor(0.0, 1.0))).y),
        (
            "use odeint",
            lambda: odeint_adjoint(
                lambda t, y: -y, dual(x, x), tensor(0.0, 1.0), adjoint_params=()
            ),
        ),
    ):
        with (
            forward_ad.dual_level(),
            pytest.raises((ValueError, NotImplementedError, TypeError), match=words),
        ):
            run()


def test_a_level_without_tangents_changes_nothing():
    x = tensor(1.0).requires_grad_()
    with forward_ad.dual_level():
        solution = solve(lambda t, y: -y, x, [0.0, 1.0], dense=True)
    assert solution(0.5).requires_grad
