"""States of half precision: explicit methods run, and those that solve linear systems say what to
do."""

import pytest
import torch
from torch import nn

from pynode import odeint, solve
from pynode.sde import solve_sde

every_half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
LOOSE = {"rtol": 0.05, "atol": 0.05}


@every_half
@pytest.mark.parametrize("method", ["Tsit5", "auto", "Euler"])
@pytest.mark.parametrize("batched", [False, True])
def test_explicit_methods_run(method, batched, dtype):
    if batched and (method == "auto" or dtype == torch.bfloat16):
        return  # auto is a multistep method there, see below
    torch.manual_seed(0)
    net = nn.Linear(3, 3).to(dtype)
    wide = nn.Linear(3, 3)
    wide.load_state_dict(net.state_dict())
    fixed = {"step_size": 0.1} if method == "Euler" else {}

    def run(net, y0, **tolerances):
        y = solve(
            lambda t, y: net(y),
            y0,
            [0.0, 1.0],
            method=method,
            batched=batched,
            **tolerances,
            **fixed,
        ).y[-1]
        return y.detach().float(), torch.autograd.grad(y.float().sum(), net.weight)[0].float()

    found, wanted = (
        run(net, torch.ones(2, 3, dtype=dtype), **LOOSE),
        run(wide, torch.ones(2, 3), rtol=1e-4, atol=1e-4),
    )
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() < 0.2 * b.abs().max()


@every_half
@pytest.mark.parametrize(
    "method", ["FBDF", "QNDF", "Rodas5P", "Kvaerno5", "RadauIIA5", "AutoTsit5(Rodas5P())"]
)
@pytest.mark.parametrize("batched", [False, True])
def test_methods_that_solve_linear_systems_say_so(method, batched, dtype):
    if batched and method in ("RadauIIA5", "AutoTsit5(Rodas5P())"):
        return  # refused in any dtype
    with pytest.raises(TypeError, match=r"float\(\).*tsit5"):
        solve(
            lambda t, y: -y,
            torch.ones(2, 3, dtype=dtype),
            [0.0, 1.0],
            method=method,
            batched=batched,
            **LOOSE,
        )


@every_half
def test_the_other_doors(dtype):
    y0, t = torch.ones(3, dtype=dtype), torch.tensor([0.0, 1.0])
    for method in ("implicit_euler", "gl6", "kvaerno5"):
        with pytest.raises(TypeError, match="tsit5"):
            odeint(
                lambda t, y: -y,
                y0,
                t,
                method=method,
                options={"step_size": 0.5} if method != "kvaerno5" else None,
            )
    with pytest.raises(TypeError, match="'em'"):
        solve_sde(lambda t, y: -y, lambda t, y: y, y0, [0.0, 1.0], dt=0.1, method="implicitem")


def test_rows_of_bfloat16_are_refused():
    """Ten times the error allowed came of coefficients with three digits."""
    with pytest.raises(TypeError, match="leave out batched"):
        solve(
            lambda t, y: -y,
            torch.ones(2, 3, dtype=torch.bfloat16),
            [0.0, 1.0],
            method="Tsit5",
            batched=True,
            **LOOSE,
        )


@every_half
def test_auto_stays_explicit(dtype):
    found = solve(lambda t, y: -1e3 * y, torch.ones(3, dtype=dtype), [0.0, 0.01], **LOOSE)
    assert found.method == "Tsit5"
    assert "only explicit methods" in found.choice
